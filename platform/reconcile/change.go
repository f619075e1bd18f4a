package reconcile

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"golang.org/x/sync/errgroup"

	"roost/api/jsondiff"
	"roost/api/owlapi"
)

// maxCalls bounds the single calls that one claim makes at a time.
const maxCalls = 16

// changes pushes changes and deletions, each by a call of its own.
func (r *Reconciler) changes(ctx context.Context, rows []claimed) []result {
	results := make([]result, len(rows))
	var g errgroup.Group
	g.SetLimit(maxCalls)
	for i, row := range rows {
		g.Go(func() error {
			err := r.hold.Run("change", func() error { results[i] = r.pushOne(ctx, row); return nil })
			if err != nil {
				results[i] = result{row: row, verdict: unknown}
				r.cfg.Logger.ErrorContext(ctx, "cannot push change", slog.String("cvm_id", row.ID.String()), slog.Any("error", err))
			}
			return nil
		})
	}
	_ = g.Wait() // no call returns an error: each is a result
	return results
}

func (r *Reconciler) pushOne(ctx context.Context, row claimed) result {
	requestID := r.cfg.Minter.RequestID()
	ctx, cancel := context.WithTimeout(owlapi.WithRequestID(ctx, requestID), r.callTimeout())
	defer cancel()
	verb, push := "put", r.put
	if row.missing() == missingDeletion {
		verb, push = "delete", r.delete
	}
	res := push(ctx, row)
	r.metrics.pushes.WithLabelValues(verb, res.verdict.String()).Inc()
	r.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "push change", slog.String("verb", verb), slog.String("request_id", requestID),
		slog.String("cvm_id", row.ID.String()), slog.String("operation_id", row.OperationID),
		slog.Int64("generation", row.Generation), slog.String("outcome", res.verdict.String()))
	return res
}

func (r *Reconciler) delete(ctx context.Context, row claimed) result {
	err := r.cfg.Owl.DeleteCVM(ctx, row.ID)
	r.heard(0, err)
	if err == nil {
		return result{row: row, verdict: deletionConfirmed}
	}
	return failed(row, err, judgeDelete)
}

func (r *Reconciler) put(ctx context.Context, row claimed) result {
	if row.body == nil {
		r.cfg.Logger.LogAttrs(ctx, slog.LevelError, "the spec of a CVM is missing", slog.String("cvm_id", row.ID.String()))
		return result{row: row, verdict: unknown}
	}
	sent := row.putRequest()
	record, err := r.cfg.Owl.PutCVM(ctx, row.ID, sent)
	r.heard(0, err)
	if err != nil {
		return failed(row, err, judgePut)
	}
	same, err := sameState(record, sent)
	switch {
	case err != nil || record.Generation < sent.Generation:
		return result{row: row, verdict: unknown} // not an answer that the contract knows
	case same:
		return result{row: row, verdict: pushed, sent: sent.Generation}
	}
	r.cfg.Logger.LogAttrs(ctx, slog.LevelError, "Owl holds a change that this database does not know: pushing over it",
		slog.String("cvm_id", row.ID.String()), slog.Int64("owl_generation", record.Generation))
	return result{row: row, verdict: behind, theirs: record.Generation}
}

// sameState reports whether Owl's record is what was sent, specs compared as
// JSON, numbers by their digits.
func sameState(record owlapi.CVM, sent owlapi.PutCVM) (bool, error) {
	if record.Generation != sent.Generation || record.Power != sent.Power || !equal(record.Restart, sent.Restart) {
		return false, nil
	}
	theirs, err := jsondiff.Digests(record.Spec)
	if err != nil {
		return false, err
	}
	ours, err := jsondiff.Digests(sent.Spec)
	return len(jsondiff.Diff(theirs, ours)) == 0, err
}

func equal(a, b *string) bool { return a == b || a != nil && b != nil && *a == *b }

// failed is a call without a 2xx.
func failed(row claimed, err error, judge func(status int) verdict) result {
	answer, ok := errors.AsType[*owlapi.StatusError](err)
	if !ok {
		return result{row: row, verdict: unknown}
	}
	res := result{row: row, verdict: judge(answer.Status), after: answer.RetryAfter}
	if res.verdict == refused {
		failure := refusal(answer.Status, answer.Problem)
		res.failure, res.final = &failure, answer.Status == http.StatusGone
	}
	return res
}

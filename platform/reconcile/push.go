package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"log/slog"
	"net/http"
	"time"

	"roost/api"
	"roost/api/owlapi"
	"roost/models/bulkhead"
	"roost/models/faultpoint"
)

// maxBatchPayload leaves room for the brackets around a batch's items.
const maxBatchPayload = owlapi.MaxBatchBytes - 1<<10

// result is how the push of one row ended.
type result struct {
	row     claimed
	verdict verdict
	failure *api.ResourceError // of a refusal
	final   bool               // a refusal of the CVM, and not only of the generation that was sent
	sent    int64              // generation, of a change
	theirs  int64              // generation, of a row that is behind
	after   time.Duration      // Retry-After, of an unknown outcome
}

// push does for each claimed row the first thing that is missing. What a panic
// leaves undone waits out its lease.
func (r *Reconciler) push(ctx context.Context, rows []claimed) {
	if err := r.hold.Run("push", func() error { r.pushEach(ctx, rows); return nil }); err != nil {
		r.cfg.Logger.ErrorContext(ctx, "cannot push claimed rows", slog.Int("cvms", len(rows)),
			slog.String("first_cvm_id", rows[0].ID.String()), slog.Any("error", err))
	}
}

func (r *Reconciler) pushEach(ctx context.Context, rows []claimed) {
	missed := r.pace.missed()
	var creates, others []claimed
	for _, row := range rows {
		switch row.missing() {
		case missingNothing:
			r.watch.add(row.ID) // what is missing is only that we look
		case missingCreate:
			creates = append(creates, row)
		case missingChange, missingDeletion:
			others = append(others, row)
		}
	}
	for batch := range r.batches(ctx, creates) {
		r.keep(ctx, r.createOrSplit(ctx, batch))
	}
	r.keep(ctx, r.changes(ctx, others))
	r.pace.done(len(rows), missed)
}

// keep settles results and watches what Owl is now at.
func (r *Reconciler) keep(ctx context.Context, results []result) {
	if len(results) == 0 {
		return
	}
	err := bulkhead.Each(r.hold, "settle", results, cvmIDOf, func(part []result) error {
		return faultpoint.Step("platform.settle", func() error { return r.settle(ctx, part) })
	})
	if err != nil {
		// The rows stay claimed until the lease ends, and are then pushed
		// again, to be told the same.
		r.cfg.Logger.ErrorContext(ctx, "cannot settle results", slog.Int("cvms", len(results)),
			slog.String("first_cvm_id", results[0].row.ID.String()), slog.Any("error", err))
		return
	}
	for _, res := range results {
		switch res.verdict {
		case confirmed, pushed, deletionConfirmed:
			r.watch.add(res.row.ID)
		case unknown, alarmed, refused, behind, lost:
		}
	}
	r.Wake() // a change that was accepted meanwhile is due at once
}

func cvmIDOf(res result) string { return res.row.ID.String() }

// batch is rows and their encoded creates, in one order.
type batch struct {
	rows  []claimed
	items []json.RawMessage
	bytes int
}

// batches cuts rows so that each batch is one that Owl takes.
func (r *Reconciler) batches(ctx context.Context, rows []claimed) iter.Seq[batch] {
	return func(yield func(batch) bool) {
		var b batch
		for _, row := range rows {
			item, err := row.createRequest()
			if err != nil {
				// Stays due; the other rows must not wait for it.
				r.cfg.Logger.ErrorContext(ctx, "cannot encode create", slog.Any("error", err))
				continue
			}
			full := len(b.items) == owlapi.MaxBatchItems || b.bytes+len(item) > maxBatchPayload
			if full && len(b.items) > 0 {
				if !yield(b) {
					return
				}
				b = batch{}
			}
			b.rows, b.items, b.bytes = append(b.rows, row), append(b.items, item), b.bytes+len(item)+1
		}
		if len(b.items) > 0 {
			yield(b)
		}
	}
}

// createOrSplit sends one batch. If the batch itself is refused for good, or
// somebody panics over it, here or at Owl, one item may be to blame, and each
// half is sent alone, down to that one: only it suffers.
func (r *Reconciler) createOrSplit(ctx context.Context, b batch) (results []result) {
	err := r.hold.Run("create", func() (err error) {
		results, err = r.create(ctx, b)
		return err
	})
	if !blamesItem(err) {
		return results
	}
	if half := len(b.rows) / 2; half > 0 {
		return append(
			r.createOrSplit(ctx, batch{rows: b.rows[:half], items: b.items[:half]}),
			r.createOrSplit(ctx, batch{rows: b.rows[half:], items: b.items[half:]})...)
	}
	answer, answered := errors.AsType[*owlapi.StatusError](err)
	switch {
	case !answered: // a panic
		r.cfg.Logger.ErrorContext(ctx, "cannot push create", slog.String("cvm_id", b.rows[0].ID.String()), slog.Any("error", err))
		return []result{{row: b.rows[0], verdict: unknown}}
	case judgeCreate(answer.Status) == refused:
		failure := refusal(answer.Status, answer.Problem)
		return []result{{row: b.rows[0], verdict: refused, failure: &failure, final: true}}
	}
	return results
}

// blamesItem reports whether a call about several failed in a way that one of
// them may have caused.
func blamesItem(err error) bool {
	answer, answered := errors.AsType[*owlapi.StatusError](err)
	return bulkhead.IsPanic(err) ||
		answered && (judgeCreate(answer.Status) == refused || answer.Status == http.StatusInternalServerError)
}

// create sends one batch and judges each answer. The error is the call's.
func (r *Reconciler) create(ctx context.Context, b batch) ([]result, error) {
	requestID := r.cfg.Minter.RequestID()
	ctx, cancel := context.WithTimeout(owlapi.WithRequestID(ctx, requestID), r.callTimeout())
	defer cancel()
	answers, err := r.cfg.Owl.CreateCVMs(ctx, b.items)
	r.heard(len(b.items), err)
	results := make([]result, len(b.rows))
	for i, row := range b.rows {
		if err != nil {
			results[i] = failedCall(row, err)
		} else {
			results[i] = r.judged(ctx, row, answers[i])
		}
		r.metrics.pushes.WithLabelValues("create", results[i].verdict.String()).Inc()
	}
	r.logPush(ctx, requestID, results, err)
	return results, err
}

// heard is told how a call to Owl ended: a batch of n rows, or 0 for a single
// one.
func (r *Reconciler) heard(n int, err error) {
	r.silence.heard(err)
	r.pace.heard(n, err)
}

// logPush is the line that ties the requests of Owl's log to Platform's.
func (r *Reconciler) logPush(ctx context.Context, requestID string, results []result, err error) {
	attrs := []slog.Attr{
		slog.String("request_id", requestID), slog.Int("cvms", len(results)),
		slog.String("first_cvm_id", results[0].row.ID.String()),
		slog.String("first_operation_id", results[0].row.CreateOperationID),
		slog.String("outcome", results[0].verdict.String()),
	}
	level := slog.LevelInfo
	if err != nil {
		level, attrs = slog.LevelWarn, append(attrs, slog.Any("error", err))
	}
	r.cfg.Logger.LogAttrs(ctx, level, "push creates", attrs...)
}

// failedCall is an item of a batch that had no answer of its own. The status
// speaks of the call, so it refuses no item; see createOrSplit.
func failedCall(row claimed, err error) result {
	res := result{row: row, verdict: unknown}
	if answer, ok := errors.AsType[*owlapi.StatusError](err); ok {
		res.after = answer.RetryAfter
		if judgeCreate(answer.Status) == alarmed {
			res.verdict = alarmed
		}
	}
	return res
}

func (r *Reconciler) judged(ctx context.Context, row claimed, answer owlapi.BatchItem) result {
	res := result{row: row, verdict: judgeCreate(answer.Status)}
	_, _, err := answer.Decode()
	if res.verdict == confirmed && err != nil {
		res.verdict = unknown // a torn record confirms nothing
	}
	if problem, ok := errors.AsType[*owlapi.StatusError](err); ok && res.verdict == refused {
		failure := refusal(answer.Status, problem.Problem)
		res.failure, res.final = &failure, true
		r.cfg.Logger.ErrorContext(ctx, "create refused for good", slog.String("cvm_id", row.ID.String()),
			slog.Int("status", answer.Status), slog.String("error_code", failure.Code))
	}
	return res
}

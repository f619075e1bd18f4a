package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"gorm.io/gorm"

	"roost/api"
	"roost/models/faultpoint"
	"roost/models/pg"
	"roost/platform/idempotency"
)

const (
	// acceptTimeout bounds a request's work from its first statement on,
	// whatever its client does.
	acceptTimeout = 10 * time.Second
	// maxRuns bounds how often a transaction runs whose COMMIT was not answered.
	maxRuns = 8
	// runPause is by how much the pause between two of them grows. The first
	// repeat is immediate; a server that restarts takes seconds.
	runPause = 250 * time.Millisecond
	// retryAfter is what a 503 asks for.
	retryAfter = time.Second
)

// plan is one mutation. Whatever it mints is minted before it runs: it may
// run more than once.
type plan struct {
	// members makes the request's fingerprint. It is asked for with a key only.
	members func() (map[string]string, error)
	// expected is the result where nothing unusual happens.
	expected idempotency.Result
	// natural says that repeating the call without a key is safe.
	natural bool
	// work does it. again is true when an earlier run may have committed.
	work func(tx *gorm.DB, again bool) (done, error)
	// show reads what a result names, as it is now. Echo calls have none.
	show func(tx *gorm.DB, r idempotency.Result) (any, error)
}

// done is how work ended.
type done struct {
	result idempotency.Result
	// original is the request whose result this is, when work found that it
	// had been done before (by name, not by key).
	original string
}

// accept runs a plan: see the package comment. Its errors are *api.Error
// except for those that are nobody's fault but ours.
func (f *Fleet) accept(ctx context.Context, call Call, p plan) (Answer, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), acceptTimeout)
	defer cancel()
	req, err := call.request(p)
	if err != nil {
		return Answer{}, err
	}
	wait, leave, err := f.enter(ctx, call)
	if err != nil {
		return Answer{}, err
	}
	defer leave()

	answer, err := f.runUntilKnown(ctx, call, func(tx *gorm.DB, again bool) (Answer, error) {
		return f.attempt(tx, req, p, attempt{again: again, wait: wait})
	})
	if err != nil {
		return Answer{}, refusal(err, call.Key != "" || p.natural)
	}
	if !answer.Replayed {
		f.cfg.Accepted()
	}
	return answer, nil
}

// runUntilKnown runs a transaction, and runs it again while an earlier run of
// it may have been committed. From the first COMMIT without an answer on, only
// two things end the doubt: a run that commits, and a refusal that was decided
// under the locks which the earlier run held. A database that is away does not.
func (f *Fleet) runUntilKnown(
	ctx context.Context, call Call, run func(tx *gorm.DB, again bool) (Answer, error),
) (answer Answer, err error) {
	var doubt error
	again := false
	for n := range maxRuns {
		err = faultpoint.Step("platform.accept", func() error {
			defer func() { again = true }()
			return pg.InTx(ctx, f.db, func(tx *gorm.DB) (err error) {
				answer, err = run(tx, again)
				faultpoint.Hit("platform.accept.commit")
				return err
			})
		})
		if errors.Is(err, pg.ErrCommitUnknown) {
			doubt = err
		}
		if doubt == nil || err == nil || definite(err) {
			return answer, err
		}
		f.cfg.Logger.WarnContext(ctx, "commit unknown: running the same transaction again",
			slog.String("request_id", call.RequestID), slog.Int("run", n+1), slog.Any("error", err))
		if !pause(ctx, time.Duration(n)*runPause) {
			break
		}
	}
	return Answer{}, doubt
}

// definite reports whether err is a refusal that says something about the
// request, rather than about the database or another request.
func definite(err error) bool {
	coded, ok := errors.AsType[*api.Error](err)
	return ok && !coded.Code.Retryable()
}

// request is what the call's key is to be bound to; without a key, nothing.
func (c Call) request(p plan) (idempotency.Request, error) {
	if c.Key == "" {
		return idempotency.Request{}, nil
	}
	members, err := p.members()
	return idempotency.Request{
		Workspace: c.Workspace, Key: c.Key, Method: c.Method, Route: c.Route,
		Path: c.Path, Members: members, RequestID: c.RequestID,
	}, err
}

// enter passes the key's gate and returns what is left of the wait.
func (f *Fleet) enter(ctx context.Context, call Call) (wait time.Duration, leave func(), err error) {
	if call.Key == "" {
		return 0, func() {}, nil
	}
	start := time.Now()
	leave, err = f.gate.Enter(ctx, call.Workspace, call.Key, f.cfg.KeyWait)
	return max(f.cfg.KeyWait-time.Since(start), 0), leave, err
}

type attempt struct {
	again bool
	wait  time.Duration
}

// attempt is the inside of the transaction.
func (f *Fleet) attempt(tx *gorm.DB, req idempotency.Request, p plan, a attempt) (Answer, error) {
	if req.Key == "" {
		d, err := p.work(tx, a.again)
		if err != nil {
			return Answer{}, err
		}
		return p.answer(tx, d)
	}
	bound, mine, err := f.keys.Claim(tx, req, p.expected, a.wait)
	if err != nil {
		return Answer{}, err
	}
	d := done{result: bound.Result}
	if mine {
		if d, err = f.fulfil(tx, req, p, a.again); err != nil {
			return Answer{}, err
		}
	} else if bound.RequestID != req.RequestID {
		d.original = bound.RequestID
	} // else an earlier run of this very request has committed: its first answer
	answer, err := p.answer(tx, d)
	answer.KeyExpiresAt = &bound.ExpiresAt
	return answer, err
}

// fulfil does the work under a claimed key and keeps its result there.
func (f *Fleet) fulfil(tx *gorm.DB, req idempotency.Request, p plan, again bool) (done, error) {
	d, err := p.work(tx, again)
	if err != nil || d.result.Equal(p.expected) {
		return d, err
	}
	return d, f.keys.Rebind(tx, req, d.result)
}

func (p plan) answer(tx *gorm.DB, d done) (Answer, error) {
	a := Answer{
		Status: d.result.Status, Body: d.result.Body,
		Replayed: d.original != "", OriginalRequestID: d.original,
	}
	if p.show == nil {
		return a, nil
	}
	var err error
	a.Value, err = p.show(tx, d.result)
	return a, err
}

// refusal turns what the database did into what a client can act on.
func refusal(err error, repeatable bool) error {
	if _, ok := errors.AsType[*api.Error](err); ok {
		return err
	}
	if errors.Is(err, pg.ErrCommitUnknown) {
		e := &api.Error{Code: api.CodeUnavailable, RetryAfter: retryAfter, Err: err, NotRetryable: !repeatable}
		e.Detail = "the database did not say whether this was accepted. Send the same request again: it is done at most once."
		if !repeatable {
			e.Detail = "the database did not say whether this was accepted, and without an Idempotency-Key a repeat " +
				"could do it twice: look at the list first."
		}
		return e
	}
	if pg.IsTransient(err) {
		return &api.Error{
			Code: api.CodeUnavailable, RetryAfter: retryAfter, Err: err,
			Detail: "the database cannot take this now. Nothing was done: send the same request again.",
		}
	}
	return fmt.Errorf("accept: %w", err)
}

// pause waits for d and reports whether there is still time to go on.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"roost/api"
)

// call is one logical call: what every attempt of it sends.
type call struct {
	method string
	path   string // below /api/v1, escaped
	query  url.Values
	body   []byte // nil: none; the same bytes on every attempt
	key    string // "": none
	retry  Retry
	wait   time.Duration // how long the server may hold its answer

	decode func([]byte) error // reads a 2xx body; its error makes the answer a torn one
	gone   func(api.Problem)  // not nil: to hear that it is deleted is a success
}

func (c call) mutates() bool { return c.method != http.MethodGet }

// run makes attempts until one is answered for good.
//
// The deadline is the earlier of the caller's and the policy's. That of the
// caller ends an attempt under way at once, as a cancellation does.
func (c *Client) run(parent context.Context, cl call) (exchange, error) {
	ctx := parent
	if cl.retry.Deadline > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(parent, cl.retry.Deadline, ErrDeadline)
		defer cancel()
	}
	r := &run{client: c, call: cl}
	for {
		if ctx.Err() != nil {
			return exchange{}, r.fail(stopped(ctx))
		}
		x := c.attempt(ctx, cl, r.last.attempt+1)
		r.see(x)
		switch {
		case x.verdict == done:
			return x, nil
		case cl.gone != nil && x.status == http.StatusGone && x.problem.ErrorCode == api.CodeResourceDeleted:
			cl.gone(x.problem)
			return x, nil
		case x.verdict == final:
			return x, r.fail(nil)
		case ctx.Err() != nil:
			return x, r.fail(stopped(ctx))
		}
		if err := r.rest(ctx); err != nil {
			return x, r.fail(err)
		}
	}
}

// run is what a call has seen so far.
type run struct {
	client     *Client
	call       call
	last       exchange
	unanswered int // attempts before the last one that may have been done
}

func (r *run) see(x exchange) {
	if r.last.attempt > 0 && !r.last.notDone {
		r.unanswered++
	}
	r.last = x
}

// rest waits until the next attempt is due, or says why there is none. It does
// not sleep only to find that the time is up.
func (r *run) rest(ctx context.Context) error {
	if r.call.retry.MaxAttempts > 0 && r.last.attempt >= r.call.retry.MaxAttempts {
		return ErrAttempts
	}
	now := time.Now()
	pause := r.call.retry.pause(r.last.attempt, r.last.retryAfter)
	deadline, bounded := ctx.Deadline()
	if bounded && now.Add(pause).After(deadline) {
		return ErrDeadline
	}
	turn := r.client.budget.ReserveN(now, 1)
	delay := turn.DelayFrom(now)
	if bounded && now.Add(delay).After(deadline) {
		turn.CancelAt(now)
		return ErrBudget
	}
	return sleep(ctx, max(pause, delay))
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return stopped(ctx)
	case <-timer.C:
		return nil
	}
}

// fail makes the call's error out of its last answer and the reason why there
// is no further attempt; nil: the answer is a refusal, or cannot be helped.
func (r *run) fail(reason error) *Error {
	x := r.last
	return &Error{
		Method: r.call.method, Path: r.call.path, IdempotencyKey: r.call.key, Attempts: x.attempt,
		Status: x.status, Code: x.problem.ErrorCode, Title: x.problem.Title, Detail: x.problem.Detail,
		Fields: x.problem.Errors, RequestID: x.requestID, RetryAfter: x.retryAfter,
		AppID: x.problem.AppID, VMUUID: x.problem.VMUUID, DeletedAt: x.problem.DeletedAt,
		KeyExpiresAt: x.keyExpiresAt(),
		Retryable:    x.verdict != final, Outcome: r.outcome(), Err: join(reason, x.err),
	}
}

// stopped is the end of a context as errors.Is knows it, and its cause.
func stopped(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) {
		return cause
	}
	return fmt.Errorf("%w: %w", err, cause)
}

func ofContext(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// join says why there is no further attempt, and what became of the last one
// unless that is the same thing.
func join(reason, err error) error {
	switch {
	case reason == nil:
		return err
	case err == nil || ofContext(reason) && ofContext(err):
		return reason
	}
	return fmt.Errorf("%w: %w", reason, err)
}

// outcome is not done only if no attempt can have been, or if the last answer
// excludes it: the server looks the key up before it says that a resource is
// gone or that the key is another request's, and neither ever changes.
func (r *run) outcome() Outcome {
	x := r.last
	excluded := x.problem.ErrorCode == api.CodeResourceDeleted || x.problem.ErrorCode == api.CodeIdempotencyKeyReused
	if !r.call.mutates() || x.attempt == 0 || x.notDone && (r.unanswered == 0 || excluded) {
		return OutcomeNotDone
	}
	return OutcomeUnknown
}

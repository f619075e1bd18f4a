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

// A waiter asks the server to hold its answer until the operation ends, first
// for minPoll, then for twice as long each time: what changes early is seen
// early, and what takes long costs little. Many gateways give an answer up after
// 30 s.
const (
	minPoll = time.Second
	maxPoll = 25 * time.Second
)

// OperationError is an operation that ended otherwise than succeeded.
type OperationError struct{ Operation api.Operation }

// Error implements error.
func (e *OperationError) Error() string {
	return fmt.Sprintf("operation %s (%s) %s%s", e.Operation.ID, e.Operation.Kind, e.Operation.Status, because(e.Operation.Error))
}

// CVMError is a CVM that will not become by itself what was waited for.
type CVMError struct{ CVM api.CVM }

// Error implements error.
func (e *CVMError) Error() string {
	return fmt.Sprintf("CVM %s is %s%s", e.CVM.VMUUID, e.CVM.Status, because(e.CVM.Error))
}

func because(e *api.ResourceError) string {
	switch {
	case e == nil:
		return ""
	case e.SupersededBy != "":
		return fmt.Sprintf(": %s by %s: %s", e.Code, e.SupersededBy, e.Message)
	}
	return fmt.Sprintf(": %s: %s", e.Code, e.Message)
}

// WaitOperation holds until the operation has ended, through network errors
// and outages of the server for as long as ctx lets it. An operation that ended
// failed or canceled is an *OperationError. progress, if not nil, is called
// with the first answer and whenever one differs from the answer before.
//
// When ctx ends first, the operation as it was last seen comes with the error.
func (c *Client) WaitOperation(ctx context.Context, id string, progress func(api.Operation)) (api.Operation, error) {
	var last api.Operation
	p := poll{client: c}
	for {
		op, err := p.operation(ctx, id)
		if err != nil {
			return last, err
		}
		if progress != nil && (op.Status != last.Status || op.Attempts != last.Attempts || !op.UpdatedAt.Equal(last.UpdatedAt.Time)) {
			progress(op)
		}
		last = op
		switch op.Status {
		case api.OperationSucceeded:
			return op, nil
		case api.OperationFailed, api.OperationCanceled:
			return op, &OperationError{Operation: op}
		case api.OperationPending, api.OperationRunning:
		}
	}
}

// Settled reports whether a CVM is what it is asked to be.
func Settled(cvm api.CVM) bool { return !cvm.InProgress && cvm.Status != api.StatusFailed }

// Reached is a goal of WaitCVM: the CVM has this status and is not on its way
// to another.
func Reached(status api.Status) func(api.CVM) bool {
	return func(cvm api.CVM) bool { return cvm.Status == status && !cvm.InProgress }
}

// WaitCVM holds until a CVM is as until wants it (Settled, Reached(…) or one's
// own; nil is Settled), through network errors and outages as WaitOperation. A
// CVM that has failed, or that is gone, is a *CVMError unless until wants that.
// progress, if not nil, is called with the first answer and each that differs.
//
// When ctx ends first, the CVM as it was last seen comes with the error.
func (c *Client) WaitCVM(
	ctx context.Context, id api.ID, until func(api.CVM) bool, progress func(api.CVM),
) (api.CVM, error) {
	if until == nil {
		until = Settled
	}
	last := api.CVM{VMUUID: id, ID: id}
	p := poll{client: c}
	for {
		cvm, err := p.cvm(ctx, last)
		if err != nil {
			return last, err
		}
		if progress != nil && (cvm.Status != last.Status || !cvm.UpdatedAt.Equal(last.UpdatedAt.Time)) {
			progress(cvm)
		}
		last = cvm
		if until(cvm) {
			return cvm, nil
		}
		if cvm.Status == api.StatusDeleted || cvm.Status == api.StatusFailed && !cvm.InProgress {
			return cvm, &CVMError{CVM: cvm}
		}
		if err := p.untilChange(ctx, cvm); err != nil {
			return last, err
		}
	}
}

// poll paces a waiter's questions.
type poll struct {
	client *Client
	wait   time.Duration // of the question before; 0: there was none
}

// operation asks for an answer that the server holds until the operation ends,
// but for the first one, which shows how it is now.
func (p *poll) operation(ctx context.Context, id string) (api.Operation, error) {
	cl := call{path: path("/operations/%s", id), retry: p.patient(), wait: p.wait}
	if p.wait > 0 {
		cl.query = url.Values{"wait": {p.wait.String()}}
	}
	began := time.Now()
	op, err := read[api.Operation](ctx, p.client, cl)
	if err == nil && !op.Status.Ended() {
		// A server that does not hold its answer must not be asked in a circle.
		err = p.sleep(ctx, cl.path, min(p.wait, minPoll)-time.Since(began))
	}
	p.wait = min(max(minPoll, 2*p.wait), maxPoll)
	if timeout := p.client.http.Timeout; timeout > 0 {
		p.wait = min(p.wait, timeout/2) // else the HTTP client would cut every poll
	}
	return op, err
}

// patient is the policy of a waiter: its context alone ends it.
func (p *poll) patient() Retry {
	r := p.client.retry
	r.Deadline, r.MaxAttempts = -1, 0
	return r
}

// cvm reads the CVM; one that is gone is the last one seen, deleted.
func (p *poll) cvm(ctx context.Context, last api.CVM) (api.CVM, error) {
	cvm, err := read[api.CVM](ctx, p.client, call{path: path("/cvms/%s", last.VMUUID.String()), retry: p.patient()})
	if e, ok := errors.AsType[*Error](err); ok && e.Code == api.CodeResourceDeleted {
		last.Status, last.InProgress, last.Progress, last.DeletedAt = api.StatusDeleted, false, api.Progress{}, e.DeletedAt
		return last, nil
	}
	return cvm, err
}

// untilChange holds while the CVM's operation is under way, or for a moment if
// it has none that is.
func (p *poll) untilChange(ctx context.Context, cvm api.CVM) error {
	if cvm.Operation != nil && !cvm.Operation.Status.Ended() {
		p.wait = max(p.wait, minPoll) // how it is now, the CVM has shown
		if _, err := p.operation(ctx, cvm.Operation.ID); !IsNotFound(err) {
			return err
		}
	}
	return p.sleep(ctx, path("/cvms/%s", cvm.VMUUID.String()), minPoll/2+jitter(minPoll/2))
}

func (p *poll) sleep(ctx context.Context, asked string, d time.Duration) error {
	if err := sleep(ctx, d); err != nil {
		return &Error{Method: http.MethodGet, Path: asked, Outcome: OutcomeNotDone, Retryable: true, Err: err}
	}
	return nil
}

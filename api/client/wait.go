package client

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"roost/api"
)

// Limits of waiters.
const (
	longPoll     = 30 * time.Second // that a server is asked to hold its answer
	pollInterval = time.Second      // where there is nothing to hold an answer for
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
	for {
		op, err := c.pollOperation(ctx, id)
		if err != nil {
			return last, err
		}
		if progress != nil && (op.Status != last.Status || op.UpdatedAt != last.UpdatedAt || op.Attempts != last.Attempts) {
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

// pollOperation asks once, for as long as ctx lives, for an answer that the
// server holds until the operation ends.
func (c *Client) pollOperation(ctx context.Context, id string) (api.Operation, error) {
	wait := longPoll
	if c.http.Timeout > 0 {
		wait = min(wait, c.http.Timeout/2) // else the client itself would cut every poll
	}
	return read[api.Operation](ctx, c, call{
		path: path("/operations/%s", id), query: url.Values{"wait": {wait.String()}}, wait: wait, retry: c.patient(),
	})
}

// patient is the policy of a waiter: its context alone ends it.
func (c *Client) patient() Retry {
	r := c.retry
	r.Deadline, r.MaxAttempts = -1, 0
	return r
}

// Settled reports whether a CVM is what it is asked to be, or has failed.
func Settled(cvm api.CVM) bool { return !cvm.InProgress }

// Reached is a goal of WaitCVM: the CVM has this status and is not on its way
// to another.
func Reached(status api.Status) func(api.CVM) bool {
	return func(cvm api.CVM) bool { return cvm.Status == status && !cvm.InProgress }
}

// WaitCVM holds until a CVM is as until wants it (Settled, Reached(…) or one's
// own; nil is Settled), through network errors and outages as WaitOperation. A
// CVM that has failed, or that is gone, is a *CVMError unless until wants that.
// progress, if not nil, is called with the first answer and each that differs.
func (c *Client) WaitCVM(
	ctx context.Context, id api.ID, until func(api.CVM) bool, progress func(api.CVM),
) (api.CVM, error) {
	if until == nil {
		until = Settled
	}
	last := api.CVM{VMUUID: id, ID: id}
	for {
		cvm, err := c.pollCVM(ctx, id, last)
		if err != nil {
			return last, err
		}
		if progress != nil && (cvm.Status != last.Status || cvm.UpdatedAt != last.UpdatedAt) {
			progress(cvm)
		}
		last = cvm
		if until(cvm) {
			return cvm, nil
		}
		if cvm.Status == api.StatusDeleted || cvm.Status == api.StatusFailed && !cvm.InProgress {
			return cvm, &CVMError{CVM: cvm}
		}
		if err := c.untilChange(ctx, cvm); err != nil {
			return last, err
		}
	}
}

// pollCVM reads the CVM; one that is gone is the last one seen, deleted.
func (c *Client) pollCVM(ctx context.Context, id api.ID, last api.CVM) (api.CVM, error) {
	cvm, err := read[api.CVM](ctx, c, call{path: path("/cvms/%s", id.String()), retry: c.patient()})
	if e, ok := errors.AsType[*Error](err); ok && e.Code == api.CodeResourceDeleted {
		last.Status, last.InProgress, last.Progress, last.DeletedAt = api.StatusDeleted, false, api.Progress{}, e.DeletedAt
		return last, nil
	}
	return cvm, err
}

// untilChange holds while the CVM's operation is under way, or for a moment if
// it has none that is.
func (c *Client) untilChange(ctx context.Context, cvm api.CVM) error {
	if cvm.Operation != nil && !cvm.Operation.Status.Ended() {
		if _, err := c.pollOperation(ctx, cvm.Operation.ID); err != nil && !IsNotFound(err) {
			return err
		}
		return nil
	}
	if err := sleep(ctx, pollInterval/2+jitter(pollInterval/2)); err != nil {
		return &Error{Method: "GET", Path: path("/cvms/%s", cvm.VMUUID.String()), Outcome: OutcomeNotDone, Retryable: true, Err: err}
	}
	return nil
}

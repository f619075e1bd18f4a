package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"roost/api"
	"roost/api/client"
)

// unfinishedError is a wait that ended before what it waited for.
type unfinishedError struct {
	last string // what was waited for, as it was last seen
	next string // the command that waits on
	err  error
}

func (e *unfinishedError) Error() string {
	why := cause(e.err)
	switch {
	case errors.Is(e.err, context.Canceled):
		why = "interrupted"
	case errors.Is(e.err, errTimeout):
		why = "--timeout has passed"
	}
	return fmt.Sprintf("%s when the wait ended (%s). It goes on by itself; to wait on: %s", e.last, why, e.next)
}

func (e *unfinishedError) Unwrap() error { return e.err }

// await waits for a change's end and shows the thing as it is then, also when
// the operation has failed: its IDs are data.
func (s *session) await(c change, a accepted) error {
	op, waitErr := s.waitOperation(a.operation)
	if is[*unfinishedError](waitErr) {
		_ = s.print(a.view) // the IDs; the wait's error is the one that counts
		return s.failed(c, waitErr)
	}
	view, err := s.reread(a, op)
	if printErr := s.print(view); printErr != nil {
		return printErr
	}
	if waitErr != nil {
		return s.failed(c, waitErr)
	}
	return reading("read the result of: "+c.doing, err)
}

// reread is the thing as it is after the wait for op, or, where that cannot be
// read, as the answer showed it.
func (s *session) reread(a accepted, op api.Operation) (rendering, error) {
	var view rendering
	var err error
	switch {
	case a.cvms != nil:
		view, err = s.rereadCVMs(a.cvms.Items, op)
	case a.cvm != nil:
		view, err = s.rereadCVM(*a.cvm)
	default:
		return a.view, nil
	}
	if err != nil {
		return a.view, err
	}
	return view, nil
}

// waitOperation shows the progress while it lasts. An end that was not seen is
// an *unfinishedError, a bad one a *client.OperationError.
func (s *session) waitOperation(id string) (api.Operation, error) {
	line := s.progress()
	op, err := s.client.WaitOperation(s.ctx, id, func(op api.Operation) { line.set(operationLine(op)) })
	line.stop()
	return op, s.unfinished("op", id, string(op.Status), err)
}

// unfinished makes the error of a wait that saw no end; an end that was seen,
// bad or not, stays what it is.
func (s *session) unfinished(noun, id, last string, err error) error {
	ended := is[*client.OperationError](err) || is[*client.CVMError](err)
	if err == nil || ended || client.IsNotFound(err) || client.IsAuth(err) {
		return err
	}
	return &unfinishedError{
		last: id + " was " + first(last, "not seen yet"), err: err, next: s.otherCommand(noun, "get", id) + " --wait", // no ID begins with a dash
	}
}

func operationLine(op api.Operation) string {
	line := fmt.Sprintf("%s %s: %s", op.Kind, op.ID, op.Status)
	if op.Attempts > 1 && !op.Status.Ended() {
		line += fmt.Sprintf(" (attempt %d)", op.Attempts)
	}
	return line
}

// rereadCVM reads a CVM once more. Nobody can read one that is gone: it is
// shown as it last was, deleted.
func (s *session) rereadCVM(last api.CVM) (rendering, error) {
	cvm, err := s.client.CVM(s.ctx, last.VMUUID)
	if client.IsGone(err) {
		return showCVM(deleted(last)), nil
	}
	return showCVM(cvm), err //nolint:wrapcheck // the command says what it was doing
}

// rereadCVMs is rereadCVM for those of one app that an operation concerned.
func (s *session) rereadCVMs(last []api.CVM, op api.Operation) (rendering, error) {
	now, err := s.client.AppCVMs(s.ctx, op.AppID)
	if err != nil && !client.IsGone(err) {
		return rendering{}, err //nolint:wrapcheck // the command says what it was doing
	}
	items := make([]api.CVM, len(last))
	for i, cvm := range last {
		items[i] = deleted(cvm)
		if at := slices.IndexFunc(now, func(c api.CVM) bool { return c.VMUUID == cvm.VMUUID }); at >= 0 {
			items[i] = now[at]
		}
	}
	return showScaled(api.CVMs{Items: items, Operation: op}), nil
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"roost/api"
	"roost/api/client"
)

// The exit codes. They are part of the contract with scripts and never change.
const (
	exitOK          = 0
	exitOther       = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitConflict    = 4
	exitRateLimited = 5
	exitUnknown     = 6
	exitAuth        = 7
	exitFailed      = 8
	exitNotEnded    = 9
	exitInterrupted = 130 // what shells expect after Ctrl-C
)

// ExitCode is one row of the table in --help and in the README.
type ExitCode struct {
	Code    int
	Meaning string
}

// ExitCodes is the table.
func ExitCodes() []ExitCode {
	return []ExitCode{
		{exitOK, "done, also where it was done before (a replay, a delete of what is gone)"},
		{exitOther, "anything else, such as a server that cannot be reached; stderr says what it leaves behind"},
		{exitUsage, "the call is wrong: a flag, an argument, a file, or a value that the server refuses"},
		{exitNotFound, "no such thing, or it was deleted; key show: not bound"},
		{exitConflict, "the name is taken, the key was used for another request, or the state forbids it"},
		{exitRateLimited, "rate limited; nothing was done"},
		{exitUnknown, "outcome unknown: it may have been done; stderr has the command to repeat"},
		{exitAuth, "no token, or one that may not do this"},
		{exitFailed, "--wait: the operation ended failed or canceled"},
		{exitNotEnded, "--wait: accepted, but its end was not seen (timeout, Ctrl-C)"},
		{exitInterrupted, "interrupted before anything was done"},
	}
}

func exitTable() string {
	var b strings.Builder
	for _, row := range ExitCodes() {
		fmt.Fprintf(&b, "%5d  %s\n", row.Code, row.Meaning)
	}
	return b.String()
}

// usageError is a call that the command does not understand.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{text: fmt.Sprintf(format, args...)} }

// notFoundError is a name that nothing has.
type notFoundError struct{ text string }

func (e *notFoundError) Error() string { return e.text }

// authError is a call without a token.
type authError struct{ text string }

func (e *authError) Error() string { return e.text }

// exitCode maps an error. The order matters: a rate limit that follows a lost
// answer leaves the outcome unknown, and that is what a script must know.
func exitCode(err error) int {
	if code, ok := ownCode(err); ok {
		return code
	}
	switch {
	case client.IsUnknown(err):
		return exitUnknown
	case client.IsNotFound(err) && !client.HasCode(err, ""): // a 404 that is not Roost's own says nothing
		return exitNotFound
	case client.IsConflict(err), client.HasCode(err, api.CodeInvalidState):
		return exitConflict
	case client.IsRateLimited(err):
		return exitRateLimited
	case client.IsAuth(err):
		return exitAuth
	case client.IsInvalid(err):
		return exitUsage
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	}
	return exitOther
}

// ownCode maps the errors that are not a server's answer.
func ownCode(err error) (int, bool) {
	if err == nil {
		return exitOK, true
	}
	for _, kind := range []struct {
		is   bool
		code int
	}{
		{is[*usageError](err), exitUsage},
		{is[*notFoundError](err), exitNotFound},
		{is[*authError](err), exitAuth},
		{is[*unfinishedError](err), exitNotEnded},
		{is[*client.OperationError](err), exitFailed},
		{is[*client.CVMError](err), exitFailed},
	} {
		if kind.is {
			return kind.code, true
		}
	}
	return 0, false
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

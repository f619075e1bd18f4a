package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"roost/api"
)

// Outcome says what an Error leaves behind.
type Outcome string

// The outcomes.
const (
	// OutcomeNotDone means that the request was refused or never left, so nothing was
	// done and nothing will be. A read that failed is always this.
	OutcomeNotDone Outcome = "not_done"
	// OutcomeUnknown means that an attempt may have been received and its answer was
	// lost. The same call under the same key tells, whenever it is made within
	// the key's life; LookupKey tells without doing it.
	OutcomeUnknown Outcome = "unknown"
)

// Error is how a call failed. Every error of a method that makes requests is
// one, or wraps one, but for an *OperationError or *CVMError of a waiter.
type Error struct {
	Method, Path string // of the request, below /api/v1

	// What the last answer said; zero if there was none.
	Status     int // HTTP status; 0: no answer
	Code       api.Code
	Title      string
	Detail     string // what happened and what to do, for people
	Fields     []api.FieldError
	RequestID  string
	RetryAfter time.Duration
	AppID      *api.ID   // with APP_EXISTS
	VMUUID     *api.ID   // with APP_EXISTS
	DeletedAt  *api.Time // with RESOURCE_DELETED
	// KeyExpiresAt is set where the key is bound, if only to another request.
	KeyExpiresAt *time.Time

	// Retryable: the same call, under the same key, is safe to make again and
	// may end differently. False after a refusal, which stays one.
	Retryable bool
	Outcome   Outcome
	// IdempotencyKey is the key of every attempt; "" for reads and DELETE.
	IdempotencyKey string
	Attempts       int // that were made; 0: the request was not sent at all

	Err error // why there was no (whole) answer, or why no further attempt was made
}

// Error implements error: one line, for people.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: ", e.Method, e.Path)
	if e.Outcome == OutcomeUnknown {
		b.WriteString("outcome unknown: ")
	}
	b.WriteString(e.what())
	if e.RequestID != "" {
		fmt.Fprintf(&b, " (request %s)", e.RequestID)
	}
	if e.Outcome == OutcomeUnknown && e.IdempotencyKey != "" {
		fmt.Fprintf(&b, "; send it again with Idempotency-Key %s to learn it", e.IdempotencyKey)
	}
	return b.String()
}

// what is the answer and the cause, as far as there are any.
func (e *Error) what() string {
	var parts []string
	if e.Status != 0 {
		words := strings.TrimSpace(fmt.Sprintf("%d %s", e.Status, e.Code))
		if e.Code == "" {
			words = strings.TrimSpace(fmt.Sprintf("%d %s", e.Status, http.StatusText(e.Status)))
		}
		parts = append(parts, words)
	}
	if detail := strings.TrimSuffix(e.Detail, "."); detail != "" {
		parts = append(parts, detail)
	}
	if e.Code == api.CodeIdempotencyKeyReused && len(e.Fields) > 0 {
		parts = append(parts, e.differing())
	}
	if e.Err != nil {
		parts = append(parts, e.Err.Error())
	}
	return strings.Join(parts, ": ")
}

// differing says in what the request that the key is bound to was another one.
// The members of two calls do not compare.
func (e *Error) differing() string {
	names := make([]string, len(e.Fields))
	for i, f := range e.Fields {
		if f.Field == "path" || f.Field == "method" {
			return "that one was no " + e.Method + " " + e.Path
		}
		names[i] = f.Field
	}
	return "that one differs in " + strings.Join(names, ", ")
}

// Unwrap returns the network's or the context's error, if there was one.
func (e *Error) Unwrap() error { return e.Err }

// The reasons, beside the context's, for which a call that could be repeated
// was not. They are in an Error's chain.
var (
	// ErrDeadline means: Retry.Deadline or the context's deadline has passed, or
	// will have before the next attempt is due. It is a context.DeadlineExceeded.
	ErrDeadline = fmt.Errorf("no time left for another attempt: %w", context.DeadlineExceeded)
	// ErrAttempts means: Retry.MaxAttempts were made.
	ErrAttempts = errors.New("no attempt left")
	// ErrBudget means: the Client's retry budget has no room before the deadline.
	ErrBudget = errors.New("the retry budget is used up")
	// ErrAnswer means: the answer is not what the contract says, or over the limit.
	ErrAnswer = errors.New("unusable answer")
)

// IsUnknown reports whether the call may have been done all the same.
func IsUnknown(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Outcome == OutcomeUnknown
}

// IsNotFound reports whether what the call names is not there: it never was,
// it was deleted, or it belongs to another workspace.
func IsNotFound(err error) bool { return hasStatus(err, http.StatusNotFound, http.StatusGone) }

// IsGone reports whether what the call names was there and was deleted. Its
// ID never comes back.
func IsGone(err error) bool { return HasCode(err, api.CodeResourceDeleted) }

// IsConflict reports whether something else stands in the way: the name is
// taken, or the key was used for another request.
func IsConflict(err error) bool { return hasStatus(err, http.StatusConflict) }

// IsInvalid reports whether the request itself is wrong; Fields say where.
func IsInvalid(err error) bool {
	return HasCode(err, api.CodeInvalidIdempotencyKey) || // also one that was not sent
		hasStatus(err, http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
}

// IsAuth reports whether the token is missing, unknown or may not do this.
func IsAuth(err error) bool {
	return hasStatus(err, http.StatusUnauthorized) || HasCode(err, api.CodeForbidden)
}

// IsRateLimited reports whether the token had used up its rate, up to the last
// attempt.
func IsRateLimited(err error) bool { return hasStatus(err, http.StatusTooManyRequests) }

// IsUnavailable reports whether there was no answer, or only that the service
// cannot give one now.
func IsUnavailable(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && (e.Status == 0 || e.Status >= http.StatusInternalServerError)
}

// HasCode reports whether the answer carried this error_code.
func HasCode(err error, code api.Code) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Code == code
}

func hasStatus(err error, statuses ...int) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && slices.Contains(statuses, e.Status)
}

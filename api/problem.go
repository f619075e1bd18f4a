package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// ProblemContentType is the media type of every answer that is not 2xx.
const ProblemContentType = "application/problem+json"

// Code names what went wrong, for programs. It is the error_code of a Problem.
type Code string

// The codes of the public API and of Owl's.
const (
	CodeUnauthenticated       Code = "UNAUTHENTICATED"
	CodeForbidden             Code = "FORBIDDEN"
	CodeQuotaExceeded         Code = "QUOTA_EXCEEDED"
	CodeNotFound              Code = "NOT_FOUND"
	CodeResourceDeleted       Code = "RESOURCE_DELETED"
	CodeProvisionNotFound     Code = "PROVISION_NOT_FOUND"
	CodeMethodNotAllowed      Code = "METHOD_NOT_ALLOWED"
	CodeIdempotencyKeyReused  Code = "IDEMPOTENCY_KEY_REUSED"
	CodeAppExists             Code = "APP_EXISTS"
	CodeIDConflict            Code = "ID_CONFLICT"
	CodeInvalidRequest        Code = "INVALID_REQUEST"
	CodeInvalidIdempotencyKey Code = "INVALID_IDEMPOTENCY_KEY"
	CodeInvalidState          Code = "INVALID_STATE"
	CodeBodyTooLarge          Code = "BODY_TOO_LARGE"
	CodeUnsupportedMediaType  Code = "UNSUPPORTED_MEDIA_TYPE"
	CodeRateLimited           Code = "RATE_LIMITED"
	CodeInternal              Code = "INTERNAL"
	CodeUnavailable           Code = "UNAVAILABLE"

	// CodeKeyInProgress is the 409 for a key that another request is binding
	// at this moment. On the wire it has no error_code: clients that know
	// only "409 with a code is final" then repeat it, as they should.
	CodeKeyInProgress Code = "KEY_IN_PROGRESS"

	// CodeGone is a RESOURCE_DELETED that answers 410 rather than 404: a
	// deletion repeated, or an action on what is deleted.
	CodeGone Code = "GONE"
)

// Codes lists every code, in the order of the contract.
func Codes() []Code {
	return []Code{
		CodeUnauthenticated, CodeForbidden, CodeQuotaExceeded, CodeNotFound, CodeResourceDeleted,
		CodeProvisionNotFound, CodeMethodNotAllowed, CodeIdempotencyKeyReused, CodeKeyInProgress,
		CodeAppExists, CodeIDConflict, CodeGone, CodeInvalidRequest, CodeInvalidIdempotencyKey,
		CodeInvalidState, CodeBodyTooLarge, CodeUnsupportedMediaType, CodeRateLimited, CodeInternal,
		CodeUnavailable,
	}
}

// Status is the HTTP status that the code answers with.
func (c Code) Status() int {
	switch c {
	case CodeUnauthenticated:
		return http.StatusUnauthorized
	case CodeForbidden, CodeQuotaExceeded:
		return http.StatusForbidden
	case CodeNotFound, CodeResourceDeleted, CodeProvisionNotFound:
		return http.StatusNotFound
	case CodeMethodNotAllowed:
		return http.StatusMethodNotAllowed
	case CodeIdempotencyKeyReused, CodeKeyInProgress, CodeAppExists, CodeIDConflict:
		return http.StatusConflict
	case CodeGone:
		return http.StatusGone
	case CodeInvalidRequest, CodeInvalidIdempotencyKey, CodeInvalidState:
		return http.StatusBadRequest
	case CodeBodyTooLarge:
		return http.StatusRequestEntityTooLarge
	case CodeUnsupportedMediaType:
		return http.StatusUnsupportedMediaType
	case CodeRateLimited:
		return http.StatusTooManyRequests
	case CodeUnavailable:
		return http.StatusServiceUnavailable
	case CodeInternal:
	}
	return http.StatusInternalServerError
}

// Title is the short, constant sentence that goes with the code.
func (c Code) Title() string {
	switch c {
	case CodeUnauthenticated:
		return "The request carries no valid token"
	case CodeForbidden:
		return "The token does not allow this"
	case CodeQuotaExceeded:
		return "The workspace has no room for more CVMs"
	case CodeNotFound:
		return "There is no such resource"
	case CodeResourceDeleted, CodeGone:
		return "The resource was deleted"
	case CodeProvisionNotFound:
		return "There is no such provision, or it expired"
	case CodeMethodNotAllowed:
		return "The path does not take this method"
	case CodeIdempotencyKeyReused:
		return "Idempotency-Key was used for another request"
	case CodeKeyInProgress:
		return "Another request with this Idempotency-Key is being accepted"
	case CodeAppExists:
		return "An app of this name exists"
	case CodeIDConflict:
		return "The ID was used for another create request"
	case CodeInvalidRequest:
		return "The request is not valid"
	case CodeInvalidIdempotencyKey:
		return "Idempotency-Key is not valid"
	case CodeInvalidState:
		return "The resource cannot do this in its present state"
	case CodeBodyTooLarge:
		return "The request body is too large"
	case CodeUnsupportedMediaType:
		return "The request body has the wrong content type"
	case CodeRateLimited:
		return "Too many requests"
	case CodeUnavailable:
		return "The service cannot answer now"
	case CodeInternal:
	}
	return "Something went wrong on our side"
}

// Retryable says whether the same request, sent again later, may be answered
// differently. An Error can overrule it for CodeUnavailable.
func (c Code) Retryable() bool {
	switch c { //nolint:exhaustive // every other code is final
	case CodeKeyInProgress, CodeRateLimited, CodeUnavailable:
		return true
	default:
		return false
	}
}

// wire is the error_code that clients see: two codes are internal names for
// a status.
func (c Code) wire() Code {
	switch c { //nolint:exhaustive // every other code is its own name
	case CodeKeyInProgress:
		return ""
	case CodeGone:
		return CodeResourceDeleted
	default:
		return c
	}
}

// Slug is the last segment of the code's page under /problems/.
func (c Code) Slug() string {
	code := c.wire()
	if code == "" {
		code = c
	}
	return strings.ReplaceAll(strings.ToLower(string(code)), "_", "-")
}

// FieldError says what is wrong with one member of a request. Field is a JSON
// pointer (RFC 6901), or method, path, a header's or a query parameter's name.
type FieldError struct {
	Field   string `json:"field"`
	Message string `json:"message"`
}

// Problem is the body of every answer that is not 2xx (RFC 9457).
type Problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail"`
	Message   string `json:"message"` // equals Detail; what Phala-shaped clients show
	ErrorCode Code   `json:"error_code,omitempty"`
	Retryable bool   `json:"retryable"`
	RequestID string `json:"request_id"`

	Errors []FieldError `json:"errors,omitempty"`

	AppID     *ID             `json:"app_id,omitempty"`     // with APP_EXISTS
	VMUUID    *ID             `json:"vm_uuid,omitempty"`    // with APP_EXISTS
	DeletedAt *Time           `json:"deleted_at,omitempty"` // with RESOURCE_DELETED
	Record    json.RawMessage `json:"record,omitempty"`     // with Owl's 410
}

// Error is the one coded error of Roost. Domain packages return it wrapped
// or bare; the edge turns it into a Problem. Any other error is a 500 that
// shows nothing of the inside.
type Error struct {
	Code   Code
	Detail string // what happened and what to do, for people
	Fields []FieldError

	// NotRetryable overrules Code.Retryable: repeating could do the work twice.
	NotRetryable bool
	// RetryAfter is sent in whole seconds, at least 1, where the code is
	// retryable or this is set.
	RetryAfter time.Duration

	AppID     *ID
	VMUUID    *ID
	DeletedAt *Time
	Record    json.RawMessage

	// KeyExpiresAt is sent as a header when the request's key is bound.
	KeyExpiresAt *Time

	Err error // the cause: logged, never shown
}

// Errorf makes an Error with a formatted detail.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Detail: fmt.Sprintf(format, args...)}
}

// Invalid makes the 400 for one member of a request.
func Invalid(field, format string, args ...any) *Error {
	return InvalidFields([]FieldError{{Field: field, Message: fmt.Sprintf(format, args...)}})
}

// InvalidFields makes the 400 that names every member that is wrong.
func InvalidFields(fields []FieldError) *Error {
	parts := make([]string, len(fields))
	for i, f := range fields {
		parts[i] = f.Field + " " + f.Message
	}
	return &Error{
		Code:   CodeInvalidRequest,
		Detail: strings.Join(parts, "; ") + ". Nothing was done; correct the request and send it again.",
		Fields: fields,
	}
}

// Error implements error. It is for logs: it includes the cause.
func (e *Error) Error() string {
	s := string(e.Code) + ": " + e.Detail
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Problem is the error as clients see it.
func (e *Error) Problem(requestID string) Problem {
	return Problem{
		Type:      "/problems/" + e.Code.Slug(),
		Title:     e.Code.Title(),
		Status:    e.Code.Status(),
		Detail:    e.Detail,
		Message:   e.Detail,
		ErrorCode: e.Code.wire(),
		Retryable: e.Code.Retryable() && !e.NotRetryable,
		RequestID: requestID,
		Errors:    e.Fields,
		AppID:     e.AppID,
		VMUUID:    e.VMUUID,
		DeletedAt: e.DeletedAt,
		Record:    e.Record,
	}
}

// Advice says, for people, what happened and what to do about it.
func (c Code) Advice() string {
	switch c {
	case CodeUnauthenticated:
		return "The token is missing, unknown, expired or revoked. Nothing was done. Send a valid one as X-API-Key or Authorization: Bearer."
	case CodeForbidden:
		return "The token is read-only. Nothing was done. Use a token of scope write."
	case CodeQuotaExceeded:
		return "The workspace has as many CVMs as it may have. Nothing was done. Delete some or have the quota raised."
	case CodeNotFound:
		return "No resource of this ID was ever in this workspace, or the path does not exist. Check the ID and the token's workspace."
	case CodeResourceDeleted, CodeGone:
		return "The resource was deleted and its ID never comes back. deleted_at says when. Create a new one."
	case CodeProvisionNotFound:
		return "The provision never was in this workspace, was used by an earlier commit, or expired. Look at the app first; then provision again."
	case CodeMethodNotAllowed:
		return "The Allow header names the methods that this path takes."
	case CodeIdempotencyKeyReused:
		return "The key was first used for another request; errors names the members that differ. Nothing was done. " +
			"Send the first request unchanged to learn its outcome, or use a new key."
	case CodeKeyInProgress:
		return "Another request with this key is being accepted at this moment. Send the same request again to get its result."
	case CodeAppExists:
		return "A workspace has one app per name. app_id and vm_uuid name the one that exists. Use it, or choose another name."
	case CodeIDConflict:
		return "Owl has a record of this ID that was created by another request; errors names what differs. Nothing was done."
	case CodeInvalidRequest:
		return "errors names each member that is wrong. Nothing was done. Correct them and send the request again."
	case CodeInvalidIdempotencyKey:
		return "A key is 1 to 255 visible ASCII characters without spaces, sent once. Nothing was done."
	case CodeInvalidState:
		return "The resource cannot do this as it is now; detail says why. Nothing was done."
	case CodeBodyTooLarge:
		return "The body is over the limit. Nothing was done."
	case CodeUnsupportedMediaType:
		return "Send the body with the Content-Type that detail names. Nothing was done."
	case CodeRateLimited:
		return "The token has used up its rate. Nothing was done. Wait for Retry-After."
	case CodeUnavailable:
		return "Nothing was bound, or the service cannot tell. retryable says whether repeating is safe; if not, look at the list first."
	case CodeInternal:
	}
	return "The error is ours. With an Idempotency-Key it is safe to send the same request again. Report the request ID."
}

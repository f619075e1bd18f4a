package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"roost/api"
)

// Result is the answer to a mutation.
type Result[T any] struct {
	Value  T
	Status int // HTTP status; 410 for a DELETE of what was deleted already

	// Replayed: the server had done this already, for an earlier attempt of
	// this call (Attempts > 1) or for an earlier call under the same key.
	Replayed          bool
	RequestID         string
	OriginalRequestID string     // of the request that did it, with Replayed
	IdempotencyKey    string     // "" for DELETE
	KeyExpiresAt      *time.Time // until then the call can be repeated under its key
	Attempts          int
}

// mutation is a call that changes something.
type mutation struct {
	method string
	path   string
	body   any     // nil: none
	key    *string // nil: a new one is made
	once   bool
	gone   func(api.Problem)
}

// mutate makes the call under one key, which exists before the first attempt
// and is on whatever comes back.
func mutate[T any](ctx context.Context, c *Client, m mutation, opts []Option) (Result[T], error) {
	for _, o := range opts {
		if o != nil {
			o(&m)
		}
	}
	var r Result[T]
	cl := call{method: m.method, path: m.path, retry: c.retry, gone: m.gone, decode: into(&r.Value)}
	if m.once {
		cl.retry.MaxAttempts = 1
	}
	if m.method != http.MethodDelete {
		if m.key == nil {
			m.key = new(c.NewIdempotencyKey())
		}
		cl.key, r.IdempotencyKey = *m.key, *m.key
	}
	if err := cl.prepare(m.body); err != nil {
		return r, err
	}
	x, err := c.run(ctx, cl)
	if err != nil {
		return r, err
	}
	r.read(x)
	return r, nil
}

// prepare encodes the body, and refuses what could not be sent.
func (cl *call) prepare(body any) error {
	e := &Error{Method: cl.method, Path: cl.path, IdempotencyKey: cl.key, Outcome: OutcomeNotDone}
	if cl.method != http.MethodDelete && e.refusesKey(cl.key) {
		return e
	}
	if cl.body, e.Err = encode(body); e.Err != nil {
		return e
	}
	return nil
}

// refusesKey makes e the refusal of a key that no server takes, an empty one
// too: who gives it has lost the one that was meant.
func (e *Error) refusesKey(key string) bool {
	_, err := api.ParseIdempotencyKey([]string{api.FormatIdempotencyKey(key)})
	bad, ok := errors.AsType[*api.Error](err)
	if ok {
		e.Code, e.Title, e.Detail, e.Fields = bad.Code, bad.Code.Title(), bad.Detail, bad.Fields
	}
	return ok
}

func (r *Result[T]) read(x exchange) {
	r.Status, r.RequestID, r.Attempts = x.status, x.requestID, x.attempt
	r.Replayed = x.header.Get(api.HeaderIdempotentReplay) == "true"
	r.OriginalRequestID = x.header.Get(api.HeaderOriginalRequestID)
	r.KeyExpiresAt = x.keyExpiresAt()
}

// NewIdempotencyKey makes a key as mutations do, for a caller who wants to
// write it down before the call (WithIdempotencyKey). It is a ULID with 80
// random bits: keys of one time lie together in the server's index.
func (c *Client) NewIdempotencyKey() string { return c.minter.RequestID() }

// into decodes an answer afresh, so that a torn one leaves nothing behind.
// Members that this version does not know are left out. What has no ID was not
// answered by Roost.
func into[T any](value *T) func([]byte) error {
	return func(body []byte) error {
		var v T
		if _, none := any(v).(struct{}); none {
			if len(body) > 0 {
				return errors.New("the answer should be empty")
			}
			return nil
		}
		if err := json.Unmarshal(body, &v); err != nil {
			return err //nolint:wrapcheck // the caller says what it was reading
		}
		if !identified(v) {
			return errNameless
		}
		*value = v
		return nil
	}
}

var errNameless = errors.New("the answer names nothing")

// identified reports whether an answer names what it is about. Others than
// those listed need not.
func identified(v any) bool {
	switch v := v.(type) {
	case api.App:
		return !v.AppID.IsZero()
	case api.CVM:
		return !v.VMUUID.IsZero()
	case api.CVMs:
		return v.Operation.ID != "" && allIdentified(v.Items)
	case []api.CVM:
		return allIdentified(v)
	case api.Provision:
		return !v.AppID.IsZero() && v.ComposeHash != ""
	case api.FirewallRule:
		return !v.ID.IsZero()
	case api.Operation:
		return v.ID != ""
	case api.InstanceType:
		return v.ID != ""
	case api.Key:
		return v.RequestID != ""
	case api.Account:
		return !v.Workspace.ID.IsZero()
	}
	return true
}

// allIdentified reports whether a list is one: null, or no list at all, must
// not pass for a list of nothing.
func allIdentified[T any](items []T) bool {
	return items != nil && !slices.ContainsFunc(items, func(one T) bool { return !identified(one) })
}

// encode leaves <, > and & alone: compose files are full of them.
func encode(body any) ([]byte, error) {
	if body == nil {
		return nil, nil
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(body); err != nil {
		return nil, fmt.Errorf("encode the request: %w", err)
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

// read makes a call that changes nothing.
func read[T any](ctx context.Context, c *Client, cl call) (T, error) {
	var v T
	cl.method = http.MethodGet
	if cl.retry == (Retry{}) {
		cl.retry = c.retry
	}
	if cl.decode == nil {
		cl.decode = into(&v)
	}
	_, err := c.run(ctx, cl)
	return v, err
}

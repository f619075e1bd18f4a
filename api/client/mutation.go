package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"roost/api"
)

// Result is the answer to a mutation.
type Result[T any] struct {
	Value  T
	Status int // HTTP status; 410 for a DELETE whose lost first attempt was done

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
	body   any    // nil: none
	key    string // "": a new one is made
	once   bool
	gone   func(api.Problem)
}

// mutate makes the call under one key, which exists before the first attempt
// and is on whatever comes back.
func mutate[T any](ctx context.Context, c *Client, m mutation, opts []Option) (Result[T], error) {
	for _, o := range opts {
		o(&m)
	}
	r := Result[T]{}
	if m.method != http.MethodDelete {
		r.IdempotencyKey = m.key
		if r.IdempotencyKey == "" {
			r.IdempotencyKey = c.NewIdempotencyKey()
		}
	}
	cl := call{
		method: m.method, path: m.path, key: r.IdempotencyKey, retry: c.retry, gone: m.gone, decode: into(&r.Value),
	}
	if m.once {
		cl.retry.MaxAttempts = 1
	}
	var err error
	if cl.body, err = encode(m.body); err != nil {
		return r, &Error{Method: m.method, Path: m.path, IdempotencyKey: cl.key, Outcome: OutcomeNotDone, Err: err}
	}
	x, err := c.run(ctx, cl)
	if err != nil {
		return r, err
	}
	r.read(x)
	return r, nil
}

func (r *Result[T]) read(x exchange) {
	r.Status, r.RequestID, r.Attempts = x.status, x.requestID, x.attempt
	r.Replayed = x.header.Get(api.HeaderIdempotentReplay) == "true"
	r.OriginalRequestID = x.header.Get(api.HeaderOriginalRequestID)
	if at, err := time.Parse(time.RFC3339Nano, x.header.Get(api.HeaderIdempotencyKeyExpiresAt)); err == nil {
		r.KeyExpiresAt = &at
	}
}

// NewIdempotencyKey makes a key as mutations do, for a caller who wants to
// write it down before the call (WithIdempotencyKey). It is a ULID with 80
// random bits: keys of one time lie together in the server's index.
func (c *Client) NewIdempotencyKey() string { return c.minter.RequestID() }

// into decodes an answer afresh, so that a torn one leaves nothing behind.
// Members that this version does not know are left out.
func into[T any](value *T) func([]byte) error {
	return func(body []byte) error {
		var v T
		if _, none := any(v).(struct{}); !none {
			if err := json.Unmarshal(body, &v); err != nil {
				return err //nolint:wrapcheck // the caller says what it was reading
			}
		}
		*value = v
		return nil
	}
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

package client

import (
	"context"
	"iter"
	"net/http"

	"roost/api"
)

// Operation reads one operation as it is now; WaitOperation holds until it
// ends.
func (c *Client) Operation(ctx context.Context, id string) (api.Operation, error) {
	return read[api.Operation](ctx, c, call{path: path("/operations/%s", id)})
}

// Operations lists the workspace's operations.
func (c *Client) Operations(ctx context.Context, opts ...ListOption) iter.Seq2[api.Operation, error] {
	return list[api.Operation](ctx, c, "/operations", opts)
}

// LookupKey says what a key is bound to: whether a request whose answer was
// lost has happened. An IsNotFound error means that it has not so far; it may
// still arrive. To be sure, make the call again under the key.
func (c *Client) LookupKey(ctx context.Context, key string) (api.Key, error) {
	at := path("/idempotency-keys/%s", api.FormatIdempotencyKey(key))
	if e := (&Error{Method: http.MethodGet, Path: at, Outcome: OutcomeNotDone}); e.refusesKey(key) {
		return api.Key{}, e
	}
	return read[api.Key](ctx, c, call{path: at})
}

package client

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"roost/api"
)

// ListOption adjusts a list.
type ListOption func(*listing)

// WithPageSize makes each request of a list bring so many items, 1 to 200.
// The default is 200.
func WithPageSize(n int) ListOption { return func(l *listing) { l.limit = n } }

// maxPages bounds a list that a mistaken server never ends.
const maxPages = 10_000

type listing struct{ limit int }

// list reads page after page, as far as the caller goes. A failure is the last
// thing it yields. What is made or deleted meanwhile may be there or not.
func list[T any](ctx context.Context, c *Client, pattern string, opts []ListOption) iter.Seq2[T, error] {
	l := listing{limit: api.MaxPageLimit}
	for _, o := range opts {
		if o != nil {
			o(&l)
		}
	}
	return func(yield func(T, error) bool) {
		query := url.Values{"limit": {strconv.Itoa(l.limit)}}
		for range maxPages {
			page, err := readPage[T](ctx, c, call{path: pattern, query: query})
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, item := range page.Items {
				if !yield(item, nil) {
					return
				}
			}
			if page.NextCursor == nil || *page.NextCursor == "" {
				return
			}
			query.Set("cursor", *page.NextCursor)
		}
		var none T
		yield(none, &Error{
			Method: http.MethodGet, Path: pattern, Outcome: OutcomeNotDone,
			Err: fmt.Errorf("%w: the list has not ended after %d pages", ErrAnswer, maxPages),
		})
	}
}

// readPage reads one page, every item of it named.
func readPage[T any](ctx context.Context, c *Client, cl call) (api.Page[T], error) {
	var page api.Page[T]
	decode := into(&page)
	cl.decode = func(body []byte) error {
		err := decode(body)
		if err == nil && !allIdentified(page.Items) {
			err = errNameless
		}
		return err
	}
	_, err := read[struct{}](ctx, c, cl)
	return page, err
}

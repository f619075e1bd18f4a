// Package apitest is a client of the public API for tests: it sends exactly
// what it is told, once, and shows exactly what came back.
//
// It promises that nothing is repeated, followed or corrected on the way, so
// that a test sees what a stranger with curl would see. What was sent and came
// back is held against the OpenAPI document, and a test fails where they differ.
// It is not the SDK.
package apitest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/openapitest"
)

// Client sends requests to one node with one token.
type Client struct {
	T     testing.TB
	URL   string // of the node, without /api/v1
	Token string
	HTTP  *http.Client // nil: http.DefaultClient
}

// Call is a request; its methods adjust it. It may be sent many times.
type Call struct {
	client Client
	method string
	path   string
	body   string
	header http.Header
}

// Post makes a POST below /api/v1. A body that is not empty is called JSON.
func (c Client) Post(path, body string) *Call { return c.Request(http.MethodPost, path, body) }

// Get gets a path below /api/v1.
func (c Client) Get(path string) *Reply {
	c.T.Helper()
	return c.Request(http.MethodGet, path, "").Send()
}

// Raw gets any path.
func (c Client) Raw(path string) *Reply {
	c.T.Helper()
	return c.Request(http.MethodGet, "", "").To(path).Send()
}

// Request makes any request below /api/v1.
func (c Client) Request(method, path, body string) *Call {
	header := http.Header{}
	header.Set(api.HeaderAPIKey, c.Token)
	if body != "" {
		header.Set("Content-Type", "application/json")
	}
	return &Call{client: c, method: method, path: "/api/v1" + path, body: body, header: header}
}

// Key sets the Idempotency-Key header, as it is.
func (c *Call) Key(key string) *Call { return c.With(api.HeaderIdempotencyKey, key) }

// As presents another token; "" presents none.
func (c *Call) As(token string) *Call { return c.With(api.HeaderAPIKey, token) }

// At sends to another node.
func (c *Call) At(url string) *Call { c.client.URL = url; return c }

// To sends to any path of the node.
func (c *Call) To(path string) *Call { c.path = path; return c }

// With sets a header.
func (c *Call) With(name, value string) *Call { c.header.Set(name, value); return c }

// Without removes a header.
func (c *Call) Without(name string) *Call { c.header.Del(name); return c }

// Add adds a header once more.
func (c *Call) Add(name, value string) *Call { c.header.Add(name, value); return c }

// Path is where the call goes.
func (c *Call) Path() string { return c.path }

// Send sends the call and fails the test without an answer.
func (c *Call) Send() *Reply {
	c.client.T.Helper()
	reply, err := c.Try()
	require.NoError(c.client.T, err)
	return reply
}

// Expect is Send for an answer of this status.
func (c *Call) Expect(status int) *Reply {
	c.client.T.Helper()
	return c.Send().Expect(status)
}

// Try is Send for goroutines, which must not end the test.
func (c *Call) Try() (*Reply, error) { return c.Until(c.client.T.Context()) }

// Until is Try by a client that leaves when ctx ends.
func (c *Call) Until(ctx context.Context) (*Reply, error) {
	req, err := http.NewRequestWithContext(ctx, c.method, c.client.URL+c.path, strings.NewReader(c.body))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.Header = c.header.Clone()
	client := c.client.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("send request: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // the body was read
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	reply := &Reply{t: c.client.T, Status: resp.StatusCode, Header: resp.Header, Body: body}
	c.compare(ctx, reply)
	return reply, nil
}

// compare fails the test, and lets it go on, where the exchange is not as the
// document says: the public one, or Owl's for a call that was sent there.
func (c *Call) compare(ctx context.Context, r *Reply) {
	read := openapitest.Platform
	if strings.HasPrefix(c.path, "/v1/") {
		read = openapitest.Owl
	}
	document, err := read()
	if err == nil {
		err = document.Check(ctx, openapitest.Exchange{
			Method: c.method, URL: c.client.URL + c.path, Header: c.header, Body: []byte(c.body),
			Status: r.Status, AnswerHeader: r.Header, Answer: r.Body,
		})
	}
	if err != nil {
		c.client.T.Errorf("%v", err)
	}
}

// Together sends n calls at once and returns their answers in order.
func Together(tb testing.TB, n int, call func(i int) *Call) []*Reply {
	tb.Helper()
	calls, replies, errs := make([]*Call, n), make([]*Reply, n), make([]error, n)
	for i := range n {
		calls[i] = call(i)
	}
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { <-start; replies[i], errs[i] = calls[i].Try() })
	}
	close(start)
	wg.Wait()
	for _, err := range errs {
		require.NoError(tb, err)
	}
	return replies
}

// Reply is an answer, read to its end.
type Reply struct {
	Status int
	Header http.Header
	Body   []byte

	t testing.TB
}

// Expect fails the test unless the status is this.
func (r *Reply) Expect(status int) *Reply {
	r.t.Helper()
	require.Equal(r.t, status, r.Status, string(r.Body))
	return r
}

// Refuse expects the problem of this code, and returns it.
func (r *Reply) Refuse(code api.Code) api.Problem {
	r.t.Helper()
	r.Expect(code.Status())
	require.Equal(r.t, api.ProblemContentType, r.Header.Get("Content-Type"))
	want, got := (&api.Error{Code: code}).Problem(""), Decode[api.Problem](r)
	require.Equal(r.t, want.ErrorCode, got.ErrorCode, string(r.Body))
	require.Equal(r.t, got.Detail, got.Message)
	require.Equal(r.t, r.Header.Get(api.HeaderRequestID), got.RequestID)
	return got
}

// Replayed reports whether the answer says that it is a replay.
func (r *Reply) Replayed() bool { return r.Header.Get(api.HeaderIdempotentReplay) == "true" }

// CVM decodes the body as one.
func (r *Reply) CVM() api.CVM { r.t.Helper(); return Decode[api.CVM](r) }

// Operation decodes the body as one.
func (r *Reply) Operation() api.Operation { r.t.Helper(); return Decode[api.Operation](r) }

// Decode decodes the body of an answer.
func Decode[T any](r *Reply) T {
	r.t.Helper()
	var v T
	require.NoError(r.t, json.Unmarshal(r.Body, &v), string(r.Body))
	return v
}

// Fields is the members that a problem names, in its order.
func Fields(p api.Problem) []string {
	var out []string
	for _, f := range p.Errors {
		out = append(out, f.Field)
	}
	return out
}

// Spec is the body of a create with this name and compose file.
func Spec(name, compose string) string {
	body, err := json.Marshal(map[string]any{
		"name": name, "instance_type": "tdx.small", "compose_file": map[string]any{"docker_compose_file": compose},
	})
	if err != nil {
		panic(err) // two strings always encode
	}
	return string(body)
}

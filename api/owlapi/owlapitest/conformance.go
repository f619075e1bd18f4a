package owlapitest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/openapitest"
	"roost/api/owlapi"
)

const (
	// deadline is how long a machine may take, its boot included.
	deadline = 15 * time.Second
	lookAt   = 5 * time.Millisecond
)

// Server is an Owl under test. Its machines must follow what is asked of them.
type Server struct {
	URL   string
	Token string // must not be empty: the suite tries without
}

// Run runs the suite against one Owl: each row of the private contract is a
// law here, under the contract's words, and every exchange is held against the
// OpenAPI document. It needs no empty Owl, and leaves what
// it made.
func Run(t *testing.T, server Server) {
	t.Helper()
	for name, law := range laws() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			law(setup(t, server))
		})
	}
}

func laws() map[string]func(*testBundle) {
	all := map[string]func(*testBundle){}
	for _, some := range []map[string]func(*testBundle){createLaws(), changeLaws(), ruleLaws(), edgeLaws()} {
		maps.Copy(all, some)
	}
	return all
}

type testBundle struct {
	*owlapi.Client
	t      *testing.T
	server Server
	ctx    context.Context //nolint:containedctx // one law's lifetime
	mint   *api.Minter
	http   *http.Client // holds every exchange against the OpenAPI document
}

func setup(t *testing.T, server Server) *testBundle {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*deadline)
	t.Cleanup(cancel)
	transport := &http.Transport{MaxIdleConnsPerHost: 100}
	t.Cleanup(transport.CloseIdleConnections)
	document, err := openapitest.Owl()
	require.NoError(t, err)
	checked := &http.Client{Transport: document.Transport(transport, func(err error) { t.Errorf("%v", err) })}
	client := owlapi.New(owlapi.Config{BaseURL: server.URL, Token: server.Token, HTTP: checked})
	return &testBundle{Client: client, t: t, server: server, ctx: ctx, mint: api.NewMinter(), http: checked}
}

// request is a create that nobody sent yet.
func (b *testBundle) request() owlapi.CreateCVM {
	return owlapi.CreateCVM{
		ID: b.mint.ID(), AppID: b.mint.ID(), Name: "web", Spec: json.RawMessage(`{"instance_type":"tdx.small"}`),
	}
}

// created sends a create that must be new.
func (b *testBundle) created() owlapi.CreateCVM {
	b.t.Helper()
	r := b.request()
	_, created, err := b.CreateCVM(b.ctx, r)
	require.NoError(b.t, err)
	require.True(b.t, created, "want 201")
	return r
}

func put(generation int64, power api.Power) owlapi.PutCVM {
	return owlapi.PutCVM{Generation: generation, Power: power, Spec: json.RawMessage(`{"instance_type":"tdx.large"}`)}
}

// requireStatus wants err to be an answer with the status and code.
func (b *testBundle) requireStatus(err error, status int, code api.Code) {
	b.t.Helper()
	require.Equal(b.t, code, b.problem(err, status).ErrorCode)
}

// problem wants err to be an answer with the status, and returns its document.
func (b *testBundle) problem(err error, status int) api.Problem {
	b.t.Helper()
	var answer *owlapi.StatusError
	require.ErrorAs(b.t, err, &answer)
	require.Equal(b.t, status, answer.Status, answer.Error())
	return answer.Problem
}

func fields(p api.Problem) []string {
	var out []string
	for _, f := range p.Errors {
		out = append(out, f.Field)
	}
	slices.Sort(out)
	return out
}

// answer is what raw got.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// raw sends what the client would not.
func (b *testBundle) raw(method, path, body string, header http.Header) answer {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.ctx, method, b.server.URL+path, strings.NewReader(body))
	require.NoError(b.t, err)
	req.Header.Set("Authorization", "Bearer "+b.server.Token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	maps.Copy(req.Header, header)
	resp, err := b.http.Do(req)
	require.NoError(b.t, err)
	defer resp.Body.Close() //nolint:errcheck // the body was read
	data, err := io.ReadAll(resp.Body)
	require.NoError(b.t, err)
	return answer{resp.StatusCode, resp.Header, data}
}

// rawProblem is raw for what must be refused.
func (b *testBundle) rawProblem(method, path, body string, status int) api.Problem {
	b.t.Helper()
	got := b.raw(method, path, body, nil)
	require.Equal(b.t, status, got.status, "%.300s answered %.300s", body, got.body)
	require.Equal(b.t, api.ProblemContentType, got.header.Get("Content-Type"))
	var p api.Problem
	require.NoError(b.t, json.Unmarshal(got.body, &p), string(got.body))
	require.Equal(b.t, status, p.Status)
	require.Equal(b.t, p.Detail, p.Message)
	require.Equal(b.t, got.header.Get(api.HeaderRequestID), p.RequestID)
	require.NotEmpty(b.t, p.RequestID)
	require.NotEmpty(b.t, p.Title)
	require.True(b.t, strings.HasPrefix(p.Type, "/problems/"), p.Type)
	return p
}

// await returns the record, from a list, once it is as wanted.
func (b *testBundle) await(id api.ID, done func(owlapi.CVM) bool) owlapi.CVM {
	b.t.Helper()
	var last []owlapi.CVM
	ticker := time.NewTicker(lookAt)
	defer ticker.Stop()
	for limit := time.Now().Add(deadline); ; <-ticker.C {
		var err error
		last, err = b.CVMs(b.ctx, owlapi.List{IDs: []api.ID{id}})
		require.NoError(b.t, err)
		if len(last) == 1 && done(last[0]) {
			return last[0]
		}
		require.True(b.t, time.Now().Before(limit), "never came: %+v", last)
	}
}

func at(generation int64, status api.Status) func(owlapi.CVM) bool {
	return func(c owlapi.CVM) bool { return c.ObservedGeneration == generation && c.Status == status }
}

// together runs fn n times at once.
func together(n int, fn func(i int)) {
	var all sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-start
			fn(i)
		})
	}
	close(start)
	all.Wait()
}

func encoded(t *testing.T, v any) json.RawMessage {
	t.Helper()
	data, err := json.Marshal(v)
	require.NoError(t, err)
	return bytes.TrimSpace(data)
}

package platform_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"roost/api"
	"roost/models/pgtest"
	"roost/platform"
	"roost/platform/token"
)

// testBundle is one Platform over a database of its own.
type testBundle struct {
	t   *testing.T
	db  *gorm.DB
	cfg platform.Config
	log *lockedBuffer

	url     string
	token   string
	service *platform.Service
}

// setup serves a node. Its background work runs only after run.
func setup(t *testing.T, adjust ...func(*platform.Config)) *testBundle {
	t.Helper()
	b := &testBundle{t: t, db: pgtest.Platform(t), log: &lockedBuffer{}}
	b.cfg = platform.Config{
		DB: b.db, OwlURL: "http://127.0.0.1:1", // nobody listens there
		Logger: slog.New(slog.NewTextHandler(b.log, nil)),
		KeyTTL: 24 * time.Hour, KeyWait: 5 * time.Second, ProvisionTTL: time.Hour, MaxCVMs: 1000,
		ReconcileLease: 10 * time.Second, ReconcileBackoffMax: time.Second,
	}
	for _, f := range adjust {
		f(&b.cfg)
	}
	b.service, b.url = b.node()
	b.token = b.newToken("acme", token.ScopeWrite)
	return b
}

// node serves another node over the same database.
func (b *testBundle) node() (service *platform.Service, url string) {
	b.t.Helper()
	cfg := b.cfg
	cfg.Registry = prometheus.NewRegistry()
	service, err := platform.New(cfg)
	require.NoError(b.t, err)
	server := httptest.NewServer(service.Handler())
	b.t.Cleanup(server.Close)
	return service, server.URL
}

// run starts a node's background work and stops it with the test.
func (b *testBundle) run(service *platform.Service) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = service.Run(ctx) }()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	b.t.Cleanup(stop)
	return stop
}

func (b *testBundle) newToken(workspace, scope string) string {
	b.t.Helper()
	secret, _, err := token.Create(b.t.Context(), b.db, api.NewMinter(), token.Params{Workspace: workspace, Scope: scope})
	require.NoError(b.t, err)
	return secret
}

// reply is an answer, read to its end.
type reply struct {
	t      *testing.T
	Status int
	Header http.Header
	Body   []byte
}

// call is a request to be sent; its methods adjust it.
type call struct {
	b            *testBundle
	method, path string
	body         string
	header       http.Header
	url          string
}

func (b *testBundle) post(path, body string) *call { return b.request(http.MethodPost, path, body) }
func (b *testBundle) get(path string) *reply       { return b.request(http.MethodGet, path, "").send() }

func (b *testBundle) request(method, path, body string) *call {
	header := http.Header{}
	header.Set(api.HeaderAPIKey, b.token)
	if body != "" {
		header.Set("Content-Type", "application/json")
	}
	return &call{b: b, method: method, path: "/api/v1" + path, body: body, header: header, url: b.url}
}

func (c *call) key(key string) *call       { return c.with(api.HeaderIdempotencyKey, key) }
func (c *call) as(token string) *call      { return c.with(api.HeaderAPIKey, token) }
func (c *call) at(url string) *call        { c.url = url; return c }
func (c *call) with(name, v string) *call  { c.header.Set(name, v); return c }
func (c *call) add(name, v string) *call   { c.header.Add(name, v); return c }
func (c *call) expect(status int) *reply   { c.b.t.Helper(); return c.send().expect(status) }
func (r *reply) cvm() api.CVM              { return decode[api.CVM](r) }
func (r *reply) problem() api.Problem      { return decode[api.Problem](r) }
func (r *reply) operation() api.Operation  { return decode[api.Operation](r) }
func (r *reply) replayed() bool            { return r.Header.Get(api.HeaderIdempotentReplay) == "true" }
func (b *testBundle) spec(n string) string { return specBody(n, "services: {web: {image: nginx}}") }

func (c *call) send() *reply {
	c.b.t.Helper()
	r, err := c.try()
	require.NoError(c.b.t, err)
	return r
}

// try is send for goroutines, which must not end the test.
func (c *call) try() (*reply, error) { return c.through(http.DefaultClient) }

func (c *call) through(client *http.Client) (*reply, error) {
	req, err := http.NewRequestWithContext(c.b.t.Context(), c.method, c.url+c.path, bytes.NewReader([]byte(c.body)))
	if err != nil {
		return nil, err
	}
	req.Header = c.header.Clone()
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return &reply{t: c.b.t, Status: resp.StatusCode, Header: resp.Header, Body: body}, err
}

func (r *reply) expect(status int) *reply {
	r.t.Helper()
	require.Equal(r.t, status, r.Status, string(r.Body))
	return r
}

// refuse expects a problem with this code.
func (r *reply) refuse(code api.Code) api.Problem {
	r.t.Helper()
	r.expect(code.Status())
	p := r.problem()
	want := code
	if code == api.CodeGone {
		want = api.CodeResourceDeleted
	}
	if code == api.CodeKeyInProgress {
		want = ""
	}
	require.Equal(r.t, want, p.ErrorCode, string(r.Body))
	require.Equal(r.t, r.Header.Get(api.HeaderRequestID), p.RequestID)
	return p
}

func decode[T any](r *reply) T {
	r.t.Helper()
	var v T
	require.NoError(r.t, json.Unmarshal(r.Body, &v), string(r.Body))
	return v
}

func specBody(name, compose string) string {
	body, _ := json.Marshal(map[string]any{
		"name": name, "instance_type": "tdx.small", "compose_file": map[string]any{"docker_compose_file": compose},
	})
	return string(body)
}

// count returns the number of rows of a table, with an optional condition.
func (b *testBundle) count(table string, where ...string) int {
	b.t.Helper()
	query := "SELECT count(*) FROM " + table
	if len(where) > 0 {
		query += " WHERE " + where[0]
	}
	var n int
	require.NoError(b.t, b.db.Raw(query).Scan(&n).Error)
	return n
}

// rows is a fingerprint of every table: what a refused request must not change.
func (b *testBundle) rows() map[string]int {
	b.t.Helper()
	out := map[string]int{}
	for _, table := range []string{
		"apps", "specs", "provisions", "cvms", "operations", "operation_targets", "idempotency_keys",
	} {
		out[table] = b.count(table)
	}
	var cvms int
	require.NoError(b.t, b.db.Raw("SELECT COALESCE(sum(cvms), 0) FROM workspaces").Scan(&cvms).Error)
	out["quota"] = cvms
	return out
}

// eventually waits until f is true. A state is waited for, never a time.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	require.Eventually(t, f, 20*time.Second, 10*time.Millisecond, what)
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

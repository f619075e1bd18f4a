package platform_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"roost/api"
	"roost/api/apitest"
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

func (b *testBundle) client() apitest.Client {
	return apitest.Client{T: b.t, URL: b.url, Token: b.token}
}

func (b *testBundle) post(path, body string) *apitest.Call { return b.client().Post(path, body) }
func (b *testBundle) get(path string) *apitest.Reply       { return b.client().Get(path) }
func (b *testBundle) spec(name string) string {
	return apitest.Spec(name, "services: {web: {image: nginx}}")
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
	require.Eventually(t, f, time.Minute, 10*time.Millisecond, what)
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

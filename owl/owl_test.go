package owl_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"roost/api"
	"roost/api/openapitest"
	"roost/api/owlapi"
	"roost/api/owlapi/owlapitest"
	"roost/models/pgtest"
	"roost/owl"
	"roost/owl/driver/sim"
)

const token = "owl-token-canary"

// lockedBuffer is a log that requests write at once.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// node is one Owl in this process, behind real HTTP.
type node struct {
	*owlapi.Client
	url string
	log *lockedBuffer
}

type testBundle struct {
	db   *gorm.DB
	sim  sim.Config
	mint *api.Minter
}

func setup(tb testing.TB) *testBundle {
	tb.Helper()
	return &testBundle{
		db: pgtest.Owl(tb), mint: api.NewMinter(),
		sim: sim.Config{Dir: tb.TempDir(), Boot: 30 * time.Millisecond, Stop: 10 * time.Millisecond},
	}
}

// start runs an Owl over the bundle's database and host until the test ends.
func (b *testBundle) start(tb testing.TB) *node {
	tb.Helper()
	d, err := sim.New(b.sim)
	require.NoError(tb, err)
	n := &node{log: &lockedBuffer{}}
	service, err := owl.New(owl.Config{
		DB: b.db, Driver: d, Token: token, Registry: prometheus.NewRegistry(),
		Logger: slog.New(slog.NewJSONHandler(n.log, nil)),
	})
	require.NoError(tb, err)
	server := httptest.NewServer(service.Handler())
	ctx, cancel := context.WithCancel(tb.Context())
	ended := make(chan error, 1)
	go func() { ended <- service.Run(ctx) }()
	tb.Cleanup(func() {
		server.Close()
		cancel()
		if err := <-ended; err != nil {
			tb.Errorf("Run: %v", err)
		}
		_ = d.Close()
	})
	n.url = server.URL
	n.Client = owlapi.New(owlapi.Config{BaseURL: server.URL, Token: token, HTTP: openapitest.OwlClient(tb)})
	return n
}

func (b *testBundle) request() owlapi.CreateCVM {
	return owlapi.CreateCVM{ID: b.mint.ID(), AppID: b.mint.ID(), Name: "web", Spec: json.RawMessage(`{"vcpu":1}`)}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	n := setup(t).start(t)
	owlapitest.Run(t, owlapitest.Server{URL: n.url, Token: token})
}

// Two Owls on one database are one Owl.
func TestTwoOwlsAnswerAsOne(t *testing.T) {
	t.Parallel()
	b := setup(t)
	nodes := []*node{b.start(t), b.start(t)}
	r := b.request()
	var all sync.WaitGroup
	created := make([]bool, 100)
	for i := range created {
		all.Go(func() {
			var err error
			if _, created[i], err = nodes[i%2].CreateCVM(t.Context(), r); err != nil {
				t.Errorf("create: %v", err)
			}
		})
	}
	all.Wait()
	n := 0
	for _, c := range created {
		if c {
			n++
		}
	}
	require.Equal(t, 1, n, "answers with 201")
	require.NoError(t, nodes[1].DeleteCVM(t.Context(), r.ID))
	_, err := nodes[0].GetCVM(t.Context(), r.ID)
	var gone *owlapi.StatusError
	require.ErrorAs(t, err, &gone)
	require.Equal(t, http.StatusGone, gone.Status)
}

// P10: neither a spec nor a token reaches a log line or a metric; IDs do.
func TestLogsAndMetricsHoldNoSecrets(t *testing.T) {
	t.Parallel()
	const canary = "canary-encrypted-env-4711"
	b := setup(t)
	n := b.start(t)
	r := b.request()
	r.Spec = json.RawMessage(`{"encrypted_env":"` + canary + `"}`)
	_, _, err := n.CreateCVM(t.Context(), r)
	require.NoError(t, err)
	other := r
	other.Spec = json.RawMessage(`{"encrypted_env":"` + canary + `-2"}`)
	_, _, err = n.CreateCVM(t.Context(), other)
	require.NotContains(t, err.Error(), canary)
	bad, err := json.Marshal(map[string]any{"encrypted_env": canary})
	require.NoError(t, err)
	_, err = n.CreateCVMs(t.Context(), []json.RawMessage{bad})
	require.NoError(t, err)
	metrics := get(t, n.url+"/metrics")
	for _, secret := range []string{canary, token} {
		require.NotContains(t, n.log.String(), secret)
		require.NotContains(t, metrics, secret)
	}
	require.Contains(t, n.log.String(), r.ID.String())
	require.Contains(t, metrics, `owl_inserts_total{kind="cvm",outcome="created"} 1`)
	require.Contains(t, metrics, `owl_inserts_total{kind="cvm",outcome="conflict"} 1`)
	require.Contains(t, metrics, `owl_http_requests_total{method="POST",route="/v1/cvms",status="201"} 1`)
	require.Contains(t, metrics, "owl_provision_backlog")
}

func get(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	resp, err := openapitest.OwlClient(t).Do(req)
	require.NoError(t, err)
	defer resp.Body.Close() //nolint:errcheck // the body was read
	data, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(data)
}

// A caller that leaves cancels nothing: what has begun is finished.
func TestACallerThatLeavesCancelsNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := b.start(t)
	r := b.request()
	tx := b.db.Begin() // hold the ID, so that the create has to wait
	require.NoError(t, tx.Exec(`INSERT INTO cvms (id, app_id, name, create_digests, generation, power, spec, status, due_at)
		VALUES (?, ?, 'x', '{}', 1, 'running', '{}', 'provisioning', now())`, r.ID, r.AppID).Error)
	ctx, cancel := context.WithCancel(t.Context())
	answered := make(chan error, 1)
	go func() {
		_, _, err := n.CreateCVM(ctx, r)
		answered <- err
	}()
	require.Eventually(t, func() bool {
		var waiting int64
		err := b.db.Raw(`SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&waiting).Error
		return err == nil && waiting == 1
	}, 5*time.Second, 5*time.Millisecond)
	cancel()
	require.ErrorIs(t, <-answered, owlapi.ErrUnknown)
	require.NoError(t, tx.Rollback().Error)
	require.Eventually(t, func() bool {
		_, err := n.GetCVM(t.Context(), r.ID)
		return err == nil
	}, 5*time.Second, 5*time.Millisecond)
}

func TestReadinessIsAboutTheDatabase(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := b.start(t)
	require.Equal(t, "ready\n", get(t, n.url+"/readyz"))
	require.NoError(t, b.db.Exec(`ALTER TABLE owl_schema_versions RENAME TO elsewhere`).Error)
	require.Contains(t, get(t, n.url+"/readyz"), `"status":503`)
	require.NoError(t, b.db.Exec(`ALTER TABLE elsewhere RENAME TO owl_schema_versions`).Error)
	require.Equal(t, "ok\n", get(t, n.url+"/healthz"))
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	_, err := owl.New(owl.Config{Lease: -time.Second})
	require.ErrorContains(t, err, "required")
	require.ErrorContains(t, err, "negative")
}

// One test over the whole service: what a user of the private API would do
// with curl, and what the host saw of it.
func TestFromPostToMachineAndBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := b.start(t)
	r := b.request()
	_, created, err := n.CreateCVM(t.Context(), r)
	require.NoError(t, err)
	require.True(t, created)
	n.await(t, r.ID, api.StatusRunning)
	restart := "op_1"
	for _, put := range []owlapi.PutCVM{
		{Generation: 2, Power: api.PowerStopped, Spec: r.Spec},
		{Generation: 4, Power: api.PowerRunning, Spec: r.Spec, Restart: &restart},
		{Generation: 3, Power: api.PowerStopped, Spec: r.Spec}, // the stop that was overtaken
	} {
		_, err := n.PutCVM(t.Context(), r.ID, put)
		require.NoError(t, err)
		want := api.StatusRunning
		if put.Generation == 2 {
			want = api.StatusStopped
		}
		n.await(t, r.ID, want)
	}
	require.NoError(t, n.DeleteCVM(t.Context(), r.ID))
	n.await(t, r.ID, api.StatusDeleted)

	host, err := sim.New(b.sim)
	require.NoError(t, err)
	t.Cleanup(func() { _ = host.Close() })
	effects, err := host.Effects()
	require.NoError(t, err)
	var seen []string
	for _, e := range effects {
		seen = append(seen, e.Effect)
	}
	require.Equal(t, "create start stop start remove", strings.Join(seen, " "))
}

// await waits for the status at the record's newest generation.
func (n *node) await(t *testing.T, id api.ID, status api.Status) {
	t.Helper()
	var last []owlapi.CVM
	require.Eventually(t, func() bool {
		var err error
		last, err = n.CVMsByID(t.Context(), []api.ID{id})
		return err == nil && len(last) == 1 && last[0].Status == status &&
			(last[0].ObservedGeneration == last[0].Generation || last[0].DeletedAt != nil)
	}, 10*time.Second, 5*time.Millisecond, "%+v", last)
}

package scenario_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"roost/api/apitest"
	"roost/cmd/internal/harness"
	"roost/models/migrations"
	"roost/models/pg"
	"roost/models/pglocal"
)

// postgres is a server of a test's own, which may be killed.
type postgres struct {
	t   *testing.T
	dir string
	*pglocal.Server
}

func startPostgres(t *testing.T) *postgres {
	t.Helper()
	p := &postgres{t: t, dir: filepath.Join(t.TempDir(), "pg")}
	p.start()
	t.Cleanup(func() { assert.NoError(t, p.Stop(context.WithoutCancel(t.Context()))) })
	return p
}

// start starts it, on the same data and at the same address as before.
func (p *postgres) start() {
	p.t.Helper()
	server, err := pglocal.Start(p.t.Context(), pglocal.Config{DataDir: p.dir})
	require.NoError(p.t, err)
	p.Server = server
}

// database makes a database with a schema and returns its URL.
func (p *postgres) database(name string, set migrations.Set) string {
	p.t.Helper()
	require.NoError(p.t, p.CreateDatabase(p.t.Context(), name))
	log := slog.New(slog.DiscardHandler)
	var db *gorm.DB
	require.Eventually(p.t, func() (ok bool) {
		var err error
		db, err = pg.Open(p.t.Context(), pg.Config{URL: p.URL(name)}, log)
		return err == nil
	}, harness.Patience, 10*time.Millisecond)
	pool, err := db.DB()
	require.NoError(p.t, err)
	require.NoError(p.t, migrations.Up(p.t.Context(), pool, set, log))
	require.NoError(p.t, pg.Close(db))
	return p.URL(name)
}

// kill ends the server as a crash of its machine would, and waits until it is
// gone. What it had promised is on disk.
func (p *postgres) kill() {
	p.t.Helper()
	require.NoError(p.t, syscall.Kill(p.PID(), syscall.SIGKILL))
	select {
	case <-p.Done():
	case <-time.After(harness.Patience):
		p.t.Fatal("postgres does not die")
	}
	require.NoError(p.t, p.Stop(p.t.Context()))
}

func setupWithPostgres(t *testing.T) (*bundle, *postgres) {
	t.Helper()
	server := startPostgres(t)
	return setup(t, harness.Options{
		Platforms: 2, Owls: 2, OwlEnv: []string{"OWL_SIM_BOOT=10ms"},
		PlatformURL: server.database("platform", migrations.Platform()), OwlURL: server.database("owl", migrations.Owl()),
	}), server
}

// load is clients that create CVMs, one after the other, each sent until it is
// answered for good.
type load struct {
	b            *bundle
	stop         chan struct{}
	wg           sync.WaitGroup
	acknowledged atomic.Int64
	unavailable  atomic.Int64 // answers 503
	unanswered   atomic.Int64
}

func startLoad(b *bundle) *load {
	l := &load{b: b, stop: make(chan struct{})}
	for i := range 4 {
		l.wg.Go(func() { l.client(i) })
	}
	return l
}

func (l *load) client(i int) {
	for n := 0; ; n++ {
		for try := 0; !l.send(createOn(l.b.ClientOf((i+try)%2), fmt.Sprintf("app-%d-%d", i, n))); try++ {
			timer := time.NewTimer(20 * time.Millisecond)
			select {
			case <-timer.C:
			case <-l.stop:
				timer.Stop()
				return
			}
		}
		select {
		case <-l.stop:
			return
		default:
		}
	}
}

// send reports whether the answer is one for good.
func (l *load) send(call *apitest.Call) bool {
	reply, err := call.Try()
	switch {
	case err != nil:
		l.unanswered.Add(1)
	case reply.Status == http.StatusAccepted:
		l.acknowledged.Add(1)
		return true
	case reply.Status == http.StatusServiceUnavailable:
		assert.NotEmpty(l.b.t, reply.Header.Get("Retry-After"))
		l.unavailable.Add(1)
	default:
		assert.Equal(l.b.t, http.StatusConflict, reply.Status, string(reply.Body)) // its first try is still at it
	}
	return false
}

// awaitMore waits until so many more creates are acknowledged.
func (l *load) awaitMore(n int64) {
	l.b.t.Helper()
	goal := l.acknowledged.Load() + n
	l.b.Await(fmt.Sprintf("%d more creates are acknowledged", n), func() bool { return l.acknowledged.Load() >= goal })
}

func (l *load) end() {
	close(l.stop)
	l.wg.Wait()
}

// TestScenarioPostgresKilledUnderLoad: clients hear 503 and when to come back;
// nothing acknowledged is lost, and both pools recover by themselves.
func TestScenarioPostgresKilledUnderLoad(t *testing.T) {
	t.Parallel()
	b, server := setupWithPostgres(t)
	l := startLoad(b)
	l.awaitMore(20)
	server.kill()
	seen := l.unavailable.Load()
	b.Await("clients hear 503", func() bool { return l.unavailable.Load() >= seen+8 })
	server.start()
	b.FaultsEnded()
	l.end()
	b.AtRest()
	require.Less(t, l.unanswered.Load(), l.unavailable.Load(), "requests are answered all along")
	b.acceptsMore()
}

// TestScenarioEverythingKilledAtOnce: both services and their database, in
// the middle of work.
func TestScenarioEverythingKilledAtOnce(t *testing.T) {
	t.Parallel()
	b, server := setupWithPostgres(t)
	l := startLoad(b)
	l.awaitMore(20)
	b.Each((*harness.Node).Kill)
	server.kill()
	b.Await("clients are refused", func() bool { return l.unanswered.Load() > 0 })
	server.start()
	b.Each(func(n *harness.Node) { n.Launch() })
	b.Each((*harness.Node).AwaitReady)
	b.FaultsEnded()
	l.end()
	b.AtRest()
	require.Positive(t, l.unanswered.Load())
	b.acceptsMore()
}

// acceptsMore shows that all pools have recovered.
func (b *bundle) acceptsMore() {
	b.t.Helper()
	for i := range 20 {
		b.Insist(createOn(b.ClientOf(i%2), fmt.Sprint("more-", i))).Expect(http.StatusAccepted)
	}
	b.FaultsEnded()
	b.AwaitRest()
	b.Check()
}

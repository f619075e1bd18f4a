package provision_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"roost/api"
	"roost/api/owlapi"
	"roost/models/migrations"
	"roost/models/pg"
	"roost/models/pgtest"
	"roost/models/pgtest/pgproxy"
	"roost/owl/driver"
	"roost/owl/driver/sim"
	"roost/owl/provision"
	"roost/owl/registry"
)

const (
	boot     = 50 * time.Millisecond
	deadline = 15 * time.Second
	soon     = 5 * time.Millisecond // between two looks
)

type testBundle struct {
	*registry.Registry
	db   *gorm.DB
	sim  *sim.Driver
	cfg  sim.Config
	mint *api.Minter
	wake atomic.Pointer[provision.Provisioner]
}

func setup(t *testing.T, change ...func(*sim.Config)) *testBundle {
	t.Helper()
	return setupOn(t, pgtest.Owl(t), change...)
}

func setupOn(t *testing.T, db *gorm.DB, change ...func(*sim.Config)) *testBundle {
	t.Helper()
	b := &testBundle{db: db, mint: api.NewMinter()}
	b.cfg = sim.Config{Dir: t.TempDir(), Boot: boot, Stop: 10 * time.Millisecond}
	for _, fn := range change {
		fn(&b.cfg)
	}
	b.sim = b.openSim(t)
	b.Registry = registry.New(b.db, func() {
		if p := b.wake.Load(); p != nil {
			p.Wake()
		}
	})
	return b
}

func (b *testBundle) openSim(t *testing.T) *sim.Driver {
	t.Helper()
	d, err := sim.New(b.cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// owl is one running provisioner.
type owl struct {
	*provision.Provisioner
	metrics *prometheus.Registry
	stop    func() // and wait
}

// start runs a provisioner that the registry wakes, over d or the sim.
func (b *testBundle) start(t *testing.T, d driver.Driver, change ...func(*provision.Config)) *owl {
	t.Helper()
	if d == nil {
		d = b.sim
	}
	o := &owl{metrics: prometheus.NewRegistry()}
	cfg := provision.Config{
		DB: b.db, Driver: d, Logger: slog.New(slog.DiscardHandler), Registry: o.metrics,
		Lease: 5 * time.Second, Poll: 20 * time.Millisecond, Compare: time.Hour,
	}
	for _, fn := range change {
		fn(&cfg)
	}
	o.Provisioner = provision.New(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		o.Run(ctx)
	}()
	o.stop = func() { cancel(); <-ended }
	t.Cleanup(o.stop)
	b.wake.Store(o.Provisioner)
	return o
}

func (o *owl) count(t *testing.T, name string, labels prometheus.Labels) float64 {
	t.Helper()
	families, err := o.metrics.Gather()
	require.NoError(t, err)
	var sum float64
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			matches := 0
			for _, l := range m.GetLabel() {
				if labels[l.GetName()] == l.GetValue() {
					matches++
				}
			}
			if matches == len(labels) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

func (o *owl) results(t *testing.T, outcome string) float64 {
	t.Helper()
	return o.count(t, "owl_provision_results_total", prometheus.Labels{"outcome": outcome})
}

func (b *testBundle) create(t *testing.T, change ...func(*owlapi.CreateCVM)) api.ID {
	t.Helper()
	request := owlapi.CreateCVM{ID: b.mint.ID(), AppID: b.mint.ID(), Name: "web", Spec: json.RawMessage(`{"vcpu":1}`)}
	for _, fn := range change {
		fn(&request)
	}
	made, err := b.CreateCVMs(t.Context(), []owlapi.CreateCVM{request})
	require.NoError(t, err)
	require.Equal(t, registry.Created, made[0].Outcome)
	return request.ID
}

func (b *testBundle) put(t *testing.T, id api.ID, generation int64, power api.Power, restart string) {
	t.Helper()
	put := owlapi.PutCVM{Generation: generation, Power: power, Spec: json.RawMessage(`{"vcpu":1}`)}
	if restart != "" {
		put.Restart = &restart
	}
	_, err := b.ApplyCVM(t.Context(), id, put)
	require.NoError(t, err)
}

func (b *testBundle) look(t *testing.T, id api.ID) owlapi.CVM {
	t.Helper()
	found, err := b.CVMs(t.Context(), registry.List{IDs: []api.ID{id}})
	require.NoError(t, err)
	require.Len(t, found, 1)
	return found[0]
}

// await returns the record once it is in the status at the generation.
func (b *testBundle) await(t *testing.T, id api.ID, generation int64, status api.Status) owlapi.CVM {
	t.Helper()
	var last owlapi.CVM
	b.eventually(t, func() bool {
		last = b.look(t, id)
		return last.ObservedGeneration == generation && last.Status == status
	}, func() string { return fmt.Sprintf("want %s at %d, have %+v", status, generation, last) })
	return last
}

func (b *testBundle) eventually(t *testing.T, done func() bool, explain func() string) {
	t.Helper()
	ticker := time.NewTicker(soon)
	defer ticker.Stop()
	for limit := time.Now().Add(deadline); !done(); <-ticker.C {
		if time.Now().After(limit) {
			t.Fatal(explain())
		}
	}
}

func (b *testBundle) effects(t *testing.T, id api.ID) []string {
	t.Helper()
	all, err := b.sim.Effects()
	require.NoError(t, err)
	var out []string
	for _, e := range all {
		if e.ID == id {
			out = append(out, e.Effect)
		}
	}
	return out
}

func TestACreateBecomesAMachine(t *testing.T) {
	t.Parallel()
	b := setup(t)
	// The first one is found by looking; for the second, nobody looks.
	b.start(t, nil, func(c *provision.Config) { c.Poll, c.Lease = time.Hour, time.Hour })
	b.await(t, b.create(t), 1, api.StatusRunning)
	began := time.Now()
	id := b.create(t)
	require.Equal(t, api.StatusProvisioning, b.look(t, id).Status)
	got := b.await(t, id, 1, api.StatusRunning)
	took := time.Since(began)
	t.Logf("running %s after the request, boot time %s", took, boot)
	require.Nil(t, got.Error)
	require.Less(t, took, boot+time.Second)
	require.Equal(t, []string{"create", "start"}, b.effects(t, id))
}

func TestDesiredStateIsFollowed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.start(t, nil)
	id := b.create(t)
	b.await(t, id, 1, api.StatusRunning)
	b.put(t, id, 2, api.PowerStopped, "")
	b.await(t, id, 2, api.StatusStopped)
	b.put(t, id, 3, api.PowerRunning, "")
	b.await(t, id, 3, api.StatusRunning)
	for generation, restart := range []string{"op_A", "op_A", "op_B"} {
		b.put(t, id, int64(4+generation), api.PowerRunning, restart)
		b.await(t, id, int64(4+generation), api.StatusRunning)
	}
	b.put(t, id, 5, api.PowerStopped, "") // late
	require.NoError(t, b.DeleteCVM(t.Context(), id))
	b.await(t, id, 6, api.StatusDeleted)
	require.Equal(t, []string{"create", "start", "stop", "start", "restart", "restart", "remove"}, b.effects(t, id))
}

func TestAStopDeliveredAfterTheStartDoesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.start(t, nil)
	id := b.create(t)
	b.await(t, id, 1, api.StatusRunning)
	b.put(t, id, 2, api.PowerStopped, "")
	b.await(t, id, 2, api.StatusStopped)
	b.put(t, id, 4, api.PowerRunning, "")
	b.put(t, id, 3, api.PowerStopped, "") // the stop that was overtaken
	b.await(t, id, 4, api.StatusRunning)
	require.Equal(t, []string{"create", "start", "stop", "start"}, b.effects(t, id))
}

func TestWhatComesDuringTheBootIsPickedUp(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *sim.Config) { c.Boot = time.Hour })
	b.start(t, nil)
	stopped, deleted := b.create(t), b.create(t)
	for _, id := range []api.ID{stopped, deleted} {
		b.eventually(t, func() bool { return len(b.effects(t, id)) > 0 }, func() string { return "never created" })
	}
	b.put(t, stopped, 2, api.PowerStopped, "")
	require.NoError(t, b.DeleteCVM(t.Context(), deleted))
	b.await(t, stopped, 2, api.StatusStopped)
	b.await(t, deleted, 0, api.StatusDeleted)
	require.Equal(t, []string{"create", "stop"}, b.effects(t, stopped))
	require.Equal(t, []string{"create", "remove"}, b.effects(t, deleted))
}

// Boots that never end keep neither their own CVMs from being stopped, nor,
// once they are called off, others from being made.
func TestFullSlotsLetGo(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *sim.Config) { c.Boot = time.Hour })
	b.start(t, nil, func(c *provision.Config) { c.Slots = 1 })
	stuck := b.create(t)
	b.eventually(t, func() bool { return len(b.effects(t, stuck)) > 0 }, func() string { return "never created" })
	b.put(t, stuck, 2, api.PowerStopped, "")
	b.await(t, stuck, 2, api.StatusStopped)
	other := b.create(t, func(r *owlapi.CreateCVM) { r.Power = api.PowerStopped })
	b.await(t, other, 1, api.StatusStopped)
}

// The result of an older generation says how far the machine is, and nothing
// about the newer one that was asked for meanwhile: that stays due.
func TestAPutBehindAnEnsureStaysDue(t *testing.T) {
	t.Parallel()
	b := setup(t)
	d := &stepped{Driver: b.sim, reached: make(chan struct{}), gate: make(chan struct{})}
	id := b.create(t)
	o := b.start(t, d, func(c *provision.Config) { c.Poll, c.Lease = time.Hour, time.Hour })
	b.wake.Store(nil) // it looks once, and then not before the older result
	<-d.reached
	b.put(t, id, 2, api.PowerStopped, "")
	d.gate <- struct{}{}
	<-d.reached
	between := b.look(t, id)
	require.Equal(t, int64(1), between.ObservedGeneration)
	require.Equal(t, api.StatusProvisioning, between.Status, "running was true of generation 1 only")
	d.gate <- struct{}{}
	b.await(t, id, 2, api.StatusStopped)
	require.Zero(t, o.results(t, "lost"))
}

// stepped stops each Ensure before it reaches the driver.
type stepped struct {
	driver.Driver
	reached, gate chan struct{}
}

func (s *stepped) Ensure(ctx context.Context, id api.ID, g int64, d driver.Desired) (driver.Observed, error) {
	select {
	case s.reached <- struct{}{}:
	case <-ctx.Done():
		return driver.Observed{}, ctx.Err()
	}
	select {
	case <-s.gate:
	case <-ctx.Done():
		return driver.Observed{}, ctx.Err()
	}
	return s.Driver.Ensure(ctx, id, g, d)
}

func TestDeleteOfTheUnknownReachesTheDriver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.start(t, nil)
	id := b.mint.ID()
	require.NoError(t, b.DeleteCVM(t.Context(), id))
	got := b.await(t, id, 0, api.StatusDeleted)
	require.NotNil(t, got.DeletedAt)
	require.Empty(t, b.effects(t, id))
	_, err := b.sim.Ensure(t.Context(), id, 1, driver.Desired{Power: api.PowerRunning})
	require.ErrorIs(t, err, driver.ErrRemoved)
}

func TestFailureIsShownAndANewerGenerationTriesAgain(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *sim.Config) { c.Fail = regexp.MustCompile("bad") })
	b.start(t, nil)
	id := b.create(t, func(r *owlapi.CreateCVM) { r.Name = "bad-one" })
	got := b.await(t, id, 1, api.StatusFailed)
	require.Equal(t, sim.CodeFailed, got.Error.Code)
	b.put(t, id, 2, api.PowerStopped, "")
	require.Nil(t, b.await(t, id, 2, api.StatusStopped).Error)
	b.put(t, id, 3, api.PowerRunning, "")
	b.await(t, id, 3, api.StatusFailed)
}

// babbler fails with what is no text.
type babbler struct{ driver.Driver }

func (babbler) Ensure(context.Context, api.ID, int64, driver.Desired) (driver.Observed, error) {
	return driver.Observed{}, &driver.Failure{Code: "X", Message: "no \xff and no \x00"}
}

func TestAFailureIsShownWhateverItsBytes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.start(t, babbler{b.sim})
	require.Equal(t, "no \uFFFD and no \uFFFD", b.await(t, b.create(t), 1, api.StatusFailed).Error.Message)
}

// patient takes note of the calls that end only when the driver likes.
type patient struct {
	*sim.Driver

	mu      sync.Mutex
	bounded map[string]bool // by the call
}

func (p *patient) note(ctx context.Context, call string) {
	_, bounded := ctx.Deadline()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bounded[call] = bounded
}

func (p *patient) Ensure(ctx context.Context, id api.ID, g int64, d driver.Desired) (driver.Observed, error) {
	p.note(ctx, "ensure")
	return p.Driver.Ensure(ctx, id, g, d)
}

func (p *patient) Remove(ctx context.Context, id api.ID) error {
	p.note(ctx, "remove")
	return p.Driver.Remove(ctx, id)
}

func (p *patient) List(ctx context.Context) ([]driver.Machine, error) {
	p.note(ctx, "list")
	return p.Driver.List(ctx)
}

func (p *patient) EnsureRule(ctx context.Context, rule driver.Rule) error {
	p.note(ctx, "ensure rule")
	return p.Driver.EnsureRule(ctx, rule)
}

func (p *patient) RemoveRule(ctx context.Context, machine, id api.ID) error {
	p.note(ctx, "remove rule")
	return p.Driver.RemoveRule(ctx, machine, id)
}

// TestNoDriverCallLastsForEver: it would hold its slot for as long.
func TestNoDriverCallLastsForEver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	d := &patient{Driver: b.sim, bounded: map[string]bool{}}
	b.start(t, d)
	id := b.create(t)
	rule := b.rule(t, id)
	b.awaitRule(t, rule, active)
	require.NoError(t, b.DeleteFirewallRule(t.Context(), rule))
	b.awaitRule(t, rule, func(r owlapi.FirewallRule) bool { return r.DeletedAt != nil })
	require.NoError(t, b.DeleteCVM(t.Context(), id))
	b.await(t, id, 1, api.StatusDeleted)
	d.mu.Lock()
	defer d.mu.Unlock()
	require.Equal(t, map[string]bool{"ensure": true, "remove": true, "list": true, "ensure rule": true, "remove rule": true}, d.bounded)
}

// flaky fails the first calls.
type flaky struct {
	driver.Driver
	failures atomic.Int64
}

func (f *flaky) Ensure(ctx context.Context, id api.ID, g int64, d driver.Desired) (driver.Observed, error) {
	if f.failures.Add(-1) >= 0 {
		return driver.Observed{}, errors.New("the host is busy")
	}
	return f.Driver.Ensure(ctx, id, g, d)
}

func (f *flaky) Remove(ctx context.Context, id api.ID) error {
	if f.failures.Add(-1) >= 0 {
		return errors.New("the host is busy")
	}
	return f.Driver.Remove(ctx, id)
}

func TestPassingErrorsAreRepeated(t *testing.T) {
	t.Parallel()
	b := setup(t)
	d := &flaky{Driver: b.sim}
	d.failures.Store(3)
	b.start(t, d)
	id := b.create(t)
	require.Nil(t, b.await(t, id, 1, api.StatusRunning).Error)
	d.failures.Store(2)
	require.NoError(t, b.DeleteCVM(t.Context(), id))
	b.await(t, id, 1, api.StatusDeleted)
}

// A mutation does not wait for the backoff of what it replaces.
func TestAMutationCutsABackoffShort(t *testing.T) {
	t.Parallel()
	b := setup(t)
	d := &flaky{Driver: b.sim}
	d.failures.Store(1)
	b.start(t, d)
	id := b.create(t)
	b.eventually(t, func() bool { return d.failures.Load() < 1 }, func() string { return "never called" })
	require.NoError(t, b.db.Exec(`UPDATE cvms SET due_at = now() + interval '1 hour' WHERE id = ?`, id).Error)
	b.put(t, id, 2, api.PowerRunning, "")
	b.await(t, id, 2, api.StatusRunning)
}

// hold stops the first Ensure before it reaches the driver, as a frozen
// process would be: whatever its context says, it goes on when released.
type hold struct {
	driver.Driver
	first   atomic.Bool
	reached chan struct{}
	gate    chan struct{}
	result  chan error
}

func newHold(d driver.Driver) *hold {
	return &hold{Driver: d, reached: make(chan struct{}), gate: make(chan struct{}), result: make(chan error, 1)}
}

func (h *hold) Ensure(ctx context.Context, id api.ID, g int64, d driver.Desired) (driver.Observed, error) {
	if !h.first.CompareAndSwap(false, true) {
		return h.Driver.Ensure(ctx, id, g, d)
	}
	close(h.reached)
	<-h.gate
	got, err := h.Driver.Ensure(context.WithoutCancel(ctx), id, g, d)
	h.result <- err
	return got, err
}

func (h *hold) release() { close(h.gate) }

// F37: an Owl is frozen between its claim and the driver call.
func TestAFrozenOwlChangesNothing(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		meanwhile func(t *testing.T, b *testBundle, id api.ID)
		refused   error
		effects   []string
	}{
		"deleted meanwhile": {
			func(t *testing.T, b *testBundle, id api.ID) {
				t.Helper()
				require.NoError(t, b.DeleteCVM(t.Context(), id))
				b.await(t, id, 0, api.StatusDeleted)
			},
			driver.ErrRemoved, nil,
		},
		"stopped and started meanwhile": {
			func(t *testing.T, b *testBundle, id api.ID) {
				t.Helper()
				b.put(t, id, 2, api.PowerStopped, "")
				b.await(t, id, 2, api.StatusStopped)
				b.put(t, id, 3, api.PowerRunning, "")
				b.await(t, id, 3, api.StatusRunning)
			},
			driver.ErrStale,
			[]string{"create", "start"},
		},
		"only taken over": {
			func(t *testing.T, b *testBundle, id api.ID) {
				t.Helper()
				require.NoError(t, b.db.Exec(`UPDATE cvms SET due_at = now() WHERE id = ?`, id).Error)
				b.await(t, id, 1, api.StatusRunning)
			},
			nil,
			[]string{"create", "start"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			zombie := newHold(b.sim)
			id := b.create(t)
			frozen := b.start(t, zombie, func(c *provision.Config) { c.Poll, c.Lease = time.Hour, time.Hour })
			<-zombie.reached
			b.start(t, b.openSim(t))
			tc.meanwhile(t, b, id)
			before := b.look(t, id)
			zombie.release()
			require.ErrorIs(t, <-zombie.result, tc.refused)
			b.eventually(t, func() bool { return frozen.results(t, "refused") == 1 },
				func() string { return "the zombie's result was not refused" })
			require.Equal(t, before, b.look(t, id))
			require.Equal(t, tc.effects, b.effects(t, id))
		})
	}
}

func TestTwoOwlsShareTheWork(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range 2 {
		b.start(t, b.openSim(t), func(c *provision.Config) { c.Lease = 200 * time.Millisecond })
	}
	ids := make([]api.ID, 60)
	for i := range ids {
		ids[i] = b.create(t)
	}
	for _, id := range ids {
		b.await(t, id, 1, api.StatusRunning)
		require.Equal(t, []string{"create", "start"}, b.effects(t, id))
	}
}

// An Owl that is killed while a machine boots loses nothing: the next one
// finishes the same boot.
func TestARestartInTheMiddleOfABoot(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *sim.Config) { c.Boot = 300 * time.Millisecond })
	first := b.start(t, nil)
	id := b.create(t)
	b.eventually(t, func() bool { return len(b.effects(t, id)) > 0 }, func() string { return "never created" })
	first.stop()
	require.Equal(t, api.StatusProvisioning, b.look(t, id).Status)
	var due bool
	require.NoError(t, b.db.Raw(`SELECT due_at <= now() FROM cvms WHERE id = ?`, id).Scan(&due).Error)
	require.True(t, due, "a shutdown gives its claims back")
	b.start(t, b.openSim(t))
	b.await(t, id, 1, api.StatusRunning)
	require.Equal(t, []string{"create", "start"}, b.effects(t, id))
}

func TestALeaseThatRanOutIsTakenOver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.create(t)
	// What a killed Owl leaves behind: a claim and no result.
	require.NoError(t, b.db.Exec(`UPDATE cvms SET fence = 7, due_at = now() + interval '100 ms' WHERE id = ?`, id).Error)
	b.start(t, nil)
	b.await(t, id, 1, api.StatusRunning)
}

func TestALongBootKeepsItsLease(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *sim.Config) { c.Boot = 3 * time.Second })
	o := b.start(t, nil, func(c *provision.Config) { c.Lease = 1200 * time.Millisecond }) // leaves 800 ms of slack
	id := b.create(t)
	b.await(t, id, 1, api.StatusRunning)
	require.InDelta(t, 1, o.count(t, "owl_driver_calls_total", prometheus.Labels{"call": "ensure"}), 0,
		"claimed once, in spite of a lease shorter than the boot")
}

// TestConnectionsThatDieInSilenceAreGivenUp: the database's host is gone, or it
// was a firewall. TCP would wait for minutes, and whoever prolongs claims
// claims nothing meanwhile.
func TestConnectionsThatDieInSilenceAreGivenUp(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t, migrations.Owl())
	proxy := pgproxy.Start(t, url)
	b := setupOn(t, openDB(t, url, 0))
	d := newHold(b.sim)
	b.start(t, d, func(c *provision.Config) { c.DB, c.Lease = openDB(t, proxy.URL, 2), 300*time.Millisecond })
	b.create(t)
	<-d.reached
	defer d.release()
	holder := b.db.Begin()
	defer holder.Rollback()
	require.NoError(t, holder.Exec("SELECT 1 FROM cvms FOR UPDATE").Error)
	b.eventually(t, func() bool {
		var waiting int
		err := b.db.Raw(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&waiting).Error
		return err == nil && waiting == 1
	}, func() string { return "nobody prolongs the claim" })
	proxy.Strand() // who prolongs it will not hear of the end of that
	require.NoError(t, holder.Rollback().Error)
	b.await(t, b.create(t), 1, api.StatusRunning)
}

func openDB(t *testing.T, url string, conns int32) *gorm.DB {
	t.Helper()
	db, err := pg.Open(t.Context(), pg.Config{URL: url, MaxConns: conns}, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pg.Close(db)) })
	return db
}

func TestManyBootAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *sim.Config) { c.Boot = 300 * time.Millisecond })
	b.start(t, nil)
	requests := make([]owlapi.CreateCVM, 150)
	for i := range requests {
		requests[i] = owlapi.CreateCVM{ID: b.mint.ID(), AppID: b.mint.ID(), Name: "web", Spec: json.RawMessage(`{}`)}
	}
	began := time.Now()
	_, err := b.CreateCVMs(t.Context(), requests)
	require.NoError(t, err)
	for _, r := range requests {
		b.await(t, r.ID, 1, api.StatusRunning)
	}
	t.Logf("%d machines in %s", len(requests), time.Since(began))
	require.Less(t, time.Since(began), 150*300*time.Millisecond/4, "they boot one after the other")
}

func TestCompareRepairs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	setting := b.start(t, nil)
	cut, lost, deleted := b.create(t), b.create(t), b.create(t)
	for _, id := range []api.ID{cut, lost, deleted} {
		b.await(t, id, 1, api.StatusRunning)
	}
	setting.stop()
	// The host fails; somebody loses a machine's record; Owl's deletion never
	// reached the driver (a restore); and there is a machine of nobody's.
	require.NoError(t, b.sim.PowerCut(t.Context(), cut))
	require.NoError(t, os.Remove(filepath.Join(b.cfg.Dir, "machines", lost.String()+".json")))
	require.NoError(t, b.db.Exec(`UPDATE cvms SET delete_requested_at = now(), deleted_at = now(), due_at = NULL,
		status = 'deleted' WHERE id = ?`, deleted).Error)
	stranger := b.mint.ID()
	_, err := b.sim.Ensure(t.Context(), stranger, 1, driver.Desired{Power: api.PowerStopped})
	require.NoError(t, err)

	o := b.start(t, nil, func(c *provision.Config) { c.Compare = 50 * time.Millisecond })
	b.eventually(t, func() bool {
		return len(b.effects(t, cut)) == 3 && len(b.effects(t, lost)) == 4 && len(b.effects(t, deleted)) == 3
	}, func() string { return fmt.Sprint(b.effects(t, cut), b.effects(t, lost), b.effects(t, deleted)) })
	require.Equal(t, []string{"create", "start", "start"}, b.effects(t, cut))
	require.Equal(t, []string{"create", "start", "remove"}, b.effects(t, deleted))
	require.Equal(t, []string{"create"}, b.effects(t, stranger), "left alone")
	require.InDelta(t, 1, o.count(t, "owl_unknown_machines", nil), 0)
	b.await(t, cut, 1, api.StatusRunning)
}

// stuck never gets one machine removed: somebody holds on to it.
type stuck struct {
	driver.Driver
	id      api.ID
	reached chan struct{}
	once    sync.Once
}

func (s *stuck) Remove(ctx context.Context, id api.ID) error {
	if id != s.id {
		return s.Driver.Remove(ctx, id)
	}
	s.once.Do(func() { close(s.reached) })
	<-ctx.Done()
	return ctx.Err()
}

func TestAMachineThatNobodyCanRemoveEndsNoComparisons(t *testing.T) {
	t.Parallel()
	b := setup(t)
	setting := b.start(t, nil)
	cut, deleted := b.create(t), b.create(t)
	b.await(t, cut, 1, api.StatusRunning)
	b.await(t, deleted, 1, api.StatusRunning)
	setting.stop()
	require.NoError(t, b.db.Exec(`UPDATE cvms SET delete_requested_at = now(), deleted_at = now(), due_at = NULL WHERE id = ?`, deleted).Error)
	d := &stuck{Driver: b.sim, id: deleted, reached: make(chan struct{})}
	b.start(t, d, func(c *provision.Config) { c.Compare = 50 * time.Millisecond })
	<-d.reached
	require.NoError(t, b.sim.PowerCut(t.Context(), cut))
	b.eventually(t, func() bool { return len(b.effects(t, cut)) == 3 }, func() string { return "no other comparison" })
}

// A failed machine is not what it should be, and that is known: it is not
// tried again every minute.
func TestCompareLeavesFailuresAlone(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *sim.Config) { c.Fail = regexp.MustCompile(".") })
	o := b.start(t, nil, func(c *provision.Config) { c.Compare = 20 * time.Millisecond })
	id := b.create(t)
	b.await(t, id, 1, api.StatusFailed)
	lists := func() float64 { return o.count(t, "owl_driver_calls_total", prometheus.Labels{"call": "list"}) }
	from := lists()
	b.eventually(t, func() bool { return lists() > from+3 }, func() string { return "no comparison" })
	require.InDelta(t, 1, o.count(t, "owl_driver_calls_total", prometheus.Labels{"call": "ensure"}), 0)
}

func (b *testBundle) rule(t *testing.T, cvmID api.ID) api.ID {
	t.Helper()
	rule := owlapi.CreateFirewallRule{ID: b.mint.ID(), CVMID: cvmID, CIDR: "10.0.0.0/8"}
	made, err := b.CreateFirewallRule(t.Context(), rule)
	require.NoError(t, err)
	require.NoError(t, made.Err)
	return rule.ID
}

func (b *testBundle) awaitRule(t *testing.T, id api.ID, done func(owlapi.FirewallRule) bool) {
	t.Helper()
	var last []owlapi.FirewallRule
	b.eventually(t, func() bool {
		var err error
		last, err = b.FirewallRules(t.Context(), registry.List{IDs: []api.ID{id}})
		return err == nil && len(last) == 1 && done(last[0])
	}, func() string { return fmt.Sprintf("%+v", last) })
}

func active(r owlapi.FirewallRule) bool { return r.Status == owlapi.RuleActive }
func gone(r owlapi.FirewallRule) bool   { return r.DeletedAt != nil }

func TestRulesFollowTheirMachine(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.start(t, nil)
	cvm := b.create(t)
	early := b.rule(t, cvm)
	b.await(t, cvm, 1, api.StatusRunning)
	late := b.rule(t, cvm)
	b.awaitRule(t, early, active)
	b.awaitRule(t, late, active)
	require.NoError(t, b.DeleteFirewallRule(t.Context(), late))
	b.awaitRule(t, late, gone)
	err := b.sim.EnsureRule(t.Context(), driver.Rule{ID: late, Machine: cvm})
	require.ErrorIs(t, err, driver.ErrRemoved)
	require.NoError(t, b.DeleteCVM(t.Context(), cvm))
	b.awaitRule(t, early, gone)
}

// plain hides the sim's filter.
type plain struct{ driver.Driver }

func TestADriverWithoutAFilter(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.start(t, plain{b.sim})
	cvm := b.create(t)
	b.await(t, cvm, 1, api.StatusRunning)
	rule := b.rule(t, cvm)
	b.awaitRule(t, rule, func(r owlapi.FirewallRule) bool {
		return r.Status == owlapi.RuleFailed && r.Error.Code == "FIREWALL_UNSUPPORTED"
	})
	require.NoError(t, b.DeleteFirewallRule(t.Context(), rule))
	b.awaitRule(t, rule, gone)
}

func TestMetricsAreWellFormed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	o := b.start(t, nil)
	id := b.create(t)
	b.await(t, id, 1, api.StatusRunning)
	families, err := o.metrics.Gather()
	require.NoError(t, err)
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	require.NoError(t, err)
	require.Empty(t, problems)
}

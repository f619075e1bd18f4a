package provision_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/owlapi"
	"roost/owl/driver"
	"roost/owl/driver/sim"
	"roost/owl/provision"
)

// poison is a driver that panics over one machine, as long as it is set.
type poison struct {
	*sim.Driver

	machine atomic.Pointer[api.ID]
	lists   atomic.Bool
	met     atomic.Int64
}

func (p *poison) taste(id api.ID) {
	if bad := p.machine.Load(); bad != nil && *bad == id {
		p.met.Add(1)
		panic("poisonous")
	}
}

func (p *poison) Ensure(ctx context.Context, id api.ID, g int64, d driver.Desired) (driver.Observed, error) {
	p.taste(id)
	return p.Driver.Ensure(ctx, id, g, d)
}

func (p *poison) Remove(ctx context.Context, id api.ID) error {
	p.taste(id)
	return p.Driver.Remove(ctx, id)
}

func (p *poison) EnsureRule(ctx context.Context, rule driver.Rule) error {
	p.taste(rule.ID)
	return p.Driver.EnsureRule(ctx, rule)
}

func (p *poison) List(ctx context.Context) ([]driver.Machine, error) {
	if p.lists.Load() {
		p.met.Add(1)
		panic("poisonous")
	}
	return p.Driver.List(ctx)
}

// log is a log that may be read while it is written.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), text)
}

func setupPoison(t *testing.T) (*testBundle, *poison, *owl, *log) {
	t.Helper()
	b, out := setup(t), &log{}
	p := &poison{Driver: b.sim}
	o := b.start(t, p, func(c *provision.Config) {
		c.Logger, c.Compare = slog.New(slog.NewTextHandler(out, nil)), soon
	})
	return b, p, o, out
}

func (b *testBundle) awaitTaste(t *testing.T, p *poison) {
	t.Helper()
	b.eventually(t, func() bool { return p.met.Load() > 2 }, func() string { return "it is not tried again" })
}

func TestOnePoisonousMachineHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	b, p, o, out := setupPoison(t)
	bad := b.mint.ID()
	p.machine.Store(&bad)
	b.create(t, func(c *owlapi.CreateCVM) { c.ID = bad })
	b.awaitTaste(t, p)
	b.await(t, b.create(t), 1, api.StatusRunning)
	require.Equal(t, api.StatusProvisioning, b.look(t, bad).Status)
	require.True(t, out.has("panic: poisonous") && out.has("poison).taste") && out.has("id="+bad.String()), "told with stack and ID")
	require.Positive(t, o.count(t, "owl_panics_total", prometheus.Labels{"unit": "driver"}))
	p.machine.Store(nil)
	b.await(t, bad, 1, api.StatusRunning)

	p.machine.Store(&bad)
	p.met.Store(0)
	require.NoError(t, b.DeleteCVM(t.Context(), bad))
	b.awaitTaste(t, p)
	require.Nil(t, b.look(t, bad).DeletedAt)
	p.machine.Store(nil)
	b.eventually(t, func() bool { return b.look(t, bad).DeletedAt != nil }, func() string { return "not removed" })
}

func TestOnePoisonousRuleHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	b, p, _, _ := setupPoison(t)
	cvm := b.create(t)
	b.await(t, cvm, 1, api.StatusRunning)
	bad := b.mint.ID()
	p.machine.Store(&bad)
	_, err := b.CreateFirewallRule(t.Context(), owlapi.CreateFirewallRule{ID: bad, CVMID: cvm, CIDR: "10.0.0.0/8"})
	require.NoError(t, err)
	b.awaitTaste(t, p)
	b.awaitRule(t, b.rule(t, cvm), active)
	p.machine.Store(nil)
	b.awaitRule(t, bad, active)
}

func TestAPanicInAComparisonEndsThatComparison(t *testing.T) {
	t.Parallel()
	b, p, o, _ := setupPoison(t)
	id := b.create(t)
	b.await(t, id, 1, api.StatusRunning)
	p.lists.Store(true)
	b.awaitTaste(t, p)
	require.NoError(t, b.sim.PowerCut(t.Context(), id))
	b.await(t, b.create(t), 1, api.StatusRunning)
	require.Positive(t, o.count(t, "owl_panics_total", nil))
	p.lists.Store(false)
	b.eventually(t, func() bool {
		return o.count(t, "owl_compare_differences_total", prometheus.Labels{"action": "applied_again"}) > 0
	}, func() string { return "no comparison" })
	b.await(t, id, 1, api.StatusRunning)
}

package provision

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"gorm.io/gorm"

	"roost/models"
	"roost/models/bulkhead"
	"roost/owl/driver"
)

// Defaults and limits.
const (
	defaultLease   = 10 * time.Second
	defaultPoll    = 500 * time.Millisecond
	defaultCompare = time.Minute
	// defaultSlots is how many driver calls run at once, of each queue. Nearly
	// all of their time is waiting.
	defaultSlots = 256

	driverTimeout = 15 * time.Minute // for one call; then it is made again
	backoffFirst  = 200 * time.Millisecond
	backoffMax    = 15 * time.Second
	resultTimeout = 5 * time.Second // for a statement: a connection that died in silence hangs for minutes
	claimRows     = 64              // in one statement
	sampleEvery   = 5 * time.Second // of the backlog
)

// Config names what a Provisioner works with. Zero durations and counts mean
// the defaults.
type Config struct {
	DB       *gorm.DB
	Driver   driver.Driver
	Logger   *slog.Logger
	Registry prometheus.Registerer

	Lease   time.Duration // how long a claim keeps others away
	Poll    time.Duration // how soon work is seen that nobody announced
	Compare time.Duration // between two comparisons with the driver's List
	Slots   int           // driver calls at once, of each queue
}

func (c Config) withDefaults() Config {
	c.Lease = orDefault(c.Lease, defaultLease)
	c.Poll = orDefault(c.Poll, defaultPoll)
	c.Compare = orDefault(c.Compare, defaultCompare)
	c.Slots = orDefault(c.Slots, defaultSlots)
	return c
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// Provisioner is one Owl's share of the work.
type Provisioner struct {
	cfg      Config
	metrics  *metrics
	hold     *bulkhead.Bulkhead
	driver   calls
	machines *queue[models.OwlCVM]
	rules    *queue[models.OwlFirewallRule]
}

// New makes a Provisioner. It does nothing before Run.
func New(cfg Config) *Provisioner {
	cfg = cfg.withDefaults()
	p := &Provisioner{cfg: cfg, metrics: newMetrics(cfg.Registry), hold: bulkhead.New(cfg.Registry, "owl_panics_total")}
	p.driver = newCalls(cfg.Driver, p.hold, p.metrics)
	p.machines = newQueue(p, "cvms", machineColumns, p.machine,
		func(row models.OwlCVM) claim { return claim{id: row.ID, fence: row.Fence} })
	p.rules = newQueue(p, "firewall_rules", ruleColumns, p.rule,
		func(row models.OwlFirewallRule) claim { return claim{id: row.ID, fence: row.Fence} })
	return p
}

// Wake says that there is work. It never blocks, and losing it is harmless.
func (p *Provisioner) Wake() {
	p.machines.signal()
	p.rules.signal()
}

// Run works until ctx ends, and returns when its work has stopped and what it
// had claimed is free for others.
func (p *Provisioner) Run(ctx context.Context) {
	var parts sync.WaitGroup
	parts.Go(func() { p.machines.run(ctx) })
	parts.Go(func() { p.rules.run(ctx) })
	parts.Go(func() { every(ctx, p.cfg.Compare, func() { p.contain(ctx, "compare", func() { p.compare(ctx) }) }) })
	parts.Go(func() { every(ctx, sampleEvery, func() { p.contain(ctx, "sample", func() { p.sample(ctx) }) }) })
	parts.Wait()
}

// every runs fn at once and then at the interval, until ctx ends.
func every(ctx context.Context, interval time.Duration, fn func()) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		fn()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

package maintenance

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"gorm.io/gorm"

	"roost/api"
	"roost/api/owlapi"
	"roost/models/bulkhead"
)

const (
	// reapEvery is how often the reapers look, if SweepInterval is not shorter.
	reapEvery = time.Minute
	// jitterShare of every pause is random, so that nodes do not march in step.
	jitterShare = 0.2
)

// Owl is what maintenance asks of it. Each call is one request.
type Owl interface {
	CVMs(ctx context.Context, list owlapi.List) ([]owlapi.CVM, error)
	FirewallRules(ctx context.Context, list owlapi.List) ([]owlapi.FirewallRule, error)
	DeleteCVM(ctx context.Context, id api.ID) error
	DeleteFirewallRule(ctx context.Context, id api.ID) error
}

// Config is what Maintenance stands on.
type Config struct {
	DB       *gorm.DB
	Owl      Owl
	Logger   *slog.Logger
	Registry prometheus.Registerer
	Minter   *api.Minter // of request IDs

	KeyTTL        time.Duration // how long a key is kept; what it names is kept longer
	SweepInterval time.Duration // how often everything is compared with Owl
	// Due is called when rows were made due. It must not block, and losing a
	// call must be harmless.
	Due func()
}

// Maintenance is one node's part of the work. Any number may run.
type Maintenance struct {
	cfg     Config
	db      *gorm.DB
	metrics *metrics
	hold    *bulkhead.Bulkhead
	look    look
	history historyCursor
}

// New makes a Maintenance; Run starts it.
func New(cfg Config) *Maintenance {
	return &Maintenance{
		cfg: cfg, db: cfg.DB, metrics: newMetrics(cfg.Registry, cfg.DB),
		hold: bulkhead.New(cfg.Registry, "roost_panics_total"),
	}
}

// Run works until ctx ends. It gives no step up halfway but one that waits
// for Owl: each is one statement.
func (m *Maintenance) Run(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { m.repeat(ctx, min(reapEvery, m.cfg.SweepInterval), m.Reap); return nil })
	g.Go(func() error { m.repeat(ctx, min(lookEvery, m.cfg.SweepInterval), m.Look); return nil })
	return g.Wait()
}

// repeat does the work at once and then about every pause until ctx ends.
func (m *Maintenance) repeat(ctx context.Context, pause time.Duration, work func(context.Context)) {
	for ctx.Err() == nil {
		work(ctx)
		timer := time.NewTimer(jittered(pause))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// jittered is d, give or take half of jitterShare.
func jittered(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (1 + jitterShare*(rand.Float64()-0.5))) //nolint:gosec // a pause is no secret
}

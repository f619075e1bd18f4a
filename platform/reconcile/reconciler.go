package reconcile

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"gorm.io/gorm"

	"roost/api"
	"roost/api/owlapi"
	"roost/models/bulkhead"
)

const (
	// claimLimit is how many rows one claim takes; a batch has as many.
	claimLimit = owlapi.MaxBatchItems
	// maxPushes bounds the claims that are being pushed at one time.
	maxPushes = 4
	// pollInterval is how soon a row is found that nobody woke us for.
	pollInterval = 250 * time.Millisecond
	// dbPause is how long a loop rests after the database failed it.
	dbPause = time.Second
	// minCallTimeout is what a call to Owl is given under the shortest lease.
	minCallTimeout = time.Second
)

// Owl is what the reconciler asks of it. Each call is one request.
type Owl interface {
	CreateCVMs(ctx context.Context, items []json.RawMessage) ([]owlapi.BatchItem, error)
	CVMsByID(ctx context.Context, ids []api.ID) ([]owlapi.CVM, error)
	PutCVM(ctx context.Context, id api.ID, put owlapi.PutCVM) (owlapi.CVM, error)
	DeleteCVM(ctx context.Context, id api.ID) error
	CreateFirewallRule(ctx context.Context, create owlapi.CreateFirewallRule) (owlapi.FirewallRule, bool, error)
	FirewallRules(ctx context.Context, list owlapi.List) ([]owlapi.FirewallRule, error)
	DeleteFirewallRule(ctx context.Context, id api.ID) error
}

// Config is what a Reconciler stands on.
type Config struct {
	DB       *gorm.DB
	Owl      Owl
	Logger   *slog.Logger
	Registry prometheus.Registerer

	Minter     *api.Minter   // of request IDs
	Lease      time.Duration // how long a claim keeps others away
	BackoffMax time.Duration // the longest pause between two tries of a row
}

// Reconciler is one node's part of the work. Any number may run.
type Reconciler struct {
	cfg     Config
	db      *gorm.DB
	wake    chan struct{}
	watch   *watch
	silence silence
	pace    pace
	metrics *metrics
	hold    *bulkhead.Bulkhead
}

// New makes a Reconciler; Run starts it.
func New(cfg Config) *Reconciler {
	cfg.Owl = calls{cfg.Owl}
	return &Reconciler{
		cfg:     cfg,
		db:      cfg.DB,
		wake:    make(chan struct{}, 1),
		watch:   newWatch(),
		metrics: newMetrics(cfg.Registry, cfg.DB),
		hold:    bulkhead.New(cfg.Registry, "roost_panics_total"),
	}
}

// Wake says that a row has fallen due. It never blocks; losing it costs
// pollInterval.
func (r *Reconciler) Wake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run works until ctx ends and every push that it began has been settled or
// given up. Of what it has claimed it sends what it would have sent.
func (r *Reconciler) Run(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { r.pushLoop(ctx); return nil })
	g.Go(func() error { r.observeLoop(ctx); return nil })
	g.Go(func() error { r.ruleLoop(ctx); return nil })
	return g.Wait()
}

// pushLoop claims while there is something due and a slot free. It takes the
// slot first: a claim that waits for one would only age.
func (r *Reconciler) pushLoop(ctx context.Context) {
	slots := make(chan struct{}, maxPushes)
	var pushes sync.WaitGroup
	defer pushes.Wait()
	for ctx.Err() == nil {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		if r.silence.holds() {
			r.probe(ctx)
			<-slots
			continue
		}
		rows, err := r.claim(ctx, r.pace.rows())
		if err != nil {
			r.cfg.Logger.ErrorContext(ctx, "cannot claim due rows", slog.Any("error", err))
		}
		if len(rows) == 0 {
			<-slots
			if !r.idle(ctx, err != nil) {
				return
			}
			continue
		}
		pushes.Go(func() {
			defer func() { <-slots }()
			r.push(context.WithoutCancel(ctx), rows)
		})
	}
}

// probe pushes the row that has been due longest, and nothing else until that
// has ended.
func (r *Reconciler) probe(ctx context.Context) {
	if !rest(ctx, probeEvery) {
		return
	}
	rows, err := r.claim(ctx, 1)
	if err != nil {
		r.cfg.Logger.ErrorContext(ctx, "cannot claim the row that has been due longest", slog.Any("error", err))
		return
	}
	r.push(context.WithoutCancel(ctx), rows)
}

// idle waits for something to do and reports whether to go on.
func (r *Reconciler) idle(ctx context.Context, failed bool) bool {
	pause, wake := pollInterval, r.wake
	if failed {
		pause, wake = dbPause, nil
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-wake:
		return true
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// callTimeout is for one request to Owl: well inside the lease, so that a
// slow Owl does not make a second node repeat the work, unless the lease is
// shorter than any call.
func (r *Reconciler) callTimeout() time.Duration { return max(r.cfg.Lease/2, minCallTimeout) }

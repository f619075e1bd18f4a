// Package owl is the internal service: it owns the machines, and hears of them
// only under IDs that its caller chose.
//
// It promises that a create may be sent any number of times and makes one
// machine, and that what was deleted stays deleted. It never mints an ID and
// never calls anyone but its database and its driver. This package only wires
// the parts together:
//
//	httpapi ──▶ registry        what was asked for: one statement, then the answer
//	               │ wake
//	               ▼
//	           provision ──▶ driver      until the machines are so
package owl

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"gorm.io/gorm"

	"roost/api"
	"roost/models/bulkhead"
	"roost/models/migrations"
	"roost/owl/driver"
	"roost/owl/httpapi"
	"roost/owl/provision"
	"roost/owl/registry"
)

// Defaults and limits.
const (
	DefaultTombstoneTTL = 720 * time.Hour

	readyTimeout = 2 * time.Second // of the check behind /readyz
	reapInterval = 10 * time.Minute
	reapRows     = 1000 // in one statement
)

// Config is what the service stands on. Zero durations mean the defaults.
type Config struct {
	DB       *gorm.DB
	Driver   driver.Driver
	Logger   *slog.Logger
	Registry *prometheus.Registry

	// Token is what callers must present. Empty lets everyone in, which is
	// for loopback alone; whoever opens the listener sees to that.
	Token string
	// Lease is how long a claim of the provisioner keeps others away.
	Lease time.Duration
	// TombstoneTTL is how long a deleted ID stays refused after its machine
	// is gone. It must be far longer than any create can be delayed.
	TombstoneTTL time.Duration
	// Compare is the time between comparisons with the driver's List.
	Compare time.Duration
}

// Service is one Owl. Any number may share a database and a driver's host.
type Service struct {
	handler      http.Handler
	resources    *registry.Registry
	provisioner  *provision.Provisioner
	log          *slog.Logger
	hold         *bulkhead.Bulkhead
	tombstoneTTL time.Duration
}

// New wires an Owl. It starts nothing.
func New(cfg Config) (*Service, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("configure owl: %w", err)
	}
	pool, err := cfg.DB.DB()
	if err != nil {
		return nil, fmt.Errorf("configure owl: %w", err)
	}
	provisioner := provision.New(provision.Config{
		DB: cfg.DB, Driver: cfg.Driver, Logger: cfg.Logger, Registry: cfg.Registry,
		Lease: cfg.Lease, Compare: cfg.Compare,
	})
	resources := registry.New(cfg.DB, provisioner.Wake)
	handler := httpapi.New(httpapi.Config{
		Resources: resources, Minter: api.NewMinter(), Logger: cfg.Logger, Registry: cfg.Registry, Token: cfg.Token,
		Ready: func(ctx context.Context) error { return ready(ctx, pool) },
	})
	ttl := cfg.TombstoneTTL
	if ttl == 0 {
		ttl = DefaultTombstoneTTL
	}
	return &Service{
		handler: handler, resources: resources, provisioner: provisioner, log: cfg.Logger, tombstoneTTL: ttl,
		hold: bulkhead.New(cfg.Registry, "owl_panics_total"),
	}, nil
}

func (c Config) validate() error {
	var errs []error
	if c.DB == nil || c.Driver == nil || c.Logger == nil || c.Registry == nil {
		errs = append(errs, errors.New("DB, Driver, Logger and Registry are required"))
	}
	if c.Lease < 0 || c.TombstoneTTL < 0 || c.Compare < 0 {
		errs = append(errs, errors.New("durations must not be negative"))
	}
	return errors.Join(errs...)
}

// Handler serves the private API.
func (s *Service) Handler() http.Handler { return s.handler }

// Run does the background work until ctx ends, and returns nil when it has
// stopped. The handler works without it: what is asked for waits in its rows.
func (s *Service) Run(ctx context.Context) error {
	var parts sync.WaitGroup
	parts.Go(func() { s.provisioner.Run(ctx) })
	parts.Go(func() { s.reapTombstones(ctx) })
	parts.Wait()
	return nil
}

// reapTombstones forgets old tombstones, batch after batch, now and then.
func (s *Service) reapTombstones(ctx context.Context) {
	ticker := time.NewTicker(reapInterval)
	defer ticker.Stop()
	for {
		var reaped int64
		err := s.hold.Run("reap", func() (err error) {
			reaped, err = s.resources.Reap(ctx, s.tombstoneTTL, reapRows)
			return err
		})
		if err != nil && ctx.Err() == nil {
			s.log.LogAttrs(ctx, slog.LevelWarn, "cannot reap tombstones", slog.Any("error", err))
		}
		if reaped >= reapRows && err == nil {
			continue // there may be more
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// ready is about this process and its database; machines are not its matter.
func ready(ctx context.Context, pool *sql.DB) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	return migrations.Check(ctx, pool, migrations.Owl())
}

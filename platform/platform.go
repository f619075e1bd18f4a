// Package platform is the public service: it accepts what clients ask for,
// remembers what was promised to whom, assigns every ID, and brings Owl in
// line with it.
//
// It promises that a request with an Idempotency-Key is done at most once and
// answered the same however often it is sent, and that what was acknowledged
// reaches Owl whatever dies in between. It never talks to Owl while a client
// waits. This package only wires the parts together:
//
//	httpapi ──▶ fleet ──▶ idempotency      accept: one transaction
//	              │ wake
//	              ▼
//	          reconcile ──▶ Owl            push, watch, until it knows
//	              ▲ due
//	         maintenance ─▶ Owl            compare, record orphans; remove what is old
package platform

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
	"gorm.io/gorm"

	"roost/api"
	"roost/api/owlapi"
	"roost/models/migrations"
	"roost/models/pg"
	"roost/platform/fleet"
	"roost/platform/httpapi"
	"roost/platform/maintenance"
	"roost/platform/reconcile"
	"roost/platform/token"
)

// MaxKeyWait is the longest KeyWait: a wait for a key must end by itself, and
// not by the database's limit on a statement.
const MaxKeyWait = 8 * time.Second

// readyTimeout bounds the check behind /readyz.
const readyTimeout = 2 * time.Second

// Config is what the service stands on.
type Config struct {
	DB       *gorm.DB
	Logger   *slog.Logger
	Registry *prometheus.Registry

	OwlURL   string
	OwlToken string
	OwlHTTP  *http.Client // nil: plain HTTP

	KeyTTL       time.Duration
	KeyWait      time.Duration // 0: not at all; at most MaxKeyWait
	ProvisionTTL time.Duration
	MaxCVMs      int64   // per workspace
	RateLimit    float64 // requests per second, token and process; 0: off

	ReconcileLease      time.Duration
	ReconcileBackoffMax time.Duration
	SweepInterval       time.Duration // between two comparisons of everything with Owl; 0: no maintenance on this node
}

// Validate returns everything that is wrong with the numbers.
func (c Config) Validate() error {
	var errs []error
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"key TTL", c.KeyTTL},
		{"provision TTL", c.ProvisionTTL},
		{"reconcile lease", c.ReconcileLease},
		{"longest backoff", c.ReconcileBackoffMax},
	} {
		if d.value <= 0 {
			errs = append(errs, fmt.Errorf("%s must be positive, not %s", d.name, d.value))
		}
	}
	if c.KeyWait < 0 || c.KeyWait > MaxKeyWait {
		errs = append(errs, fmt.Errorf("key wait must be from 0s to %s, not %s", MaxKeyWait, c.KeyWait))
	}
	if c.SweepInterval < 0 {
		errs = append(errs, fmt.Errorf("sweep interval must not be negative, not %s", c.SweepInterval))
	}
	if c.MaxCVMs < 1 {
		errs = append(errs, fmt.Errorf("quota of CVMs must be positive, not %d", c.MaxCVMs))
	}
	if c.RateLimit < 0 {
		errs = append(errs, fmt.Errorf("rate limit must not be negative, not %g", c.RateLimit))
	}
	return errors.Join(errs...)
}

// Service is one node of Platform.
type Service struct {
	handler     http.Handler
	reconciler  *reconcile.Reconciler
	maintenance *maintenance.Maintenance // nil: not on this node
}

// New wires a node. It starts nothing.
func New(cfg Config) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure platform: %w", err)
	}
	pool, err := cfg.DB.DB()
	if err != nil {
		return nil, fmt.Errorf("configure platform: %w", err)
	}
	mint := api.NewMinter()
	owl := owlapi.New(owlapi.Config{BaseURL: cfg.OwlURL, Token: cfg.OwlToken, HTTP: cfg.OwlHTTP})
	reconciler := reconcile.New(reconcile.Config{
		DB: cfg.DB, Owl: owl, Logger: cfg.Logger, Registry: cfg.Registry, Minter: mint,
		Lease: cfg.ReconcileLease, BackoffMax: cfg.ReconcileBackoffMax,
	})
	handler := httpapi.New(httpapi.Config{
		Fleet: fleet.New(fleet.Config{
			DB: cfg.DB, Minter: mint, Logger: cfg.Logger,
			KeyTTL: cfg.KeyTTL, KeyWait: cfg.KeyWait, ProvisionTTL: cfg.ProvisionTTL, MaxCVMs: cfg.MaxCVMs,
			Accepted: reconciler.Wake,
		}),
		Minter: mint, Logger: cfg.Logger, Registry: cfg.Registry,
		RateLimit: rate.Limit(cfg.RateLimit),
		Authenticate: func(ctx context.Context, secret string) (token.Caller, error) {
			return token.Authenticate(ctx, cfg.DB, secret)
		},
		Transient: pg.IsTransient,
		Ready:     func(ctx context.Context) error { return ready(ctx, pool) },
	})
	s := &Service{handler: handler, reconciler: reconciler}
	if cfg.SweepInterval > 0 {
		s.maintenance = maintenance.New(maintenance.Config{
			DB: cfg.DB, Owl: owl, Logger: cfg.Logger, Registry: cfg.Registry, Minter: mint,
			KeyTTL: cfg.KeyTTL, SweepInterval: cfg.SweepInterval, Due: reconciler.Wake,
		})
	}
	return s, nil
}

// Handler serves the public API.
func (s *Service) Handler() http.Handler { return s.handler }

// Run does the background work until ctx ends, and returns when it has
// stopped. The handler works without it: what is accepted waits in its rows.
func (s *Service) Run(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { return s.reconciler.Run(ctx) })
	if s.maintenance != nil {
		g.Go(func() error { return s.maintenance.Run(ctx) })
	}
	return g.Wait()
}

// ready is about this node and its database alone: creates are accepted while
// Owl is down.
func ready(ctx context.Context, pool *sql.DB) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	return migrations.Check(ctx, pool, migrations.Platform())
}

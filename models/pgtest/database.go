package pgtest

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"gorm.io/gorm"

	"roost/models/migrations"
	"roost/models/pg"
)

// setupTimeout bounds what one test waits for its database, a server's start
// included.
const setupTimeout = 3 * time.Minute

// Platform opens a private database with the schema of the public service.
func Platform(tb testing.TB) *gorm.DB {
	tb.Helper()
	return open(tb, migrations.Platform())
}

// Owl opens a private database with the schema of the internal service.
func Owl(tb testing.TB) *gorm.DB {
	tb.Helper()
	return open(tb, migrations.Owl())
}

func open(tb testing.TB, set migrations.Set) *gorm.DB {
	tb.Helper()
	// The URL's cleanup is registered first, and so runs after the pool's.
	address := URL(tb, set)
	db, err := pg.Open(tb.Context(), pg.Config{URL: address, AppName: "roost-test"}, slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	tb.Cleanup(func() {
		if err := pg.Close(db); err != nil {
			tb.Errorf("pgtest: %v", err)
		}
	})
	return db
}

// URL makes a private database with the schema of set and returns its URL, for
// tests that start processes. It is dropped at the end of the test, whoever is
// still connected to it.
func URL(tb testing.TB, set migrations.Set) string {
	tb.Helper()
	return private(tb, func(ctx context.Context, s *Server) (string, error) { return s.Clone(ctx, set) })
}

// Empty is like URL, but without any schema.
func Empty(tb testing.TB) string {
	tb.Helper()
	return private(tb, func(ctx context.Context, s *Server) (string, error) { return s.create(ctx, "") })
}

func private(tb testing.TB, create func(context.Context, *Server) (string, error)) string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), setupTimeout)
	defer cancel()
	server, err := shared(ctx)
	if err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	name, err := create(ctx, server)
	if err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	tb.Cleanup(func() {
		// The test's own context has ended by now.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if err := server.drop(ctx, name); err != nil {
			tb.Errorf("pgtest: %v", err)
		}
	})
	return server.URL(name)
}

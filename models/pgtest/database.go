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
func Platform(t testing.TB) *gorm.DB {
	t.Helper()
	return open(t, migrations.Platform())
}

// Owl opens a private database with the schema of the internal service.
func Owl(t testing.TB) *gorm.DB {
	t.Helper()
	return open(t, migrations.Owl())
}

func open(t testing.TB, set migrations.Set) *gorm.DB {
	t.Helper()
	// The URL's cleanup is registered first, and so runs after the pool's.
	address := URL(t, set)
	db, err := pg.Open(t.Context(), pg.Config{URL: address, AppName: "roost-test"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		if err := pg.Close(db); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	return db
}

// URL makes a private database with the schema of set and returns its URL, for
// tests that start processes. It is dropped at the end of the test, whoever is
// still connected to it.
func URL(t testing.TB, set migrations.Set) string {
	t.Helper()
	return private(t, func(ctx context.Context, s *Server) (string, error) { return s.Clone(ctx, set) })
}

// Empty is like URL, but without any schema.
func Empty(t testing.TB) string {
	t.Helper()
	return private(t, func(ctx context.Context, s *Server) (string, error) { return s.create(ctx, "") })
}

func private(t testing.TB, create func(context.Context, *Server) (string, error)) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), setupTimeout)
	defer cancel()
	server, err := shared(ctx)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	name, err := create(ctx, server)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		// The test's own context has ended by now.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if err := server.drop(ctx, name); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	return server.URL(name)
}

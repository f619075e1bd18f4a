package harness

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Snapshot is a backup of a database, to be restored once.
type Snapshot struct {
	tb    testing.TB
	admin string // URL of the maintenance database
	name  string // of the database
}

// SnapshotPlatform backs up Platform's database. Its sessions are ended for
// that: a copy can be made of a database that nobody uses.
func (s *Stack) SnapshotPlatform() *Snapshot { s.T.Helper(); return take(s.T, s.platformURL) }

// SnapshotOwl backs up Owl's.
func (s *Stack) SnapshotOwl() *Snapshot { s.T.Helper(); return take(s.T, s.owlURL) }

func take(tb testing.TB, address string) *Snapshot {
	tb.Helper()
	u, err := url.Parse(address)
	if err != nil {
		tb.Fatalf("harness: parse database URL: %v", err)
	}
	s := &Snapshot{tb: tb, name: strings.TrimPrefix(u.Path, "/")}
	u.Path = "/postgres"
	s.admin = u.String()
	s.administer(
		s.close(), s.end(),
		"CREATE DATABASE "+s.quoted("_copy")+" TEMPLATE "+s.quoted(""),
		s.open(),
	)
	tb.Cleanup(func() {
		for _, suffix := range []string{"_copy", "_lost"} {
			s.administer("DROP DATABASE IF EXISTS " + s.quoted(suffix) + " WITH (FORCE)")
		}
	})
	return s
}

// Restore puts the backup in the database's place, under everybody's hands.
func (s *Snapshot) Restore() {
	s.tb.Helper()
	s.administer(
		s.close(), s.end(),
		"ALTER DATABASE "+s.quoted("")+" RENAME TO "+s.quoted("_lost"),
		"ALTER DATABASE "+s.quoted("_copy")+" RENAME TO "+s.quoted(""),
	)
}

func (s *Snapshot) quoted(suffix string) string { return pgx.Identifier{s.name + suffix}.Sanitize() }

func (s *Snapshot) close() string {
	return "ALTER DATABASE " + s.quoted("") + " ALLOW_CONNECTIONS false"
}

func (s *Snapshot) open() string { return "ALTER DATABASE " + s.quoted("") + " ALLOW_CONNECTIONS true" }

func (s *Snapshot) end() string {
	return "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '" + s.name + "'"
}

// administer runs statements one by one, each a transaction of its own.
func (s *Snapshot) administer(statements ...string) {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.tb.Context()), time.Minute)
	defer cancel()
	err := func() error {
		conn, err := pgx.Connect(ctx, s.admin)
		if err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		defer func() { _ = conn.Close(ctx) }()
		for _, statement := range statements {
			if _, err := conn.Exec(ctx, statement); err != nil {
				return fmt.Errorf("%s: %w", statement, err)
			}
		}
		return nil
	}()
	if err != nil {
		s.tb.Fatalf("harness: %v", err)
	}
}

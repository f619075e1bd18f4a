package pgtest_test

import (
	"context"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"roost/models/migrations"
	"roost/models/pgtest"
)

// TestUnusableBackendIsAnError: it must not end in a skipped test. Containers
// without Docker are withpg's test, for testcontainers remembers an engine that
// it did not find for as long as the process lives.
func TestUnusableBackendIsAnError(t *testing.T) {
	t.Setenv(pgtest.BackendEnv, "postgress://x")
	_, err := pgtest.Start(t.Context())
	require.ErrorContains(t, err, "must be")
}

// TestProcessesShareAServer is what the packages of one run do: each comes with
// a Server of its own to a Postgres that has no template yet.
func TestProcessesShareAServer(t *testing.T) {
	t.Setenv(pgtest.BackendEnv, "pglocal")
	first, err := pgtest.Start(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, first.Stop(context.WithoutCancel(t.Context()))) }()
	t.Setenv(pgtest.BackendEnv, first.AdminURL())

	const processes = 4
	names := make([]string, processes)
	var wg sync.WaitGroup
	for i := range processes {
		server, err := pgtest.Start(t.Context())
		require.NoError(t, err)
		wg.Go(func() {
			name, err := server.Clone(t.Context(), migrations.Platform())
			if err != nil {
				t.Errorf("clone: %v", err)
			}
			names[i] = name
		})
	}
	wg.Wait()

	conn, err := pgx.Connect(t.Context(), first.AdminURL())
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(t.Context())) }()
	var templates, clones int
	require.NoError(t, conn.QueryRow(t.Context(), `
		SELECT count(*) FILTER (WHERE datname LIKE 'roost\_template\_%'), count(*) FILTER (WHERE datname = ANY ($1))
		FROM pg_database`, names).Scan(&templates, &clones))
	require.Equal(t, 1, templates)
	require.Equal(t, processes, clones)
}

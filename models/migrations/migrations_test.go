package migrations_test

import (
	"bytes"
	"database/sql"
	"log/slog"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"roost/models/migrations"
	"roost/models/pg"
	"roost/models/pgtest"
)

type testBundle struct {
	url  string
	pool *sql.DB
}

// setup opens a database without a schema.
func setup(t *testing.T) *testBundle {
	t.Helper()
	url := pgtest.Empty(t)
	return &testBundle{url: url, pool: openPool(t, url)}
}

func openPool(t *testing.T, url string) *sql.DB {
	t.Helper()
	db, err := pg.Open(t.Context(), pg.Config{URL: url}, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pg.Close(db)) })
	pool, err := db.DB()
	require.NoError(t, err)
	return pool
}

func sets() []migrations.Set {
	return []migrations.Set{migrations.Platform(), migrations.Owl()}
}

func TestUpThenCheck(t *testing.T) {
	t.Parallel()
	for _, set := range sets() {
		t.Run(set.Name(), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			var log bytes.Buffer
			require.NoError(t, migrations.Up(t.Context(), b.pool, set, slog.New(slog.NewTextHandler(&log, nil))))
			require.NoError(t, migrations.Check(t.Context(), b.pool, set))
			require.Contains(t, log.String(), "file=00001_init.sql")

			log.Reset()
			require.NoError(t, migrations.Up(t.Context(), b.pool, set, slog.New(slog.NewTextHandler(&log, nil))))
			require.Empty(t, log.String(), "a second Up applies nothing")
		})
	}
}

func TestCheckNamesTheCommandAndChangesNothing(t *testing.T) {
	t.Parallel()
	for _, set := range sets() {
		t.Run(set.Name(), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			err := migrations.Check(t.Context(), b.pool, set)
			require.ErrorIs(t, err, migrations.ErrOutdated)
			require.ErrorContains(t, err, "is at version 0 and lacks 1")
			require.ErrorContains(t, err, `run "`+set.Name()+` migrate up"`)

			var tables int
			require.NoError(t, b.pool.QueryRowContext(t.Context(),
				"SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'").Scan(&tables))
			require.Zero(t, tables)
		})
	}
}

// TestCheckSeesAGap: the newest version alone does not say that all are there.
func TestCheckSeesAGap(t *testing.T) {
	t.Parallel()
	b := setup(t)
	set := migrations.Platform()
	require.NoError(t, migrations.Up(t.Context(), b.pool, set, nil))
	_, err := b.pool.ExecContext(t.Context(), "UPDATE "+set.VersionTable()+" SET version_id = 99999 WHERE version_id = 1")
	require.NoError(t, err)
	require.ErrorIs(t, migrations.Check(t.Context(), b.pool, set), migrations.ErrOutdated)
}

// TestNewerSchemaIsAccepted: in a rolling deploy the old binary starts on the
// schema of the new one.
func TestNewerSchemaIsAccepted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	set := migrations.Owl()
	require.NoError(t, migrations.Up(t.Context(), b.pool, set, nil))
	_, err := b.pool.ExecContext(t.Context(), "INSERT INTO "+set.VersionTable()+" (version_id, is_applied) VALUES (99999, true)")
	require.NoError(t, err)
	require.NoError(t, migrations.Check(t.Context(), b.pool, set))
	require.NoError(t, migrations.Up(t.Context(), b.pool, set, nil))
}

func TestNodesThatStartTogetherMigrateOnce(t *testing.T) {
	t.Parallel()
	const nodes = 4
	b := setup(t)
	errs := make([]error, nodes)
	var wg sync.WaitGroup
	for i := range nodes {
		pool := openPool(t, b.url)
		wg.Go(func() { errs[i] = migrations.Up(t.Context(), pool, migrations.Platform(), nil) })
	}
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	require.NoError(t, migrations.Check(t.Context(), b.pool, migrations.Platform()))
}

// TestOtherServicesDatabase: a wrong URL must not look migrated.
func TestOtherServicesDatabase(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, migrations.Up(t.Context(), b.pool, migrations.Platform(), nil))
	require.ErrorIs(t, migrations.Check(t.Context(), b.pool, migrations.Owl()), migrations.ErrOutdated)
}

func TestHashFollowsTheSchema(t *testing.T) {
	t.Parallel()
	platform, err := migrations.Platform().Hash()
	require.NoError(t, err)
	again, err := migrations.Platform().Hash()
	require.NoError(t, err)
	owl, err := migrations.Owl().Hash()
	require.NoError(t, err)
	require.Equal(t, platform, again)
	require.NotEqual(t, platform, owl)
}

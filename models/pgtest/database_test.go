package pgtest_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"roost/models/migrations"
	"roost/models/pgtest"
)

// exists asks a database of the same server for another one.
func exists(t *testing.T, url, name string) bool {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(t.Context())) }()
	var found bool
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&found))
	return found
}

func databaseOf(t *testing.T, url string) string {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	require.NoError(t, err)
	return config.Database
}

func TestDatabasesArePrivate(t *testing.T) {
	t.Parallel()
	one, other := pgtest.Owl(t), pgtest.Owl(t)
	require.NoError(t, one.Exec("CREATE TABLE mine (n int)").Error)
	require.Error(t, other.Exec("SELECT * FROM mine").Error)
}

func TestDatabasesAreMigrated(t *testing.T) {
	t.Parallel()
	var version int
	require.NoError(t, pgtest.Owl(t).Raw("SELECT max(version_id) FROM owl_schema_versions").Scan(&version).Error)
	require.Positive(t, version)
	require.NoError(t, pgtest.Platform(t).Raw("SELECT max(version_id) FROM platform_schema_versions").Scan(&version).Error)
	require.Positive(t, version)
}

// TestDatabaseEndsWithItsTest, even while somebody is connected.
func TestDatabaseEndsWithItsTest(t *testing.T) { //nolint:tparallel // it looks at what its inner test leaves
	t.Parallel()
	outer := pgtest.Empty(t)
	var name string
	t.Run("inner", func(t *testing.T) {
		url := pgtest.URL(t, migrations.Owl())
		name = databaseOf(t, url)
		require.True(t, exists(t, outer, name))
		_, err := pgx.Connect(context.WithoutCancel(t.Context()), url)
		require.NoError(t, err)
	})
	require.False(t, exists(t, outer, name))
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	for range 8 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			require.NoError(t, pgtest.Platform(t).Exec("SELECT count(*) FROM cvms").Error)
		})
	}
}

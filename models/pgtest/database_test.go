package pgtest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"roost/models/pgtest"
)

func TestDatabasesArePrivate(t *testing.T) {
	t.Parallel()
	one, other := pgtest.Owl(t), pgtest.Owl(t)
	require.NoError(t, one.Exec("CREATE TABLE mine (n int)").Error)
	require.Error(t, other.Exec("SELECT * FROM mine").Error)

	var name string
	require.NoError(t, one.Raw("SELECT current_database()").Scan(&name).Error)
	require.Contains(t, name, "roost_test_")
}

func TestDatabasesAreMigrated(t *testing.T) {
	t.Parallel()
	var version int
	require.NoError(t, pgtest.Owl(t).Raw("SELECT max(version_id) FROM owl_schema_versions").Scan(&version).Error)
	require.Positive(t, version)
	require.NoError(t, pgtest.Platform(t).Raw("SELECT max(version_id) FROM platform_schema_versions").Scan(&version).Error)
	require.Positive(t, version)
}

package pg_test

import (
	"bytes"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"roost/models/pg"
	"roost/models/pgtest"
)

func TestSessionSettings(t *testing.T) {
	t.Parallel()
	db := setup(t).open(t, pg.Config{AppName: "roost-settings"})
	for name, want := range map[string]string{
		"lock_timeout":                        "4s",
		"statement_timeout":                   "10s",
		"idle_in_transaction_session_timeout": "5s",
		"default_transaction_isolation":       "read committed",
		"TimeZone":                            "UTC",
		"application_name":                    "roost-settings",
	} {
		var got string
		require.NoError(t, db.Raw("SELECT current_setting(?)", name).Scan(&got).Error)
		require.Equal(t, want, got, name)
	}
}

func TestTimesAreUTC(t *testing.T) {
	t.Parallel()
	var now time.Time
	require.NoError(t, setup(t).db.Raw("SELECT now()").Scan(&now).Error)
	require.Equal(t, time.UTC, now.Location())
}

func TestPoolIsBounded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for want, cfg := range map[int]pg.Config{pg.DefaultMaxConns: {}, 3: {MaxConns: 3}} {
		pool, err := b.open(t, cfg).DB()
		require.NoError(t, err)
		require.Equal(t, want, pool.Stats().MaxOpenConnections)
	}
}

func TestOpenErrorsHideThePassword(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	closed := listener.Addr().String()
	require.NoError(t, listener.Close())
	for name, url := range map[string]string{
		"nobody listens": "postgres://roost:hunter2@" + closed + "/db?sslmode=disable",
		"unparsable":     "postgres://roost:hunter2@[::1/db",
		"bad port":       "postgres://roost:hunter2@127.0.0.1:port/db",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := pg.Open(t.Context(), pg.Config{URL: url}, nil)
			require.Error(t, err)
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
}

// TestLogHoldsNoValues runs what makes gorm talk: a slow statement, a failing
// one, a record that is not found, a misuse.
func TestLogHoldsNoValues(t *testing.T) {
	t.Parallel()
	const canary = "canary-7f3a"
	var out bytes.Buffer
	db, err := pg.Open(t.Context(), pg.Config{URL: pgtest.Empty(t)}, slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pg.Close(db)) })

	require.NoError(t, db.Exec("SELECT pg_sleep(1.1), ?::text", canary).Error)
	var found []struct{ Text string }
	require.NoError(t, db.Raw("SELECT pg_sleep(1.1), ?::text AS text", canary).Scan(&found).Error) // prints values past any filter
	require.Error(t, db.Exec("INSERT INTO missing VALUES (?)", canary).Error)
	require.Error(t, db.Debug().Table("pg_class").Where("relname = ?", canary).Take(&struct{ Relname string }{}).Error)
	require.Error(t, db.Model(canary).Where("x = ?", canary).Take(new(int)).Error)

	require.Equal(t, 2, strings.Count(out.String(), "slow statement"))
	require.Contains(t, out.String(), "sent_from=open_test.go:")
	require.NotContains(t, out.String(), canary)
}

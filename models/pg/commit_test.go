package pg_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"roost/models/pg"
	"roost/models/pgtest/pgproxy"
)

func TestCommitWhoseReplyIsLostIsUnknown(t *testing.T) {
	t.Parallel()
	b := setup(t)
	proxy := pgproxy.Start(t, b.url)
	db := b.open(t, pg.Config{URL: proxy.URL})
	proxy.Next(pgproxy.LoseReply)
	err := pg.InTx(t.Context(), db, func(tx *gorm.DB) error { return insert(tx, 1, "one") })
	require.ErrorIs(t, err, pg.ErrCommitUnknown)
	require.True(t, pg.IsTransient(err))
	require.Equal(t, 1, b.count(t), "the row is there")

	// The way out: the same again, now with an answer.
	err = pg.InTx(t.Context(), db, func(tx *gorm.DB) error { return insert(tx, 1, "one") })
	require.True(t, pg.IsDuplicate(err))
}

func TestCommitThatNeverArrivedIsUnknown(t *testing.T) {
	t.Parallel()
	b := setup(t)
	proxy := pgproxy.Start(t, b.url)
	db := b.open(t, pg.Config{URL: proxy.URL})
	proxy.Next(pgproxy.LoseRequest)
	err := pg.InTx(t.Context(), db, func(tx *gorm.DB) error { return insert(tx, 1, "one") })
	require.ErrorIs(t, err, pg.ErrCommitUnknown)
	require.Zero(t, b.count(t))
}

// TestFatalAnswerToCommitIsUnknown: 57P01 says that the session ended, not what
// became of the transaction.
func TestFatalAnswerToCommitIsUnknown(t *testing.T) {
	t.Parallel()
	b := setup(t)
	proxy := pgproxy.Start(t, b.url)
	db := b.open(t, pg.Config{URL: proxy.URL, AppName: "victim"})
	proxy.Next(func() (deliver, reply bool) {
		if err := b.db.Exec("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'victim'").Error; err != nil {
			t.Errorf("terminate: %v", err)
		}
		return true, true
	})
	err := pg.InTx(t.Context(), db, func(tx *gorm.DB) error { return insert(tx, 1, "one") })
	require.ErrorIs(t, err, pg.ErrCommitUnknown)
	require.True(t, pg.IsTransient(err))
	require.Zero(t, b.count(t))
}

// TestCommitThatPostgresRefusesIsKnown: a deferred constraint speaks at COMMIT.
func TestCommitThatPostgresRefusesIsKnown(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, b.db.Exec("CREATE TABLE late (n int, CONSTRAINT late_n UNIQUE (n) DEFERRABLE INITIALLY DEFERRED)").Error)
	err := pg.InTx(t.Context(), b.db, func(tx *gorm.DB) error {
		return tx.Exec("INSERT INTO late VALUES (1), (1)").Error
	})
	require.NotErrorIs(t, err, pg.ErrCommitUnknown)
	require.True(t, pg.IsDuplicate(err))
	require.Equal(t, "late_n", pg.Constraint(err))
}

package pg_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"roost/models/pg"
)

func goexit() { runtime.Goexit() }

func state(t *testing.T, err error) string {
	t.Helper()
	var answer *pgconn.PgError
	require.ErrorAs(t, err, &answer)
	return answer.Code
}

func TestDuplicate(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, insert(b.db, 1, "one"))
	err := fmt.Errorf("wrapped: %w", insert(b.db, 2, "one"))
	require.Equal(t, "23505", state(t, err))
	require.ErrorIs(t, err, gorm.ErrDuplicatedKey)
	require.True(t, pg.IsDuplicate(err))
	require.Equal(t, "notes_body_key", pg.Constraint(err))
	require.False(t, pg.IsTransient(err))
	require.False(t, pg.IsLockTimeout(err))
}

func TestLockTimeout(t *testing.T) {
	t.Parallel()
	b := setup(t)
	release := b.holdRow(t)
	defer release()
	err := pg.InTx(t.Context(), b.db, func(tx *gorm.DB) error {
		if err := tx.Exec("SET LOCAL lock_timeout = 1").Error; err != nil {
			return err
		}
		return insert(tx, 1, "mine")
	})
	require.Equal(t, "55P03", state(t, err))
	require.True(t, pg.IsLockTimeout(err))
	require.True(t, pg.IsTransient(err))
}

func TestStatementTimeout(t *testing.T) {
	t.Parallel()
	b := setup(t)
	err := pg.InTx(t.Context(), b.db, func(tx *gorm.DB) error {
		require.NoError(t, tx.Exec("SET LOCAL statement_timeout = 10").Error)
		return tx.Exec("SELECT pg_sleep(10)").Error
	})
	require.Equal(t, "57014", state(t, err))
	require.True(t, pg.IsTransient(err))
	require.False(t, pg.IsLockTimeout(err))
}

func TestDeadlock(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, insert(b.db, 1, "one"))
	require.NoError(t, insert(b.db, 2, "two"))
	var (
		bothHoldOne sync.WaitGroup
		errs        [2]error
		wg          sync.WaitGroup
	)
	bothHoldOne.Add(2)
	for i := range 2 {
		wg.Go(func() {
			errs[i] = pg.InTx(t.Context(), b.db, func(tx *gorm.DB) error {
				err := tx.Exec("UPDATE notes SET body = body WHERE id = ?", 1+i).Error
				bothHoldOne.Done()
				bothHoldOne.Wait()
				return errors.Join(err, tx.Exec("UPDATE notes SET body = body WHERE id = ?", 2-i).Error)
			})
		})
	}
	wg.Wait()
	err := errors.Join(errs[:]...)
	require.Equal(t, "40P01", state(t, err))
	require.True(t, pg.IsTransient(err))
	require.True(t, errs[0] == nil || errs[1] == nil, "one of the two goes through")
}

func TestKilledSession(t *testing.T) {
	t.Parallel()
	b := setup(t)
	victim := b.open(t, pg.Config{MaxConns: 1, AppName: "victim"})
	err := pg.InTx(t.Context(), victim, func(tx *gorm.DB) error {
		require.NoError(t, insert(tx, 1, "one"))
		require.NoError(t, b.db.Exec("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'victim'").Error)
		return insert(tx, 2, "two")
	})
	require.True(t, pg.IsTransient(err), "%v", err)
	require.NoError(t, insert(victim, 3, "three"), "the pool recovers")
	require.Equal(t, 1, b.count(t))
}

func TestIdleTransactionIsEnded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	err := pg.InTx(t.Context(), b.db, func(tx *gorm.DB) error {
		require.NoError(t, tx.Exec("SET LOCAL idle_in_transaction_session_timeout = 50").Error)
		require.NoError(t, insert(tx, 1, "one"))
		var pid int
		require.NoError(t, tx.Raw("SELECT pg_backend_pid()").Scan(&pid).Error)
		require.Eventually(t, func() bool {
			var alive bool
			return b.db.Raw("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = ?)", pid).Scan(&alive).Error == nil && !alive
		}, deadline, 10*time.Millisecond)
		return insert(tx, 2, "two")
	})
	require.True(t, pg.IsTransient(err), "%v", err)
	require.Zero(t, b.count(t))
}

func TestPoolTimeout(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one := b.open(t, pg.Config{MaxConns: 1})
	require.NoError(t, pg.InTx(t.Context(), one, func(*gorm.DB) error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		err := pg.InTx(ctx, one, func(*gorm.DB) error { return nil })
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.True(t, pg.IsTransient(err))
		return nil
	}))
}

func TestRefusedConnection(t *testing.T) {
	t.Parallel()
	_, err := pg.Open(t.Context(), pg.Config{URL: "postgres://roost@127.0.0.1:1/x?sslmode=disable"}, nil)
	require.True(t, pg.IsTransient(err), "%v", err)
}

func TestStates(t *testing.T) {
	t.Parallel()
	for code, transient := range map[string]bool{
		"40001": true, "40P01": true, "55P03": true, "57014": true, "57P01": true, "57P03": true, "57P05": true,
		"25P03": true, "53100": true, "53300": true, "08006": true, "58030": true,
		"23505": false, "23503": false, "22P02": false, "42P01": false, "42501": false, "28P01": false, "25P02": false,
	} {
		err := fmt.Errorf("wrapped: %w", &pgconn.PgError{Severity: "ERROR", Code: code})
		require.Equal(t, transient, pg.IsTransient(err), code)
	}
	require.True(t, pg.IsTransient(fmt.Errorf("read: %w", io.ErrUnexpectedEOF)))
	require.False(t, pg.IsTransient(nil))
	require.False(t, pg.IsTransient(errors.New("something else")))
	require.False(t, pg.IsTransient(gorm.ErrRecordNotFound))
}

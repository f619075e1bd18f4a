package pg_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"roost/models/pg"
)

var errOfFn = errors.New("fn says no")

func TestInTxCommits(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, pg.InTx(t.Context(), b.db, func(tx *gorm.DB) error {
		var level string
		if err := tx.Raw("SHOW transaction_isolation").Scan(&level).Error; err != nil {
			return err
		}
		require.Equal(t, "read committed", level)
		return insert(tx, 1, "one")
	}))
	require.Equal(t, 1, b.count(t))
}

func TestInTxRollsBackOnError(t *testing.T) {
	t.Parallel()
	b := setup(t)
	err := pg.InTx(t.Context(), b.db, func(tx *gorm.DB) error {
		require.NoError(t, insert(tx, 1, "one"))
		return errOfFn
	})
	require.Equal(t, errOfFn, err, "as it is, unwrapped")
	require.Zero(t, b.count(t))
}

func TestInTxRollsBackOnPanicAndGoexit(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one := b.open(t, pg.Config{MaxConns: 1})
	require.PanicsWithValue(t, "boom", func() {
		_ = pg.InTx(t.Context(), one, func(tx *gorm.DB) error {
			require.NoError(t, insert(tx, 1, "one"))
			panic("boom")
		})
	})
	require.Zero(t, b.count(t))

	var wg sync.WaitGroup
	wg.Go(func() {
		_ = pg.InTx(t.Context(), one, func(tx *gorm.DB) error {
			_ = insert(tx, 1, "one")
			goexit()
			return nil
		})
	})
	wg.Wait()
	require.Zero(t, b.count(t))

	// Neither has kept the pool's only connection.
	require.NoError(t, pg.InTx(t.Context(), one, func(tx *gorm.DB) error { return insert(tx, 1, "one") }))
}

func TestInTxReportsAnErrorThatFnSwallowed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	err := pg.InTx(t.Context(), b.db, func(tx *gorm.DB) error {
		require.NoError(t, insert(tx, 1, "one"))
		require.Error(t, insert(tx, 1, "twice"))
		return nil
	})
	require.Error(t, err)
	require.NotErrorIs(t, err, pg.ErrCommitUnknown)
	require.Zero(t, b.count(t))
}

func TestInTxSurvivesAContextThatEndsMidway(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one := b.open(t, pg.Config{MaxConns: 1})
	for name, last := range map[string]func(*gorm.DB) error{
		"a statement follows": func(tx *gorm.DB) error { return insert(tx, 2, "two") },
		"nothing follows":     func(*gorm.DB) error { return nil },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		err := pg.InTx(ctx, one, func(tx *gorm.DB) error {
			require.NoError(t, insert(tx, 1, "one"))
			cancel()
			return last(tx)
		})
		require.ErrorIs(t, err, context.Canceled, name)
		require.NotErrorIs(t, err, pg.ErrCommitUnknown, name)
		require.True(t, pg.IsTransient(err), name)
		require.Zero(t, b.count(t), name)
	}
	require.NoError(t, pg.InTx(t.Context(), one, func(tx *gorm.DB) error { return insert(tx, 1, "one") }))
}

func TestInTxDoesNotNest(t *testing.T) {
	t.Parallel()
	b := setup(t)
	err := pg.InTx(t.Context(), b.db, func(tx *gorm.DB) error {
		return pg.InTx(t.Context(), tx, func(*gorm.DB) error { return nil })
	})
	require.ErrorContains(t, err, "already in a transaction")
}

// TestPoolOfOne: InTx and what runs in it need a single connection, and one
// transaction's end lets the next one in.
func TestPoolOfOne(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one := b.open(t, pg.Config{MaxConns: 1})
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if err := pg.InTx(ctx, one, func(tx *gorm.DB) error { return insert(tx, i, string(rune('a'+i))) }); err != nil {
				t.Errorf("transaction %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	require.Equal(t, 20, b.count(t))
}

// TestInTxIgnoresConditionsOfItsHandle: a chain that somebody stored must not
// leak into the transaction.
func TestInTxIgnoresConditionsOfItsHandle(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, insert(b.db, 1, "one"))
	stored := b.db.Table("notes").Where("false")
	require.NoError(t, pg.InTx(t.Context(), stored, func(tx *gorm.DB) error {
		var n int64
		require.NoError(t, tx.Table("notes").Count(&n).Error)
		require.EqualValues(t, 1, n)
		return nil
	}))
}

package idempotency_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"roost/api"
)

var errInjected = errors.New("injected")

// beforeRead runs fn before each statement that reads a key, which is between
// the INSERT that met the key and the look at it.
func (b *testBundle) beforeRead(t *testing.T, fn func(tx *gorm.DB)) {
	t.Helper()
	require.NoError(t, b.db.Callback().Query().Before("gorm:query").Register("test:before_read", func(tx *gorm.DB) {
		if strings.Contains(tx.Statement.SQL.String(), "AS expired") {
			fn(tx)
		}
	}))
}

func requireUncoded(t *testing.T, err error) {
	t.Helper()
	require.Error(t, err)
	var e *api.Error
	require.False(t, errors.As(err, &e), "a failure of the database is not the client's: %v", err)
}

func TestAKeyThatIsReapedBeforeItIsReadIsMine(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.bind(t, b.request("k"))
	b.expire(t, "k")
	var once atomic.Bool
	b.beforeRead(t, func(*gorm.DB) {
		if !once.Swap(true) {
			require.NoError(t, b.reap(t).Commit().Error)
		}
	})
	b.bind(t, b.request("k"))
	require.True(t, once.Load())
}

func TestAKeyThatNeverSettlesIsAnErrorAndNotALoop(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.bind(t, b.request("k"))
	rounds := 0
	move := func(hours int) error {
		return b.db.Exec(`UPDATE idempotency_keys SET expires_at = now() + ? * interval '1 hour'`, hours).Error
	}
	b.beforeRead(t, func(*gorm.DB) { require.NoError(t, move(-1)) })
	b.keys.Running = func(*gorm.DB, string) (bool, error) {
		rounds++
		return false, move(1) // taken over by somebody else, it seems
	}
	o := b.claim(t, b.request("k"), patience)
	require.False(t, o.mine)
	requireUncoded(t, o.err)
	require.ErrorContains(t, o.err, "not settled")
	require.Equal(t, 5, rounds)
}

func TestAFailedReadIsNeitherARefusalNorAReplay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.bind(t, b.request("k"))
	b.beforeRead(t, func(tx *gorm.DB) { _ = tx.AddError(errInjected) })
	o := b.claim(t, b.request("k"), 0)
	require.False(t, o.mine)
	require.Empty(t, o.bound)
	require.ErrorIs(t, o.err, errInjected)
	requireUncoded(t, o.err)
	_, err := b.keys.Lookup(b.db, b.workspace, "k")
	require.ErrorIs(t, err, errInjected)
	requireUncoded(t, err)
}

func TestAFailureToLookAtTheOperationIsNoVerdictOnTheKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.bind(t, b.request("k"))
	b.expire(t, "k")
	b.keys.Running = func(*gorm.DB, string) (bool, error) { return false, errInjected }
	o := b.claim(t, b.request("k"), 0)
	require.False(t, o.mine)
	require.ErrorIs(t, o.err, errInjected)
	requireUncoded(t, o.err)
	// 404 would say: not bound, and a client would begin anew.
	_, err := b.keys.Lookup(b.db, b.workspace, "k")
	require.ErrorIs(t, err, errInjected)
	requireUncoded(t, err)
}

func TestAFailedStatementIsNeverKeyInProgress(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.bind(t, b.request("k"))
	b.expire(t, "k")

	tx := b.begin(t)
	require.Error(t, tx.Exec(`SELECT 1/0`).Error) // the transaction is over
	_, mine, err := b.keys.Claim(tx, b.request("k"), b.result(), 0)
	require.False(t, mine)
	requireUncoded(t, err)
	require.ErrorContains(t, err, "claim key")
	requireUncoded(t, b.keys.Rebind(tx, b.request("k"), b.result()))

	b.keys.Running = func(tx *gorm.DB, _ string) (bool, error) {
		return false, ignore(tx.Exec(`SELECT 1/0`).Error)
	}
	o := b.claim(t, b.request("k"), 0)
	require.False(t, o.mine)
	requireUncoded(t, o.err)
	require.ErrorContains(t, o.err, "take over key")
}

func ignore(error) error { return nil }

func TestARowThatCannotBeReadIsNoMismatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, column := range []string{"path_params", "members"} {
		b.bind(t, b.request(column))
		require.NoError(t, b.db.Exec(`UPDATE idempotency_keys SET `+column+` = '[1]' WHERE key = ?`, column).Error)
		requireUncoded(t, b.claim(t, b.request(column), 0).err)
	}
}

func TestAnEndedContextIsNoVerdict(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := b.keys.Lookup(b.db.WithContext(ctx), b.workspace, "k")
	requireUncoded(t, err)
	require.ErrorIs(t, err, context.Canceled)
}

package idempotency_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"roost/api"
	"roost/models/pg"
	"roost/platform/idempotency"
)

// hold claims a key in a transaction that stays open.
func (b *testBundle) hold(t *testing.T, req idempotency.Request) (*gorm.DB, idempotency.Bound) {
	t.Helper()
	tx := b.begin(t)
	bound, mine, err := b.keys.Claim(tx, req, b.result(), 0)
	require.NoError(t, err)
	require.True(t, mine)
	return tx, bound
}

func lockTimeout(t *testing.T, tx *gorm.DB) (s string) {
	t.Helper()
	require.NoError(t, tx.Raw(`SHOW lock_timeout`).Scan(&s).Error)
	return s
}

func TestAWaitThatIsTooShortEndsInKeyInProgress(t *testing.T) {
	t.Parallel()
	b := setup(t)
	holder, bound := b.hold(t, b.request("k"))
	const wait = 200 * time.Millisecond
	start := time.Now()
	o := b.claim(t, b.request("k"), wait)
	took := time.Since(start)
	require.False(t, o.mine)
	e := coded(t, o.err, api.CodeKeyInProgress)
	require.Equal(t, time.Second, e.RetryAfter)
	require.True(t, e.Problem("r").Retryable)
	require.GreaterOrEqual(t, took, wait)
	require.Less(t, took, 2*time.Second)
	require.NoError(t, holder.Commit().Error)
	requireReplay(t, bound, b.claim(t, b.request("k"), 0))
}

// lock_timeout = 0 would wait for ever.
func TestNoWaitIsNoWait(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.hold(t, b.request("k"))
	for _, wait := range []time.Duration{0, time.Nanosecond, -time.Second} {
		start := time.Now()
		requireCode(t, b.claim(t, b.request("k"), wait).err, api.CodeKeyInProgress)
		require.Less(t, time.Since(start), time.Second)
	}
}

func TestAnotherBodyWaitsTooAndThenMismatches(t *testing.T) {
	t.Parallel()
	b := setup(t)
	holder, _ := b.hold(t, b.request("k"))
	other := b.request("k")
	other.Method = "PUT"
	requireCode(t, b.claim(t, other, 0).err, api.CodeKeyInProgress)
	second := later(func() outcome { return b.claim(t, other, patience) })
	waitedFor(t, holder, 1)
	require.NoError(t, holder.Commit().Error)
	requireCode(t, (<-second).err, api.CodeIdempotencyKeyReused)
}

func TestOneThatWaitsReplaysWhatIsCommittedMeanwhile(t *testing.T) {
	t.Parallel()
	b := setup(t)
	holder, bound := b.hold(t, b.request("k"))
	second := later(func() outcome { return b.claim(t, b.request("k"), patience) })
	waitedFor(t, holder, 1)
	require.NoError(t, holder.Commit().Error)
	requireReplay(t, bound, <-second)
}

func TestOneThatWaitsSeesWhatWasReboundMeanwhile(t *testing.T) {
	t.Parallel()
	b := setup(t)
	req := b.request("k")
	holder, bound := b.hold(t, req)
	second := later(func() outcome { return b.claim(t, b.request("k"), patience) })
	waitedFor(t, holder, 1)
	bound.Result = b.result()
	require.NoError(t, b.keys.Rebind(holder, req, bound.Result))
	require.NoError(t, holder.Commit().Error)
	requireReplay(t, bound, <-second)
}

func TestOneThatWaitsTakesThePlaceOfWhatIsRolledBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	holder, _ := b.hold(t, b.request("k"))
	req := b.request("k")
	req.Method = "PUT" // what was rolled back binds nobody
	second := later(func() outcome { return b.claim(t, req, patience) })
	waitedFor(t, holder, 1)
	require.NoError(t, holder.Rollback().Error)
	o := <-second
	require.NoError(t, o.err)
	require.True(t, o.mine)
	require.Equal(t, req.RequestID, o.bound.RequestID)
	requireReplay(t, o.bound, b.claim(t, req, 0))
}

func TestOneThatWaitsTakesThePlaceOfASessionThatDied(t *testing.T) {
	t.Parallel()
	b := setup(t)
	holder, _ := b.hold(t, b.request("k"))
	var pid int
	require.NoError(t, holder.Raw(`SELECT pg_backend_pid()`).Scan(&pid).Error)
	second := later(func() outcome { return b.claim(t, b.request("k"), patience) })
	waitedFor(t, holder, 1)
	require.NoError(t, b.db.Exec(`SELECT pg_terminate_backend(?)`, pid).Error)
	o := <-second
	require.NoError(t, o.err)
	require.True(t, o.mine)
}

func TestOtherKeysAreNotWaitedFor(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.hold(t, b.request("k"))
	b.bind(t, b.request("other"))
	twin := b.request("k")
	twin.Workspace = b.mint.ID()
	start := time.Now()
	b.bind(t, twin)
	require.Less(t, time.Since(start), patience)
}

// The wait is the claim's alone: what follows in the transaction has the
// session's own limit again, whether the key was new or expired.
func TestAfterAClaimTheSessionsOwnLockTimeoutHoldsAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.Equal(t, 4*time.Second, pg.LockTimeout)
	for _, wait := range []time.Duration{0, 50 * time.Millisecond, 9 * time.Second} {
		tx := b.begin(t)
		require.Equal(t, "4s", lockTimeout(t, tx))
		_, mine, err := b.keys.Claim(tx, b.request("k"), b.result(), wait)
		require.NoError(t, err)
		require.True(t, mine, "new at first, expired afterwards")
		require.Equal(t, "4s", lockTimeout(t, tx))
		require.NoError(t, tx.Commit().Error)
		b.expire(t, "k")
	}
}

func TestAClaimDoesNotChangeTheSession(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sqlDB, err := b.db.DB()
	require.NoError(t, err)
	sqlDB.SetMaxOpenConns(1) // so that what follows has the same session
	b.bind(t, b.request("k"))
	require.Equal(t, "4s", lockTimeout(t, b.db))
	b.claim(t, b.request("k"), 0)
	require.Equal(t, "4s", lockTimeout(t, b.db))
}

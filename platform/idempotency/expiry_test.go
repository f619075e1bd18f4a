package idempotency_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"roost/api"
	"roost/platform/idempotency"
)

func always(running bool) func(*gorm.DB, string) (bool, error) {
	return func(*gorm.DB, string) (bool, error) { return running, nil }
}

func TestAnExpiredKeyIsNew(t *testing.T) {
	t.Parallel()
	for name, running := range map[string]func(*gorm.DB, string) (bool, error){
		"nobody knows operations": nil,
		"its operation has ended": always(false),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.keys.Running = running
			first := b.bind(t, b.request("k"))
			b.expire(t, "k")

			req := b.request("k") // nothing of it is as it was
			req.Method, req.Route, req.Path, req.Members = "PUT", "/other", nil, map[string]string{"/x": "digest"}
			second := b.bind(t, req)
			require.Equal(t, req.RequestID, second.RequestID)
			require.False(t, first.Equal(second.Result))
			require.True(t, second.CreatedAt.After(first.CreatedAt))
			require.InDelta(t, ttl.Seconds(), second.ExpiresAt.Sub(second.CreatedAt).Seconds(), 1)
			require.Equal(t, 1, b.rows(t))
			requireReplay(t, second, b.claim(t, req, 0))
			requireCode(t, b.claim(t, b.request("k"), 0).err, api.CodeIdempotencyKeyReused)
		})
	}
}

func TestAKeyIsKeptUntilItsOperationHasEnded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.bind(t, b.request("k"))
	b.expire(t, "k")
	var asked []string
	b.keys.Running = func(tx *gorm.DB, id string) (bool, error) {
		asked = append(asked, id)
		// It sees the claiming transaction.
		return true, tx.Exec(`SELECT 1 FROM idempotency_keys`).Error
	}
	o := b.claim(t, b.request("k"), 0)
	require.NoError(t, o.err)
	require.False(t, o.mine)
	require.True(t, first.Equal(o.bound.Result))
	require.Equal(t, []string{first.OperationID}, asked)
	other := b.request("k")
	other.Method = "PUT"
	requireCode(t, b.claim(t, other, 0).err, api.CodeIdempotencyKeyReused)

	b.keys.Running = always(false)
	b.bind(t, other)
}

func TestAKeyWithoutAnOperationIsNotKeptForOne(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.keys.Running = always(true)
	tx := b.begin(t)
	_, _, err := b.keys.Claim(tx, b.request("k"), idempotency.Result{Status: 201}, 0)
	require.NoError(t, err)
	require.NoError(t, tx.Commit().Error)
	b.expire(t, "k")
	b.bind(t, b.request("k"))
}

func TestNobodyAsksForTheOperationOfALivingKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	bound := b.bind(t, b.request("k"))
	b.keys.Running = func(*gorm.DB, string) (bool, error) { return false, errors.New("asked") }
	requireReplay(t, bound, b.claim(t, b.request("k"), 0))
}

func TestARolledBackTakeOverLeavesTheExpiredKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.bind(t, b.request("k"))
	b.expire(t, "k")
	tx, _ := b.hold(t, b.request("k"))
	require.NoError(t, tx.Rollback().Error)
	b.bind(t, b.request("k"))
}

// Postgres' clock decides, and within a transaction it stands still: a key
// that expired after BEGIN is alive for this transaction, whatever the
// application's own clock says.
func TestExpiryIsByPostgresClock(t *testing.T) {
	t.Parallel()
	b := setup(t)
	bound := b.bind(t, b.request("k"))
	tx := b.begin(t) // now() is fixed here
	b.expire(t, "k")
	got, mine, err := b.keys.Claim(tx, b.request("k"), b.result(), 0)
	require.NoError(t, err)
	require.False(t, mine)
	require.True(t, bound.Equal(got.Result))
	require.True(t, got.ExpiresAt.Before(time.Now()), "the application's clock would say that it has expired")
	require.NoError(t, tx.Commit().Error)
	b.bind(t, b.request("k"))
}

// Both have read the expired row before either writes: Running is where they
// meet.
func TestOfTwoThatTakeOverAnExpiredKeyOneDoes(t *testing.T) {
	t.Parallel()
	for name, sameBody := range map[string]bool{"same body": true, "other body": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.bind(t, b.request("k"))
			b.expire(t, "k")
			var both sync.WaitGroup
			both.Add(2)
			arrived := make(chan struct{})
			go func() { both.Wait(); close(arrived) }()
			tickets := make(chan struct{}, 2)
			tickets <- struct{}{}
			tickets <- struct{}{}
			b.keys.Running = func(*gorm.DB, string) (bool, error) {
				select {
				case <-tickets:
					both.Done()
					<-arrived
				default: // a second round
				}
				return false, nil
			}
			outcomes := atOnce(2, func(i int) outcome {
				req := b.request("k")
				if i == 1 && !sameBody {
					req.Method = "PUT"
				}
				return b.claim(t, req, patience)
			})
			requireOneMine(t, outcomes, func(t *testing.T, winner idempotency.Bound, o outcome) {
				t.Helper()
				if sameBody {
					requireReplay(t, winner, o)
				} else {
					requireCode(t, o.err, api.CodeIdempotencyKeyReused)
				}
			})
			require.Equal(t, 1, b.rows(t))
		})
	}
}

func TestOfAHundredThatTakeOverAnExpiredKeyOneDoes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.bind(t, b.request("k"))
	b.expire(t, "k")
	b.keys.Running = always(false)
	requireOneMine(t, atOnce(100, func(int) outcome { return b.claim(t, b.request("k"), patience) }), requireReplay)
	require.Equal(t, 1, b.rows(t))
}

func TestATakeOverWaitsNoLongerThanItMay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.bind(t, b.request("k"))
	b.expire(t, "k")
	b.hold(t, b.request("k")) // takes over, and stays
	start := time.Now()
	requireCode(t, b.claim(t, b.request("k"), 100*time.Millisecond).err, api.CodeKeyInProgress)
	require.GreaterOrEqual(t, time.Since(start), 100*time.Millisecond)
	require.Less(t, time.Since(start), 2*time.Second)
}

// Whoever locks the row without changing it does not stop the INSERT, so here
// it is the UPDATE that waits.
func TestATakeOverOfARowThatIsLockedWaitsNoLongerThanItMay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.bind(t, b.request("k"))
	b.expire(t, "k")
	locker := b.begin(t)
	require.NoError(t, locker.Exec(`SELECT 1 FROM idempotency_keys FOR UPDATE`).Error)
	start := time.Now()
	requireCode(t, b.claim(t, b.request("k"), 100*time.Millisecond).err, api.CodeKeyInProgress)
	require.GreaterOrEqual(t, time.Since(start), 100*time.Millisecond)
	require.Less(t, time.Since(start), 2*time.Second)
}

// reap deletes the expired key and keeps the transaction open.
func (b *testBundle) reap(t *testing.T) *gorm.DB {
	t.Helper()
	tx := b.begin(t)
	res := tx.Exec(`DELETE FROM idempotency_keys WHERE expires_at <= now()`)
	require.NoError(t, res.Error)
	require.EqualValues(t, 1, res.RowsAffected)
	return tx
}

func TestAKeyThatIsBeingReapedIsMineEitherWay(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(tx *gorm.DB) error{
		"the reaper commits":    func(tx *gorm.DB) error { return tx.Commit().Error },
		"the reaper rolls back": func(tx *gorm.DB) error { return tx.Rollback().Error },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.bind(t, b.request("k"))
			b.expire(t, "k")
			reaper := b.reap(t)
			req := b.request("k")
			req.Method = "PUT"
			second := later(func() outcome { return b.claim(t, req, patience) })
			waitedFor(t, reaper, 1)
			require.NoError(t, end(reaper))
			o := <-second
			require.NoError(t, o.err)
			require.True(t, o.mine)
			require.Equal(t, 1, b.rows(t))
			requireReplay(t, o.bound, b.claim(t, req, 0))
		})
	}
}

func TestAKeyThatIsReapedBetweenTheUpdateAndItsRowIsMine(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.bind(t, b.request("k"))
	b.expire(t, "k")
	reaped := false
	b.keys.Running = func(*gorm.DB, string) (bool, error) {
		if !reaped { // after the row was read, before it is taken over
			reaped = true
			return false, b.reap(t).Commit().Error
		}
		return false, nil
	}
	b.bind(t, b.request("k"))
	require.True(t, reaped)
	require.Equal(t, 1, b.rows(t))
}

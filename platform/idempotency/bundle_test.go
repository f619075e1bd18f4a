package idempotency_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"roost/api"
	"roost/models/pg"
	"roost/models/pgtest"
	"roost/platform/idempotency"
)

const (
	ttl      = time.Hour
	patience = 5 * time.Second  // a wait that is meant to be long enough
	deadline = 20 * time.Second // after which a state is not reached any more
	tick     = 5 * time.Millisecond
)

var errRollback = errors.New("roll back")

type testBundle struct {
	db        *gorm.DB
	keys      idempotency.Keys
	mint      *api.Minter
	workspace api.ID
}

func setup(t *testing.T) *testBundle {
	t.Helper()
	mint := api.NewMinter()
	return &testBundle{
		db: pgtest.Platform(t), mint: mint, workspace: mint.ID(),
		keys: idempotency.Keys{TTL: ttl},
	}
}

// request is a new request under a key: its own request ID, the same content
// each time.
func (b *testBundle) request(key string) idempotency.Request {
	return idempotency.Request{
		Workspace: b.workspace, Key: key, Method: "POST", Route: "/api/v1/cvms",
		Path: map[string]string{"app_id": "a"}, Members: map[string]string{"/name": "digest-1", "/size": "digest-2"},
		RequestID: b.mint.RequestID(),
	}
}

// result is one that no other call gets.
func (b *testBundle) result() idempotency.Result {
	return idempotency.Result{
		Status: 202, OperationID: b.mint.OperationID(), ResourceID: b.mint.ID(), Body: []byte(b.mint.RequestID()),
	}
}

// outcome is everything that a claim says.
type outcome struct {
	bound idempotency.Bound
	mine  bool
	err   error
}

// claim claims in a transaction of its own and commits.
func (b *testBundle) claim(t *testing.T, req idempotency.Request, wait time.Duration) (o outcome) {
	t.Helper()
	res := b.result()
	o.err = pg.InTx(t.Context(), b.db, func(tx *gorm.DB) (err error) {
		o.bound, o.mine, err = b.keys.Claim(tx, req, res, wait)
		return err
	})
	return o
}

// bind claims a key that is free.
func (b *testBundle) bind(t *testing.T, req idempotency.Request) idempotency.Bound {
	t.Helper()
	o := b.claim(t, req, patience)
	require.NoError(t, o.err)
	require.True(t, o.mine)
	return o.bound
}

// begin opens a transaction that the test ends by hand.
func (b *testBundle) begin(t *testing.T) *gorm.DB {
	t.Helper()
	tx := b.db.WithContext(t.Context()).Begin()
	require.NoError(t, tx.Error)
	t.Cleanup(func() { tx.Rollback() })
	// A slow machine must not end it early.
	require.NoError(t, tx.Exec(`SET LOCAL idle_in_transaction_session_timeout = 0`).Error)
	return tx
}

// expire lets the key's time be over by Postgres' clock.
func (b *testBundle) expire(t *testing.T, key string) {
	t.Helper()
	res := b.db.Exec(`UPDATE idempotency_keys SET expires_at = clock_timestamp() - interval '1 microsecond'
		WHERE workspace_id = ? AND key = ?`, b.workspace, key)
	require.NoError(t, res.Error)
	require.EqualValues(t, 1, res.RowsAffected)
}

func (b *testBundle) rows(t *testing.T) (n int) {
	t.Helper()
	require.NoError(t, b.db.Raw(`SELECT count(*) FROM idempotency_keys`).Scan(&n).Error)
	return n
}

// waitedFor returns when n sessions wait for what tx has done so far.
// pg_locks shows it at once and to the transaction itself, unlike
// pg_stat_activity.
func waitedFor(t *testing.T, tx *gorm.DB, n int) {
	t.Helper()
	require.Eventually(t, func() bool {
		var waiting int
		err := tx.Raw(`SELECT count(*) FROM pg_locks WHERE NOT granted
			AND transactionid = pg_current_xact_id_if_assigned()::xid`).Scan(&waiting).Error
		return err == nil && waiting >= n
	}, deadline, tick, "nobody waits for this transaction")
}

// atOnce runs fn n times, all let go at the same moment.
func atOnce[T any](n int, fn func(i int) T) []T {
	out := make([]T, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			out[i] = fn(i)
		})
	}
	close(start)
	wg.Wait()
	return out
}

// later runs fn aside and hands over what it returns.
func later[T any](fn func() T) <-chan T {
	out := make(chan T, 1)
	go func() { out <- fn() }()
	return out
}

func coded(t *testing.T, err error, code api.Code) *api.Error {
	t.Helper()
	var e *api.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, code, e.Code, e.Detail)
	return e
}

func requireCode(t require.TestingT, err error, code api.Code) {
	var e *api.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, code, e.Code, e.Detail)
}

// requireReplay checks that o is exactly what bound the key.
func requireReplay(t *testing.T, want idempotency.Bound, o outcome) {
	t.Helper()
	require.NoError(t, o.err)
	require.False(t, o.mine)
	requireSameBound(t, want, o.bound)
}

func requireSameBound(t *testing.T, want, got idempotency.Bound) {
	t.Helper()
	require.True(t, want.Equal(got.Result), "%+v is not %+v", got.Result, want.Result)
	require.Equal(t, want.RequestID, got.RequestID)
	require.True(t, want.CreatedAt.Equal(got.CreatedAt), "%s is not %s", got.CreatedAt, want.CreatedAt)
	require.True(t, want.ExpiresAt.Equal(got.ExpiresAt), "%s is not %s", got.ExpiresAt, want.ExpiresAt)
}

func keyName(i int) string { return fmt.Sprintf("key-%d", i) }

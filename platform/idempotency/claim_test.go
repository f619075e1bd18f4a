package idempotency_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"roost/api"
	"roost/models"
	"roost/models/pg"
	"roost/platform/idempotency"
)

func TestAKeyIsMineOnceAndReplayedEverAfter(t *testing.T) {
	t.Parallel()
	b := setup(t)
	req, res := b.request("k"), b.result()
	var bound idempotency.Bound
	require.NoError(t, pg.InTx(t.Context(), b.db, func(tx *gorm.DB) (err error) {
		var mine bool
		bound, mine, err = b.keys.Claim(tx, req, res, 0)
		require.True(t, mine)
		return err
	}))
	require.True(t, res.Equal(bound.Result))
	require.Equal(t, req.RequestID, bound.RequestID)
	require.InDelta(t, ttl.Seconds(), bound.ExpiresAt.Sub(bound.CreatedAt).Seconds(), 1)
	for range 3 {
		requireReplay(t, bound, b.claim(t, b.request("k"), 0))
	}
	require.Equal(t, 1, b.rows(t))
}

// The first one keeps its transaction open until as many others as there are
// connections wait for it, so that they really meet.
func TestAHundredAtOnceUnderOneKeyAreOne(t *testing.T) {
	t.Parallel()
	b := setup(t)
	outcomes := atOnce(100, func(int) (o outcome) {
		req, res := b.request("k"), b.result()
		o.err = pg.InTx(t.Context(), b.db, func(tx *gorm.DB) (err error) {
			o.bound, o.mine, err = b.keys.Claim(tx, req, res, patience)
			if o.mine {
				waitedFor(t, tx, 5)
			}
			return err
		})
		return o
	})
	requireOneMine(t, outcomes, requireReplay)
	require.Equal(t, 1, b.rows(t))
}

func TestAHundredAtOnceThroughTheGateAreOne(t *testing.T) {
	t.Parallel()
	b := setup(t)
	gate := idempotency.NewGate()
	outcomes := atOnce(100, func(int) outcome {
		leave, err := gate.Enter(t.Context(), b.workspace, "k", deadline)
		if err != nil {
			return outcome{err: err}
		}
		defer leave()
		return b.claim(t, b.request("k"), patience)
	})
	requireOneMine(t, outcomes, requireReplay)
	require.Equal(t, 1, b.rows(t))
}

func TestAHundredBodiesAtOnceUnderOneKeyAreOneAndNinetyNineMismatches(t *testing.T) {
	t.Parallel()
	b := setup(t)
	outcomes := atOnce(100, func(i int) outcome {
		req := b.request("k")
		req.Members = map[string]string{"/name": fmt.Sprintf("canary-%d", i), "/size": "digest-2"}
		return b.claim(t, req, patience)
	})
	requireOneMine(t, outcomes, func(t *testing.T, winner idempotency.Bound, o outcome) {
		t.Helper()
		e := coded(t, o.err, api.CodeIdempotencyKeyReused)
		require.Equal(t, []api.FieldError{{Field: "/name", Message: "differs from the first request"}}, e.Fields)
		require.Contains(t, e.Detail, winner.RequestID)
		requireNoValues(t, e)
	})
	require.Equal(t, 1, b.rows(t))
}

// requireOneMine checks that one of the outcomes got the key, and the others.
func requireOneMine(t *testing.T, outcomes []outcome, loser func(*testing.T, idempotency.Bound, outcome)) {
	t.Helper()
	var winners []idempotency.Bound
	for _, o := range outcomes {
		if o.mine {
			require.NoError(t, o.err)
			winners = append(winners, o.bound)
		}
	}
	require.Len(t, winners, 1)
	for _, o := range outcomes {
		if !o.mine {
			loser(t, winners[0], o)
		}
	}
}

func requireNoValues(t *testing.T, e *api.Error) {
	t.Helper()
	doc, err := json.Marshal(e.Problem("r"))
	require.NoError(t, err)
	require.NotContains(t, string(doc), "canary")
	require.NotContains(t, string(doc), "digest-")
}

func TestHundredWorkspacesWithOneKeyAreAHundred(t *testing.T) {
	t.Parallel()
	b := setup(t)
	outcomes := atOnce(100, func(int) outcome {
		req := b.request("k")
		req.Workspace = b.mint.ID()
		return b.claim(t, req, patience)
	})
	for _, o := range outcomes {
		require.NoError(t, o.err)
		require.True(t, o.mine)
	}
	require.Equal(t, 100, b.rows(t))
}

func TestWorkspacesDoNotSenseEachOther(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ours := b.bind(t, b.request("k"))

	other := b.request("k")
	other.Workspace, other.Method, other.Members = b.mint.ID(), "PUT", map[string]string{"/x": "canary"}
	theirs := b.bind(t, other)
	require.False(t, ours.Equal(theirs.Result))

	// A transaction of theirs that is open does not make ours wait, and
	// neither an expiry nor a rebinding of theirs touches ours.
	tx := b.begin(t)
	third := b.request("k")
	third.Workspace = b.mint.ID()
	_, mine, err := b.keys.Claim(tx, third, b.result(), 0)
	require.NoError(t, err)
	require.True(t, mine)
	require.NoError(t, b.keys.Rebind(tx, third, b.result()))
	requireReplay(t, ours, b.claim(t, b.request("k"), 0))
	require.NoError(t, tx.Commit().Error)
	require.NoError(t, b.db.Exec(`UPDATE idempotency_keys SET expires_at = now() - interval '1 hour' WHERE workspace_id = ?`,
		other.Workspace).Error)
	requireReplay(t, ours, b.claim(t, b.request("k"), 0))
	other.RequestID = b.mint.RequestID()
	b.bind(t, other) // took over its own row
	requireReplay(t, ours, b.claim(t, b.request("k"), 0))
	require.Equal(t, 3, b.rows(t))
}

func TestATakeOverTouchesItsOwnKeyAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, key := range []string{"k", "other"} {
		b.bind(t, b.request(key))
		b.expire(t, key)
	}
	versions := []string{b.rowVersion(t, "k"), b.rowVersion(t, "other")}
	twin := b.request("k")
	twin.Workspace = b.mint.ID()
	b.bind(t, twin)
	require.NoError(t, b.db.Exec(`UPDATE idempotency_keys SET expires_at = now() - interval '1 hour' WHERE workspace_id = ?`,
		twin.Workspace).Error)
	b.bind(t, twin) // takes over, while ours are expired too
	require.Equal(t, versions, []string{b.rowVersion(t, "k"), b.rowVersion(t, "other")})
}

func TestARolledBackClaimHasNeverUsedItsKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range 3 {
		err := pg.InTx(t.Context(), b.db, func(tx *gorm.DB) error {
			_, mine, err := b.keys.Claim(tx, b.request("k"), b.result(), 0)
			require.NoError(t, err)
			require.True(t, mine)
			return errRollback // as work does that fails
		})
		require.ErrorIs(t, err, errRollback)
		require.Zero(t, b.rows(t))
	}
	other := b.request("k")
	other.Members = map[string]string{"/name": "another"}
	b.bind(t, other)
}

func TestAPanicInTheWorkLeavesTheKeyFree(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.Panics(t, func() {
		_ = pg.InTx(t.Context(), b.db, func(tx *gorm.DB) error {
			_, mine, err := b.keys.Claim(tx, b.request("k"), b.result(), 0)
			require.NoError(t, err)
			require.True(t, mine)
			panic("work")
		})
	})
	require.Zero(t, b.rows(t))
	b.bind(t, b.request("k"))
}

func TestWhatDiffersIsNamed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	bound := b.bind(t, b.request("k"))
	for name, tc := range map[string]struct {
		change func(*idempotency.Request)
		want   []string
	}{
		"method":          {func(r *idempotency.Request) { r.Method = "PUT" }, []string{"method"}},
		"route":           {func(r *idempotency.Request) { r.Route = "/api/v1/apps" }, []string{"path"}},
		"path value":      {func(r *idempotency.Request) { r.Path = map[string]string{"app_id": "canary"} }, []string{"path"}},
		"path parameters": {func(r *idempotency.Request) { r.Path = map[string]string{"canary": "a"} }, []string{"path"}},
		"no path":         {func(r *idempotency.Request) { r.Path = nil }, []string{"path"}},
		"route and path": {func(r *idempotency.Request) {
			r.Route, r.Path = "/x", map[string]string{"app_id": "canary"}
		}, []string{"path"}},
		"a member changed": {func(r *idempotency.Request) { r.Members = map[string]string{"/name": "canary", "/size": "digest-2"} }, []string{"/name"}},
		"a member gone":    {func(r *idempotency.Request) { r.Members = map[string]string{"/name": "digest-1"} }, []string{"/size"}},
		"a member more": {func(r *idempotency.Request) {
			r.Members = map[string]string{"/name": "digest-1", "/size": "digest-2", "/z": "canary"}
		}, []string{"/z"}},
		"no members": {func(r *idempotency.Request) { r.Members = nil }, []string{"/name", "/size"}},
		"everything": {func(r *idempotency.Request) {
			r.Method, r.Route, r.Path, r.Members = "PUT", "/x", nil, map[string]string{"/a": "canary"}
		}, []string{"method", "path", "/a", "/name", "/size"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req := b.request("k")
			tc.change(&req)
			o := b.claim(t, req, 0)
			require.False(t, o.mine)
			e := coded(t, o.err, api.CodeIdempotencyKeyReused)
			var named []string
			for _, f := range e.Fields {
				named = append(named, f.Field)
			}
			require.Equal(t, tc.want, named)
			require.False(t, e.Problem("r").Retryable)
			requireNoValues(t, e)
			requireSameBound(t, bound, o.bound)
		})
	}
}

func TestNoPathAndNoMembersAreRepeatable(t *testing.T) {
	t.Parallel()
	b := setup(t)
	req := b.request("k")
	req.Path, req.Members = nil, nil
	bound := b.bind(t, req)
	req.RequestID, req.Path, req.Members = b.mint.RequestID(), map[string]string{}, map[string]string{}
	requireReplay(t, bound, b.claim(t, req, 0))
}

func TestAResultWithoutOperationResourceAndBodyComesBackSo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for i, res := range []idempotency.Result{
		{Status: 204},
		{Status: 200, Body: []byte("{}")},
		{Status: 200, OperationID: "op_x"},
		{Status: 200, ResourceID: b.mint.ID()},
	} {
		require.NoError(t, pg.InTx(t.Context(), b.db, func(tx *gorm.DB) error {
			_, mine, err := b.keys.Claim(tx, b.request(keyName(i)), res, 0)
			require.True(t, mine)
			return err
		}))
		require.Equal(t, res, b.claim(t, b.request(keyName(i)), 0).bound.Result)
	}
}

func TestResultsAreEqualWhenAllOfThemIs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.result()
	same := r
	require.True(t, r.Equal(same))
	for _, change := range []func(*idempotency.Result){
		func(r *idempotency.Result) { r.Status++ },
		func(r *idempotency.Result) { r.OperationID += "x" },
		func(r *idempotency.Result) { r.ResourceID = b.mint.ID() },
		func(r *idempotency.Result) { r.Body = append([]byte("x"), r.Body...) },
	} {
		other := r
		change(&other)
		require.False(t, r.Equal(other))
		require.False(t, other.Equal(r))
	}
}

// rowVersion is what changes with any write to the row, or lock on it.
func (b *testBundle) rowVersion(t *testing.T, key string) string {
	t.Helper()
	var v string
	require.NoError(t, b.db.Raw(`SELECT ctid::text || ' ' || xmin::text || ' ' || xmax::text FROM idempotency_keys
		WHERE workspace_id = ? AND key = ?`, b.workspace, key).Scan(&v).Error)
	require.NotEmpty(t, v)
	return v
}

func TestAReplayAndAMismatchNeitherWriteNorLock(t *testing.T) {
	t.Parallel()
	b := setup(t)
	bound := b.bind(t, b.request("k"))
	version := b.rowVersion(t, "k")
	other := b.request("k")
	other.Method = "PUT"
	for _, req := range []idempotency.Request{b.request("k"), other} {
		tx := b.begin(t)
		got, mine, err := b.keys.Claim(tx, req, b.result(), patience)
		require.False(t, mine)
		requireSameBound(t, bound, got)
		if req.Method == other.Method {
			requireCode(t, err, api.CodeIdempotencyKeyReused)
		} else {
			require.NoError(t, err)
		}
		// A transaction that has written, or locked a row, has an ID.
		var untouched bool
		require.NoError(t, tx.Raw(`SELECT pg_current_xact_id_if_assigned() IS NULL`).Scan(&untouched).Error)
		require.True(t, untouched, "the replay has written or locked a row")
		var locks int
		require.NoError(t, tx.Raw(`SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid()
			AND locktype IN ('tuple', 'transactionid', 'advisory')`).Scan(&locks).Error)
		require.Zero(t, locks)
		require.NoError(t, tx.Commit().Error)
	}
	require.Equal(t, version, b.rowVersion(t, "k"))
}

func TestAReplayDoesNotWaitForWhoeverLocksTheRow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	bound := b.bind(t, b.request("k"))
	holder := b.begin(t)
	var row models.IdempotencyKey
	require.NoError(t, holder.Raw(`SELECT * FROM idempotency_keys FOR UPDATE`).Take(&row).Error)
	requireReplay(t, bound, b.claim(t, b.request("k"), 0))
	require.NoError(t, holder.Commit().Error)
}

// The caller's own repetition after an unknown commit recognises itself.
func TestTheSameRequestAgainFindsItself(t *testing.T) {
	t.Parallel()
	b := setup(t)
	req := b.request("k")
	bound := b.bind(t, req)
	o := b.claim(t, req, 0)
	requireReplay(t, bound, o)
	require.Equal(t, req.RequestID, o.bound.RequestID)
}

func TestKeysAreTextAndNothingElse(t *testing.T) {
	t.Parallel()
	b := setup(t)
	keys := []string{
		strings.Repeat("k", api.MaxKeyBytes), `'; DROP TABLE idempotency_keys; --`, `a"b\c`, "?", "@name", "%2F", "K", "k", "$1",
	}
	for _, key := range keys {
		bound := b.bind(t, b.request(key))
		requireReplay(t, bound, b.claim(t, b.request(key), 0))
	}
	require.Equal(t, len(keys), b.rows(t))
}

func TestTheRowHoldsNoValuesOfTheRequest(t *testing.T) {
	t.Parallel()
	b := setup(t)
	req := b.request("k")
	members, err := idempotency.Members(map[string]any{"name": "canary", "env": []string{"canary"}}, map[string]any{})
	require.NoError(t, err)
	req.Members = members
	b.bind(t, req)
	var row string
	require.NoError(t, b.db.Raw(`SELECT k::text FROM idempotency_keys k`).Scan(&row).Error)
	require.Contains(t, row, "/name")
	require.NotContains(t, row, "canary")
}

func TestRebindStoresTheResultByteForByte(t *testing.T) {
	t.Parallel()
	b := setup(t)
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	req := b.request("k")
	want := idempotency.Result{Status: 201, ResourceID: b.mint.ID(), Body: every}
	var bound idempotency.Bound
	require.NoError(t, pg.InTx(t.Context(), b.db, func(tx *gorm.DB) (err error) {
		bound, _, err = b.keys.Claim(tx, req, b.result(), 0)
		require.NoError(t, err)
		return b.keys.Rebind(tx, req, want)
	}))
	o := b.claim(t, b.request("k"), 0)
	require.NoError(t, o.err)
	require.Equal(t, want, o.bound.Result)
	require.Equal(t, bound.RequestID, o.bound.RequestID)
	require.True(t, bound.ExpiresAt.Equal(o.bound.ExpiresAt))
}

func TestRebindNeedsAClaim(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.ErrorContains(t, b.keys.Rebind(b.begin(t), b.request("k"), b.result()), "not claimed")
	bound := b.bind(t, b.request("k"))
	stranger := b.request("k")
	stranger.Workspace = b.mint.ID()
	require.ErrorContains(t, b.keys.Rebind(b.begin(t), stranger, b.result()), "not claimed")
	require.Error(t, b.keys.Rebind(b.begin(t), b.request("other"), b.result()))
	requireReplay(t, bound, b.claim(t, b.request("k"), 0))
}

func TestRebindTouchesItsOwnKeyAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	neighbour := b.bind(t, b.request("other"))
	twin := b.request("k")
	twin.Workspace = b.mint.ID()
	twinBound := b.bind(t, twin)
	require.NoError(t, pg.InTx(t.Context(), b.db, func(tx *gorm.DB) error {
		req := b.request("k")
		_, _, err := b.keys.Claim(tx, req, b.result(), 0)
		require.NoError(t, err)
		return b.keys.Rebind(tx, req, b.result())
	}))
	requireReplay(t, neighbour, b.claim(t, b.request("other"), 0))
	requireReplay(t, twinBound, b.claim(t, twin, 0))
}

func TestTheKeyOutlivesADayOrWhateverItsTTLSays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for i, kept := range []time.Duration{time.Microsecond, time.Second, 24 * time.Hour, 10 * 365 * 24 * time.Hour} {
		b.keys.TTL = kept
		bound := b.bind(t, b.request(keyName(i)))
		require.InDelta(t, kept.Seconds(), bound.ExpiresAt.Sub(bound.CreatedAt).Seconds(), 1)
	}
}

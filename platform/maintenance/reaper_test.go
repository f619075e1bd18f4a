package maintenance_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"roost/api"
	"roost/models/pg"
	"roost/platform/idempotency"
	"roost/platform/maintenance"
)

// keys are those of Platform: alive until their operation has ended.
func (b *testBundle) keys() idempotency.Keys {
	return idempotency.Keys{TTL: time.Hour, Running: func(tx *gorm.DB, id string) (bool, error) {
		var n int
		err := tx.Raw(`SELECT count(*) FROM operations WHERE id = ? AND status IN ('pending', 'running')`, id).Scan(&n).Error
		return n == 1, err
	}}
}

// claim claims a key for a new request in a transaction of its own.
func (b *testBundle) claim(key, operation string) (bound idempotency.Bound, mine bool, err error) {
	req := idempotency.Request{
		Workspace: b.workspace, Key: key, Method: "POST", Route: "/api/v1/cvms",
		Members: map[string]string{"/name": "digest"}, RequestID: b.mint.RequestID(),
	}
	err = pg.InTx(context.Background(), b.db, func(tx *gorm.DB) (err error) {
		bound, mine, err = b.keys().Claim(tx, req, idempotency.Result{Status: 202, OperationID: operation}, 5*time.Second)
		return err
	})
	return bound, mine, err
}

// bind claims a key, which has expired if expired says so.
func (b *testBundle) bind(key, operation string, expired bool) idempotency.Bound {
	b.t.Helper()
	bound, mine, err := b.claim(key, operation)
	require.NoError(b.t, err)
	require.True(b.t, mine)
	if expired {
		b.expire(key)
	}
	return bound
}

func (b *testBundle) expire(key string) {
	b.t.Helper()
	b.one(`UPDATE idempotency_keys SET expires_at = clock_timestamp() - interval '1 microsecond' WHERE key = ?`, key)
}

func TestKeysGoOnceTheyHaveExpiredAndTheirOperationHasEnded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, expired := range []bool{true, false} {
		prefix := map[bool]string{true: "expired ", false: "alive "}[expired]
		b.bind(prefix+"running", b.operation(api.OperationRunning, nil), expired)
		b.bind(prefix+"pending", b.operation(api.OperationPending, nil), expired)
		b.bind(prefix+"ended", b.operation(api.OperationFailed, nil), expired)
		b.bind(prefix+"gone", b.mint.OperationID(), expired)
		b.bind(prefix+"none", "", expired)
	}
	b.reap()
	var left []string
	require.NoError(t, b.db.Raw(`SELECT key FROM idempotency_keys ORDER BY key`).Scan(&left).Error)
	require.Equal(t, []string{
		"alive ended", "alive gone", "alive none", "alive pending", "alive running", "expired pending", "expired running",
	}, left)
	require.Equal(t, 3.0, b.metric(b.reg, "roost_maintenance_reaped_total"))
	require.Equal(t, 1, b.log.lines(`"kind":"keys","rows":3`), b.log)

	b.exec(`UPDATE operations SET status = 'succeeded', finished_at = now()`)
	b.reap()
	require.Equal(t, 5, b.count("idempotency_keys"))
}

func TestBatchesAreRepeatedWhileTheyAreFull(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(`INSERT INTO idempotency_keys (workspace_id, key, method, route, path_params, members, request_id, status, expires_at)
		SELECT ?, 'k' || n, 'POST', '/', '{}', '{}', '', 202, now() FROM generate_series(1, 2500) n`, b.workspace)
	b.reap()
	require.Zero(t, b.count("idempotency_keys"))
	require.Equal(t, 1, b.log.lines(`"kind":"keys","rows":2500`), "one line")
}

// TestAReaperAndARetryOfAnExpiredKey: whoever comes first, the retry gets the
// key, under the request of its own, and the reaper does not take it away.
func TestAReaperAndARetryOfAnExpiredKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const rounds, keys = 60, 4
	other, _ := b.node()
	reapers := []*maintenance.Maintenance{b.m, other}
	ended := b.operation(api.OperationSucceeded, nil)
	for round := range rounds {
		for k := range keys {
			b.bind(fmt.Sprintf("%d.%d", round, k), ended, true)
		}
		mine := make([]bool, keys)
		atOnce(keys+2, func(i int) {
			if i >= keys { // two reapers at once
				reapers[i-keys].Reap(t.Context())
				return
			}
			var err error
			_, mine[i], err = b.claim(fmt.Sprintf("%d.%d", round, i), ended)
			require.NoError(t, err)
		})
		for k, got := range mine {
			require.True(t, got, "the key was free, for somebody")
			require.Equal(t, 1, b.count("idempotency_keys", "key = ? AND expires_at > now()", fmt.Sprintf("%d.%d", round, k)),
				"and stays bound")
		}
	}
	require.Equal(t, rounds*keys, b.count("idempotency_keys"))
}

// TestAReaperWaitsForNobody: what a retry has locked is left to it.
func TestAReaperWaitsForNobody(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ended := b.operation(api.OperationSucceeded, nil)
	b.bind("held", ended, true)
	b.bind("free", ended, true)
	err := pg.InTx(t.Context(), b.db, func(tx *gorm.DB) error {
		if err := tx.Exec(`SELECT 1 FROM idempotency_keys WHERE key = 'held' FOR UPDATE`).Error; err != nil {
			return err
		}
		start := time.Now()
		b.reap()
		require.Less(t, time.Since(start), 3*time.Second)
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, 1, b.count("idempotency_keys", "key = 'held'"))
	require.Zero(t, b.count("idempotency_keys", "key = 'free'"))
}

// TestAReaperAndTheOperationsFinish: a key is never reaped while its operation
// is under way, so a retry meanwhile always finds it.
func TestAReaperAndTheOperationsFinish(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for round := range 60 {
		op, key := b.operation(api.OperationRunning, nil), fmt.Sprint("k", round)
		first := b.bind(key, op, true)
		var replay idempotency.Bound
		var mine bool
		atOnce(3, func(i int) {
			var err error
			switch i {
			case 0:
				b.reap()
			case 1:
				b.one(`UPDATE operations SET status = 'succeeded', finished_at = now() WHERE id = ?`, op)
			case 2:
				replay, mine, err = b.claim(key, op)
			}
			require.NoError(t, err)
		})
		require.True(t, mine || replay.RequestID == first.RequestID, "it was the first one's or it is ours")
		require.LessOrEqual(t, b.count("idempotency_keys", "key = ?", key), 1)
		if mine {
			require.Equal(t, 1, b.count("idempotency_keys", "key = ? AND request_id = ?", key, replay.RequestID))
		}
	}
}

// anHourLater lets an hour pass for the specs that were found loose.
func (b *testBundle) anHourLater() {
	b.t.Helper()
	b.exec(`UPDATE specs SET loose_at = loose_at - interval '61 minutes'`)
}

func TestProvisionsGoWhenTheyHaveExpired(t *testing.T) {
	t.Parallel()
	b := setup(t)
	used, expired := b.spec(), b.spec()
	b.one(`INSERT INTO provisions (app_id, compose_hash, spec_id, expires_at) VALUES (?, 'a', ?, now() + interval '1 minute')`, b.app, used)
	b.one(`INSERT INTO provisions (app_id, compose_hash, spec_id, expires_at) VALUES (?, 'b', ?, now())`, b.app, expired)
	b.reap()
	require.Equal(t, 1, b.count("provisions", "compose_hash = 'a'"))
	require.Equal(t, 1, b.count("provisions"))
	b.anHourLater()
	b.reap()
	require.Equal(t, 1, b.count("specs", "id = ?", used))
	require.Zero(t, b.count("specs", "id = ?", expired), "with the ciphertext")
}

// TestSpecsGoWhenNothingRefersToThem: each of the three references keeps one,
// and who has read a reference has an hour.
func TestSpecsGoWhenNothingRefersToThem(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.insertCVM()
	present, created, provision, replaced := b.spec(), b.spec(), b.spec(), b.spec()
	b.one(`UPDATE cvms SET spec_id = ?, create_spec_id = ? WHERE id = ?`, replaced, created, id)
	b.one(`INSERT INTO provisions (app_id, compose_hash, spec_id, expires_at) VALUES (?, 'a', ?, now() + interval '1 day')`, b.app, provision)
	b.exec(`UPDATE specs SET created_at = now() - interval '1 year'`)
	b.reap()
	b.one(`UPDATE cvms SET spec_id = ? WHERE id = ?`, present, id)
	b.reap()
	require.Equal(t, 1, b.count("specs", "id = ? AND loose_at > now() - interval '1 minute'", replaced), "since now, not since it was made")
	b.one(`UPDATE specs SET loose_at = now() - interval '59 minutes' WHERE id = ?`, replaced)
	b.reap()
	require.Equal(t, 1, b.count("specs", "id = ?", replaced))
	b.anHourLater()
	b.reap()
	for name, spec := range map[string]api.ID{"present": present, "created": created, "provision": provision} {
		require.Equal(t, 1, b.count("specs", "id = ?", spec), name)
	}
	require.Equal(t, 3, b.count("specs"), "and none that a PATCH replaced")
}

func TestManySpecsGoAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(`INSERT INTO specs (id, workspace_id, body, summary) SELECT gen_random_uuid(), ?, '{}', '{}' FROM generate_series(1, 2500)`, b.workspace)
	b.reap()
	require.Equal(t, 2500, b.count("specs", "loose_at IS NOT NULL"))
	b.anHourLater()
	b.reap()
	require.Zero(t, b.count("specs"))
}

// TestCVMsGoAfterTheRetention, with their rules and then their operations.
func TestCVMsGoAfterTheRetention(t *testing.T) {
	t.Parallel()
	b := setup(t)
	old, due, fresh, alive := b.cvm(), b.cvm(), b.cvm(), b.cvm()
	for _, id := range []api.ID{old, due, fresh, alive} {
		b.rule(id)
	}
	b.exec(`UPDATE operations SET finished_at = now() - ` + month)
	b.exec(`UPDATE cvms SET deleting_at = now(), deleted_at = now() - `+month+` WHERE id IN ?`, []api.ID{old, due})
	b.one(`UPDATE cvms SET reconcile_after = now() + interval '1 hour' WHERE id = ?`, due)
	b.one(`UPDATE cvms SET deleting_at = now(), deleted_at = now() - `+almost+` WHERE id = ?`, fresh)
	b.reap()
	require.Zero(t, b.count("cvms", "id = ?", old))
	require.Equal(t, 3, b.count("cvms"))
	require.Equal(t, 3, b.count("firewall_rules"))
	require.Zero(t, b.count("firewall_rules", "cvm_id = ?", old))
	require.Equal(t, 3, b.count("operations"), "what a CVM names stays")
	require.Equal(t, 3, b.count("operation_targets"))
	b.anHourLater()
	b.reap()
	require.Equal(t, 3, b.count("specs"))
}

func TestRulesGoAfterTheRetention(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.cvm()
	old, due, fresh, alive := b.rule(id), b.rule(id), b.rule(id), b.rule(id)
	b.exec(`UPDATE firewall_rules SET deleted_at = now() - `+month+` WHERE id IN ?`, []api.ID{old, due})
	b.one(`UPDATE firewall_rules SET reconcile_after = now() + interval '1 hour' WHERE id = ?`, due)
	b.one(`UPDATE firewall_rules SET deleted_at = now() - `+almost+` WHERE id = ?`, fresh)
	b.reap()
	require.Zero(t, b.count("firewall_rules", "id = ?", old))
	require.Equal(t, 3, b.count("firewall_rules", "id IN ?", []api.ID{due, fresh, alive}))
}

func TestOperationsGoAfterTheRetentionUnlessACVMNamesThem(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id, other := b.cvm(), b.cvm()
	create := b.operation(api.OperationSucceeded, nil, id, other) // one over several
	newest := b.operation(api.OperationSucceeded, &id)            // one of no consequence has no target
	between := b.operation(api.OperationSucceeded, &id, id)
	running := b.operation(api.OperationRunning, &id, id)
	b.one(`UPDATE cvms SET create_operation_id = ?, operation_id = ? WHERE id = ?`, create, newest, id)
	b.exec(`UPDATE operations SET created_at = now() - ` + month)
	b.exec(`UPDATE operations SET finished_at = now() - ` + month + ` WHERE finished_at IS NOT NULL`)
	late := b.operation(api.OperationSucceeded, &id, id)
	b.one(`UPDATE operations SET created_at = now() - `+month+`, finished_at = now() - `+almost+` WHERE id = ?`, late)
	b.reap()
	require.Equal(t, 4, b.count("operations", "id IN ?", []string{create, newest, running, late}))
	require.Zero(t, b.count("operations", "id = ?", between))
	require.Zero(t, b.count("operation_targets", "operation_id = ?", between))
	require.Equal(t, 5, b.count("operations"), "and the other CVM's own")
}

// TestOperationsAreReadToTheEnd, whatever old ones stay in front.
func TestOperationsAreReadToTheEnd(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.cvm()
	insert := func(prefix string, vm any, n int) {
		b.exec(`INSERT INTO operations (id, workspace_id, kind, status, app_id, vm_uuid, generation, request_id, open_targets, created_at, finished_at)
			SELECT ? || lpad(n::text, 9, '0'), ?, 'cvm.stop', 'succeeded', ?, ?::uuid, 1, '', 0, now() - `+month+`, now() - `+month+`
			FROM generate_series(1, ?) n`, prefix, b.workspace, b.app, vm, n)
	}
	b.exec(`UPDATE operations SET finished_at = now() - ` + almost)
	insert("op_1", id, 1)
	insert("op_2", nil, 3500)
	b.one(`UPDATE cvms SET create_operation_id = 'op_1000000001' WHERE id = ?`, id)
	b.reap()
	require.Zero(t, b.count("operations", "id LIKE 'op_2%'"))
	require.Equal(t, 1, b.count("operations", "id LIKE 'op_1%'"))
	insert("op_00", nil, 1)
	b.reap()
	require.Zero(t, b.count("operations", "id LIKE 'op_00%'"), "and from the beginning again")
}

// TestTheRetentionFollowsTheKeys: what a key can name outlives it.
func TestTheRetentionFollowsTheKeys(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *maintenance.Config) { c.KeyTTL = 60 * 24 * time.Hour })
	id := b.cvm()
	rule := b.rule(b.cvm())
	op := b.operation(api.OperationSucceeded, nil)
	set := func(age string) {
		b.one(`UPDATE cvms SET deleting_at = now(), deleted_at = now() - interval '`+age+`' WHERE id = ?`, id)
		b.one(`UPDATE firewall_rules SET deleted_at = now() - interval '`+age+`' WHERE id = ?`, rule)
		b.one(`UPDATE operations SET created_at = now() - interval '`+age+`', finished_at = now() - interval '`+age+`' WHERE id = ?`, op)
	}
	left := func() int {
		return b.count("cvms", "id = ?", id) + b.count("firewall_rules", "id = ?", rule) + b.count("operations", "id = ?", op)
	}
	set("60 days 23 hours")
	b.reap()
	require.Equal(t, 3, left())
	set("61 days 1 minute")
	b.reap()
	require.Zero(t, left())
}

// TestReapersDoNotNeedEachOther: one whose table is away stops no other, is
// counted, and is told of.
func TestReapersDoNotNeedEachOther(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.bind("k", "", true)
	loose := b.spec()
	b.exec(`ALTER TABLE idempotency_keys RENAME TO elsewhere`)
	b.reap()
	require.Equal(t, 1, b.count("specs", "id = ? AND loose_at IS NOT NULL", loose))
	require.Equal(t, 1.0, b.metric(b.reg, "roost_maintenance_failures_total"))
	require.Equal(t, 1, b.log.lines(`"task":"reap keys"`))
	b.exec(`ALTER TABLE elsewhere RENAME TO idempotency_keys`)
	b.reap()
	require.Zero(t, b.count("idempotency_keys"))
}

// TestAPanicEndsThePassAndNotTheProcess: here Owl's client panics.
func TestAPanicEndsThePassAndNotTheProcess(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *maintenance.Config) { c.Owl = nil })
	b.cvm()
	b.m.Look(t.Context())
	require.Equal(t, 1.0, b.metric(b.reg, "roost_maintenance_failures_total"))
	require.Equal(t, 1, b.log.lines("panic: "))
}

// TestRunEndsWithItsContext, at once.
func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.bind("k", "", true)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.m.Run(ctx) }()
	require.Eventually(t, func() bool { return b.count("idempotency_keys") == 0 }, patience, tick)
	cancel()
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(patience):
		require.NoError(t, errors.New("it goes on"))
	}
}

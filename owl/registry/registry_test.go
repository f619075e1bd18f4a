package registry_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"roost/api"
	"roost/api/owlapi"
	"roost/models/pgtest"
	"roost/owl/registry"
)

type testBundle struct {
	*registry.Registry
	db    *gorm.DB
	ctx   context.Context //nolint:containedctx // one test's lifetime
	mint  *api.Minter
	wakes atomic.Int64
}

func setup(t *testing.T) *testBundle {
	t.Helper()
	b := &testBundle{db: pgtest.Owl(t), ctx: t.Context(), mint: api.NewMinter()}
	b.Registry = registry.New(b.db, func() { b.wakes.Add(1) })
	return b
}

func (b *testBundle) request() owlapi.CreateCVM {
	return owlapi.CreateCVM{
		ID: b.mint.ID(), AppID: b.mint.ID(), Name: "web",
		Spec: json.RawMessage(`{"instance_type":"tdx.small","n":9007199254740993}`),
	}
}

func (b *testBundle) create(t *testing.T, request owlapi.CreateCVM) registry.Insertion[owlapi.CVM] {
	t.Helper()
	made, err := b.CreateCVMs(b.ctx, []owlapi.CreateCVM{request})
	require.NoError(t, err)
	require.Len(t, made, 1)
	return made[0]
}

func requireCode(t *testing.T, err error, code api.Code) {
	t.Helper()
	require.Equal(t, code, codedError(t, err).Code)
}

func codedError(t *testing.T, err error) *api.Error {
	t.Helper()
	var coded *api.Error
	require.ErrorAs(t, err, &coded)
	return coded
}

func put(generation int64, power api.Power) owlapi.PutCVM {
	return owlapi.PutCVM{Generation: generation, Power: power, Spec: json.RawMessage(`{"instance_type":"tdx.large"}`)}
}

func TestInsertHasFourOutcomes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	request := b.request()

	first := b.create(t, request)
	require.Equal(t, registry.Created, first.Outcome)
	require.Equal(t, int64(1), first.Row.Generation)
	require.Equal(t, api.PowerRunning, first.Row.Power)
	require.Equal(t, api.StatusProvisioning, first.Row.Status)
	require.Equal(t, string(request.Spec), string(first.Row.Spec))
	require.Equal(t, int64(1), b.wakes.Load())

	again := b.create(t, request)
	require.Equal(t, registry.Existing, again.Outcome)
	require.Equal(t, first.Row, again.Row)
	require.Equal(t, int64(1), b.wakes.Load(), "a repeat has nothing to do")

	other := request
	other.Name = "other"
	conflict := b.create(t, other)
	require.Equal(t, registry.Conflict, conflict.Outcome)
	requireCode(t, conflict.Err, api.CodeIDConflict)

	require.NoError(t, b.DeleteCVM(b.ctx, request.ID))
	for _, r := range []owlapi.CreateCVM{request, other} {
		gone := b.create(t, r)
		require.Equal(t, registry.Gone, gone.Outcome)
		requireCode(t, gone.Err, api.CodeGone)
	}
}

// The comparison is with the create request, whatever has become of the row.
func TestARepeatAfterAPutIsARepeat(t *testing.T) {
	t.Parallel()
	b := setup(t)
	request := b.request()
	b.create(t, request)
	applied, err := b.ApplyCVM(b.ctx, request.ID, put(5, api.PowerStopped))
	require.NoError(t, err)
	again := b.create(t, request)
	require.Equal(t, registry.Existing, again.Outcome)
	require.Equal(t, applied, again.Row, "the record as it is now")

	likeTheRow := request
	likeTheRow.Generation, likeTheRow.Power, likeTheRow.Spec = 5, api.PowerStopped, applied.Spec
	require.Equal(t, registry.Conflict, b.create(t, likeTheRow).Outcome)
}

func TestConflictNamesEachMember(t *testing.T) {
	t.Parallel()
	b := setup(t)
	request := b.request()
	request.Spec = json.RawMessage(`{"instance_type":"tdx.small","n":9007199254740993,"f":1.0,"a":[1,2],"o":{"deep/er":1}}`)
	b.create(t, request)
	id, restart := b.mint.ID(), "op_1"
	for name, tc := range map[string]struct {
		change func(*owlapi.CreateCVM)
		fields []string
	}{
		"app_id":      {func(r *owlapi.CreateCVM) { r.AppID = id }, []string{"/app_id"}},
		"replica_of":  {func(r *owlapi.CreateCVM) { r.ReplicaOf = &id }, []string{"/replica_of"}},
		"name, power": {func(r *owlapi.CreateCVM) { r.Name, r.Power = "b", api.PowerStopped }, []string{"/name", "/power"}},
		"generation":  {func(r *owlapi.CreateCVM) { r.Generation = 2 }, []string{"/generation"}},
		"restart":     {func(r *owlapi.CreateCVM) { r.Restart = &restart }, []string{"/restart"}},
		"past 2^53": {func(r *owlapi.CreateCVM) {
			r.Spec = json.RawMessage(`{"instance_type":"tdx.small","n":9007199254740992,"f":1.0,"a":[1,2],"o":{"deep/er":1}}`)
		}, []string{"/spec/n"}},
		"digits": {func(r *owlapi.CreateCVM) {
			r.Spec = json.RawMessage(`{"instance_type":"tdx.small","n":9007199254740993,"f":1,"a":[1,2],"o":{"deep/er":1}}`)
		}, []string{"/spec/f"}},
		"deep": {func(r *owlapi.CreateCVM) {
			r.Spec = json.RawMessage(`{"instance_type":"tdx.small","n":9007199254740993,"f":1.0,"a":[2,1],"o":{"deep/er":2}}`)
		}, []string{"/spec/a", "/spec/o/deep~1er"}},
		"nothing: order and white space": {func(r *owlapi.CreateCVM) {
			r.Spec = json.RawMessage(" {\"o\":{\"deep/er\":1},\n\"f\":1.0,\"n\":9007199254740993, \"a\":[1, 2],\"instance_type\":\"tdx.small\"}")
		}, nil},
		"nothing: defaults spelled out": {func(r *owlapi.CreateCVM) { r.Generation, r.Power = 1, api.PowerRunning }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			other := request
			tc.change(&other)
			made, err := b.CreateCVMs(t.Context(), []owlapi.CreateCVM{other})
			require.NoError(t, err)
			if tc.fields == nil {
				require.Equal(t, registry.Existing, made[0].Outcome)
				return
			}
			require.Equal(t, registry.Conflict, made[0].Outcome)
			var fields []string
			for _, f := range codedError(t, made[0].Err).Fields {
				fields = append(fields, f.Field)
			}
			require.Equal(t, tc.fields, fields)
		})
	}
}

func TestSpecsLieInOneColumn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const canary = "canary-encrypted-env-31337"
	request := b.request()
	request.Spec = json.RawMessage(`{"encrypted_env":"` + canary + `","list":["` + canary + `"]}`)
	b.create(t, request)
	other := request
	other.Spec = json.RawMessage(`{"encrypted_env":"another"}`)
	require.NotContains(t, fmt.Sprint(b.create(t, other).Err), canary)
	var dump string
	require.NoError(t, b.db.Raw(`SELECT (to_jsonb(c) - 'spec')::text FROM cvms c`).Scan(&dump).Error)
	require.Contains(t, dump, request.ID.String())
	require.NotContains(t, dump, canary)
}

// together runs fn n times at once.
func together(n int, fn func(i int)) {
	var all sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-start
			fn(i)
		})
	}
	close(start)
	all.Wait()
}

func TestAHundredAtOnceMakeOne(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		different bool
		losers    registry.Outcome
	}{"same": {false, registry.Existing}, "different": {true, registry.Conflict}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			request := b.request()
			made := make([]registry.Insertion[owlapi.CVM], 100)
			together(100, func(i int) {
				mine := request
				if tc.different {
					mine.Name = fmt.Sprintf("web-%d", i)
				}
				got, err := b.CreateCVMs(b.ctx, []owlapi.CreateCVM{mine})
				if err != nil {
					t.Errorf("create: %v", err)
					return
				}
				made[i] = got[0]
			})
			count := map[registry.Outcome]int{}
			for _, m := range made {
				count[m.Outcome]++
				require.Equal(t, made[0].Row, m.Row, "all see one record")
			}
			require.Equal(t, map[registry.Outcome]int{registry.Created: 1, tc.losers: 99}, count)
		})
	}
}

func TestOneIDTwiceInABatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a, c := b.request(), b.request()
	other := a
	other.Name = "other"
	made, err := b.CreateCVMs(b.ctx, []owlapi.CreateCVM{a, a, c, other})
	require.NoError(t, err)
	var got []registry.Outcome
	for _, m := range made {
		got = append(got, m.Outcome)
	}
	require.Equal(t, []registry.Outcome{registry.Created, registry.Existing, registry.Created, registry.Conflict}, got)
}

// Two batches name the same IDs in opposite orders, and each is stopped between
// them: the order of their inserts is theirs, not the callers'.
func TestBatchesThatOverlapDoNotDeadlock(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first, second, last := b.request(), b.request(), b.request()
	stops := []owlapi.CreateCVM{b.request(), b.request()}
	held := b.holdIDs(t, stops)
	answers := make(chan error, 2)
	for i, batch := range [][]owlapi.CreateCVM{{first, second, stops[0], last}, {last, stops[1], second, first}} {
		go func() {
			made, err := b.CreateCVMs(b.ctx, batch)
			if err == nil && len(made) != 4 {
				err = fmt.Errorf("batch %d made %d", i, len(made))
			}
			answers <- err
		}()
	}
	b.waitForLocks(t, 2)
	require.NoError(t, held.Rollback().Error)
	require.NoError(t, <-answers)
	require.NoError(t, <-answers)
}

// holdIDs inserts rows in a transaction that stays open: whoever wants their
// IDs has to wait.
func (b *testBundle) holdIDs(t *testing.T, requests []owlapi.CreateCVM) *gorm.DB {
	t.Helper()
	tx := b.db.Begin()
	for _, r := range requests {
		require.NoError(t, tx.Exec(`INSERT INTO cvms (id, app_id, name, create_digests, generation, power, spec, status, due_at)
			VALUES (?, ?, 'x', '{}', 1, 'running', '{}', 'provisioning', now())`, r.ID, r.AppID).Error)
	}
	return tx
}

func TestPutAppliesOnlyWhatIsNewer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	request := b.request()
	b.create(t, request)
	started, err := b.ApplyCVM(b.ctx, request.ID, put(4, api.PowerRunning))
	require.NoError(t, err)
	require.Equal(t, int64(4), started.Generation)
	for _, late := range []int64{1, 3, 4} {
		got, err := b.ApplyCVM(b.ctx, request.ID, put(late, api.PowerStopped))
		require.NoError(t, err)
		require.Equal(t, started, got, "generation %d is not newer", late)
	}
	_, err = b.ApplyCVM(b.ctx, b.mint.ID(), put(1, api.PowerRunning))
	requireCode(t, err, api.CodeNotFound)
	require.NoError(t, b.DeleteCVM(b.ctx, request.ID))
	_, err = b.ApplyCVM(b.ctx, request.ID, put(9, api.PowerRunning))
	requireCode(t, err, api.CodeGone)
}

func TestPutSaysWhereTheMachineIsGoing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	restart := "op_1"
	for name, tc := range map[string]struct {
		row  string // how the row stands
		put  owlapi.PutCVM
		want api.Status
	}{
		"before the first observation": {`observed_generation = 0`, put(2, api.PowerStopped), api.StatusProvisioning},
		"stop":                         {`observed_generation = 1, status = 'running'`, put(2, api.PowerStopped), api.StatusStopping},
		"start":                        {`observed_generation = 1, status = 'stopped', power = 'stopped'`, put(2, api.PowerRunning), api.StatusStarting},
		"start of what failed":         {`observed_generation = 1, status = 'failed'`, put(2, api.PowerRunning), api.StatusStarting},
		"stop of what failed":          {`observed_generation = 1, status = 'failed', power = 'stopped'`, put(2, api.PowerStopped), api.StatusStopping},
		"update":                       {`observed_generation = 1, status = 'running'`, put(2, api.PowerRunning), api.StatusUpdating},
		"update of what is stopped":    {`observed_generation = 1, status = 'stopped', power = 'stopped'`, put(2, api.PowerStopped), api.StatusUpdating},
		"restart": {`observed_generation = 1, status = 'running'`, owlapi.PutCVM{
			Generation: 2, Power: api.PowerRunning, Restart: &restart, Spec: json.RawMessage(`{}`),
		}, api.StatusRestarting},
		"the restart was asked for before": {`observed_generation = 1, status = 'running', restart = 'op_1'`, owlapi.PutCVM{
			Generation: 2, Power: api.PowerRunning, Restart: &restart, Spec: json.RawMessage(`{}`),
		}, api.StatusUpdating},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			request := b.request()
			_, err := b.CreateCVMs(t.Context(), []owlapi.CreateCVM{request})
			require.NoError(t, err)
			require.NoError(t, b.db.Exec(`UPDATE cvms SET `+tc.row+` WHERE id = ?`, request.ID).Error)
			got, err := b.ApplyCVM(t.Context(), request.ID, tc.put)
			require.NoError(t, err)
			require.Equal(t, tc.want, got.Status)
		})
	}
}

func TestDeleteFencesALateCreate(t *testing.T) {
	t.Parallel()
	b := setup(t)
	request := b.request()
	require.NoError(t, b.DeleteCVM(b.ctx, request.ID), "an ID never seen")
	requireCode(t, b.DeleteCVM(b.ctx, request.ID), api.CodeGone)
	require.Equal(t, registry.Gone, b.create(t, request).Outcome)

	_, err := b.CVM(b.ctx, request.ID)
	requireCode(t, err, api.CodeGone)
	var record owlapi.CVM
	require.NoError(t, json.Unmarshal(codedError(t, err).Record, &record))
	require.Equal(t, request.ID, record.ID)
	require.Equal(t, int64(0), record.Generation)
}

func TestAHundredDeletesAndCreates(t *testing.T) {
	t.Parallel()
	b := setup(t)
	request := b.request()
	var deleted, created atomic.Int64
	together(100, func(i int) {
		if i%2 == 0 {
			var coded *api.Error
			switch err := b.DeleteCVM(b.ctx, request.ID); {
			case err == nil:
				deleted.Add(1)
			case !errors.As(err, &coded) || coded.Code != api.CodeGone:
				t.Errorf("delete: %v", err)
			}
			return
		}
		made, err := b.CreateCVMs(b.ctx, []owlapi.CreateCVM{request})
		if err != nil {
			t.Errorf("create: %v", err)
		} else if made[0].Outcome == registry.Created {
			created.Add(1)
		}
	})
	require.Equal(t, int64(1), deleted.Load(), "one deletion is the first")
	require.LessOrEqual(t, created.Load(), int64(1))
	_, err := b.CVM(b.ctx, request.ID)
	requireCode(t, err, api.CodeGone)
}

func (b *testBundle) rule(cvmID api.ID) owlapi.CreateFirewallRule {
	return owlapi.CreateFirewallRule{ID: b.mint.ID(), CVMID: cvmID, CIDR: "10.0.0.0/8"}
}

func TestRulesHaveTheSameOutcomes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	request := b.request()
	b.create(t, request)
	rule := b.rule(request.ID)
	port := int64(443)
	other := rule
	other.Port, other.Protocol = &port, owlapi.ProtocolUDP

	orphan, err := b.CreateFirewallRule(b.ctx, b.rule(b.mint.ID()))
	require.NoError(t, err)
	requireCode(t, orphan.Err, api.CodeNotFound)

	for _, step := range []struct {
		request owlapi.CreateFirewallRule
		want    registry.Outcome
	}{{rule, registry.Created}, {rule, registry.Existing}, {other, registry.Conflict}} {
		made, err := b.CreateFirewallRule(b.ctx, step.request)
		require.NoError(t, err)
		require.Equal(t, step.want, made.Outcome)
	}
	require.NoError(t, b.DeleteFirewallRule(b.ctx, rule.ID))
	requireCode(t, b.DeleteFirewallRule(b.ctx, rule.ID), api.CodeGone)
	gone, err := b.CreateFirewallRule(b.ctx, rule)
	require.NoError(t, err)
	require.Equal(t, registry.Gone, gone.Outcome)

	late := b.rule(request.ID)
	require.NoError(t, b.DeleteFirewallRule(b.ctx, late.ID), "an ID never seen")
	gone, err = b.CreateFirewallRule(b.ctx, late)
	require.NoError(t, err)
	require.Equal(t, registry.Gone, gone.Outcome)
}

func TestDeletingACVMDeletesItsRules(t *testing.T) {
	t.Parallel()
	b := setup(t)
	request := b.request()
	b.create(t, request)
	rule := b.rule(request.ID)
	_, err := b.CreateFirewallRule(b.ctx, rule)
	require.NoError(t, err)
	require.NoError(t, b.DeleteCVM(b.ctx, request.ID))
	_, err = b.FirewallRule(b.ctx, rule.ID)
	requireCode(t, err, api.CodeGone)
	requireCode(t, b.DeleteFirewallRule(b.ctx, rule.ID), api.CodeGone)
	late, err := b.CreateFirewallRule(b.ctx, b.rule(request.ID))
	require.NoError(t, err)
	requireCode(t, late.Err, api.CodeGone)
}

// A rule that is inserted while its CVM is deleted is deleted with it or never
// made, in whatever order the two commit.
func TestNoRuleOutlivesItsCVM(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range 20 {
		request := b.request()
		b.create(t, request)
		together(6, func(i int) {
			if i == 0 {
				if err := b.DeleteCVM(b.ctx, request.ID); err != nil {
					t.Errorf("delete: %v", err)
				}
				return
			}
			if _, err := b.CreateFirewallRule(b.ctx, b.rule(request.ID)); err != nil {
				t.Errorf("create rule: %v", err)
			}
		})
	}
	var live int64
	require.NoError(t, b.db.Raw(`SELECT count(*) FROM firewall_rules WHERE delete_requested_at IS NULL`).Scan(&live).Error)
	require.Zero(t, live)
}

// The insert waits for a deletion that holds the CVM's row, and then sees it.
func TestRuleWaitsForADeletionUnderWay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	request := b.request()
	b.create(t, request)
	tx := b.db.Begin()
	require.NoError(t, tx.Exec(`UPDATE cvms SET delete_requested_at = now(), due_at = now() WHERE id = ?`, request.ID).Error)
	done := make(chan error, 1)
	go func() {
		made, err := b.CreateFirewallRule(b.ctx, b.rule(request.ID))
		done <- errors.Join(err, made.Err)
	}()
	b.waitForLocks(t, 1)
	require.NoError(t, tx.Commit().Error)
	requireCode(t, <-done, api.CodeGone)
}

// waitForLocks returns when n sessions of this database wait for a lock.
func (b *testBundle) waitForLocks(t *testing.T, n int64) {
	t.Helper()
	require.Eventually(t, func() bool {
		var waiting int64
		err := b.db.Raw(`SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&waiting).Error
		return err == nil && waiting == n
	}, 5*time.Second, 5*time.Millisecond)
}

func TestListsHoldTombstones(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var ids []api.ID
	for range 5 {
		request := b.request()
		b.create(t, request)
		ids = append(ids, request.ID)
	}
	require.NoError(t, b.DeleteCVM(b.ctx, ids[1]))
	page, err := b.CVMs(b.ctx, registry.List{Limit: 3})
	require.NoError(t, err)
	require.Len(t, page, 3)
	require.Equal(t, ids[1], page[1].ID)
	require.Equal(t, api.StatusDeleting, page[1].Status)
	rest, err := b.CVMs(b.ctx, registry.List{After: page[2].ID, Limit: 3, OmitSpec: true})
	require.NoError(t, err)
	require.Len(t, rest, 2)
	require.Nil(t, rest[0].Spec)
	some, err := b.CVMs(b.ctx, registry.List{IDs: []api.ID{ids[4], b.mint.ID(), ids[0]}})
	require.NoError(t, err)
	require.Len(t, some, 2)
	none, err := b.CVMs(b.ctx, registry.List{IDs: []api.ID{}})
	require.NoError(t, err)
	require.NotNil(t, none)
	require.Empty(t, none)
	rules, err := b.FirewallRules(b.ctx, registry.List{Limit: 10})
	require.NoError(t, err)
	require.NotNil(t, rules)
}

func TestReapForgetsOldTombstonesOnly(t *testing.T) {
	t.Parallel()
	b := setup(t)
	old, fresh, unconfirmed, live := b.request(), b.request(), b.request(), b.request()
	for _, r := range []owlapi.CreateCVM{old, fresh, unconfirmed, live} {
		b.create(t, r)
	}
	for _, r := range []owlapi.CreateCVM{old, fresh, unconfirmed} {
		require.NoError(t, b.DeleteCVM(b.ctx, r.ID))
	}
	require.NoError(t, b.db.Exec(`UPDATE cvms SET due_at = NULL, deleted_at = now() - interval '2 hours' WHERE id = ?`, old.ID).Error)
	require.NoError(t, b.db.Exec(`UPDATE cvms SET due_at = NULL, deleted_at = now() WHERE id = ?`, fresh.ID).Error)
	require.NoError(t, b.db.Exec(`UPDATE cvms SET delete_requested_at = now() - interval '1 year' WHERE id = ?`, unconfirmed.ID).Error)
	reaped, err := b.Reap(b.ctx, time.Hour, 10)
	require.NoError(t, err)
	require.Equal(t, int64(1), reaped)
	require.Equal(t, registry.Created, b.create(t, old).Outcome)
	require.Equal(t, registry.Gone, b.create(t, fresh).Outcome)
	require.Equal(t, registry.Gone, b.create(t, unconfirmed).Outcome)
}

// A row that is not what it should be cannot be put to rest, by anyone.
func TestUnfinishedRowsStayDue(t *testing.T) {
	t.Parallel()
	b := setup(t)
	request := b.request()
	b.create(t, request)
	require.ErrorContains(t, b.db.Exec(`UPDATE cvms SET due_at = NULL WHERE id = ?`, request.ID).Error, "cvms_unfinished_is_due")
	require.NoError(t, b.DeleteCVM(b.ctx, request.ID))
	require.ErrorContains(t,
		b.db.Exec(`UPDATE cvms SET due_at = NULL, observed_generation = 9 WHERE id = ?`, request.ID).Error, "cvms_unfinished_is_due")
}

func TestOddSpecsAreKeptByteForByte(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, spec := range map[string]string{
		"NUL":         `{"a":"\u0000","b":"x"}`,
		"big numbers": `{"a":123456789012345678901234567890.10e+400}`,
		"white space": "{ \"a\" :\t1 }",
		"question":    `{"a":"? ?? $1 @id :x"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			request := b.request()
			request.Spec = json.RawMessage(spec)
			for _, want := range []registry.Outcome{registry.Created, registry.Existing} {
				made, err := b.CreateCVMs(t.Context(), []owlapi.CreateCVM{request})
				require.NoError(t, err)
				require.NoError(t, made[0].Err)
				require.Equal(t, want, made[0].Outcome)
				require.Equal(t, spec, string(made[0].Row.Spec))
			}
		})
	}
}

func TestADeadDatabaseIsUnavailable(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, cancel := context.WithCancel(b.ctx)
	cancel()
	_, err := b.CreateCVMs(ctx, []owlapi.CreateCVM{b.request()})
	requireCode(t, err, api.CodeUnavailable)
	require.Positive(t, codedError(t, err).RetryAfter)
}

// TestARowThatPostgresRefusesStopsNoOther: a batch is one statement, so one bad
// row fails it for all. Each then goes alone.
func TestARowThatPostgresRefusesStopsNoOther(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, b.db.Exec(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN RAISE 'no such machine' USING ERRCODE = 'check_violation'; END $$`).Error)
	require.NoError(t, b.db.Exec(`CREATE TRIGGER refuse BEFORE INSERT ON cvms FOR EACH ROW
		WHEN (NEW.name = 'poison') EXECUTE FUNCTION refuse()`).Error)
	good, poison, last := b.request(), b.request(), b.request()
	poison.Name = "poison"
	made, err := b.CreateCVMs(b.ctx, []owlapi.CreateCVM{good, poison, last})
	require.NoError(t, err)
	require.Equal(t, registry.Created, made[0].Outcome)
	require.Equal(t, good.ID, made[0].Row.ID)
	require.ErrorContains(t, made[1].Err, "no such machine")
	require.Empty(t, made[1].Outcome, "none of the four: the caller cannot tell, and sends it again")
	require.Equal(t, registry.Created, made[2].Outcome)
	require.Equal(t, last.ID, made[2].Row.ID)
}

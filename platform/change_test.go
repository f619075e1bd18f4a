package platform_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/apitest"
	"roost/api/owlapi"
	"roost/api/owlapi/owlapitest"
	"roost/models/pgtest/pgproxy"
	"roost/platform"
)

// lifecycle is a node over a scripted Owl, and what tests of changes do again
// and again. Its lease is longer than any test waits: what is pushed in time
// is pushed because it was due, not because a lease ran out.
type lifecycle struct {
	*testBundle

	owl *owlapitest.Fake
}

func setupLifecycle(t *testing.T, cfg owlapitest.Config) *lifecycle {
	t.Helper()
	b, owl := setupWithOwl(t, cfg, func(c *platform.Config) { c.ReconcileLease = 5 * time.Minute })
	return &lifecycle{testBundle: b, owl: owl}
}

// running starts the node's work, creates a CVM and waits until it runs.
func (l *lifecycle) running(name string) api.CVM {
	l.t.Helper()
	l.run(l.service)
	c := l.create(name)
	require.Equal(l.t, api.OperationSucceeded, l.ended(c.Operation.ID).Status)
	return l.cvm(c.VMUUID)
}

func path(id api.ID) string { return "/cvms/" + id.String() }

func (l *lifecycle) ask(id api.ID, action string) api.CVM {
	l.t.Helper()
	return l.post(path(id)+"/"+action, "").Expect(http.StatusAccepted).CVM()
}

func (l *lifecycle) patch(id api.ID, body string) api.CVM {
	l.t.Helper()
	return l.client().Request(http.MethodPatch, path(id), body).Expect(http.StatusAccepted).CVM()
}

func (l *lifecycle) remove(id api.ID) api.CVM {
	l.t.Helper()
	return l.client().Request(http.MethodDelete, path(id), "").Expect(http.StatusAccepted).CVM()
}

func (l *lifecycle) scale(app api.ID, count int) api.CVMs {
	l.t.Helper()
	return apitest.Decode[api.CVMs](l.client().Request(http.MethodPut, "/apps/"+app.String()+"/replicas", fmt.Sprintf(`{"count":%d}`, count)).
		Expect(http.StatusAccepted))
}

func (l *lifecycle) list(app api.ID) (ids []api.ID) {
	l.t.Helper()
	for _, c := range apitest.Decode[[]api.CVM](l.get("/apps/" + app.String() + "/cvms").Expect(http.StatusOK)) {
		ids = append(ids, c.VMUUID)
	}
	return ids
}

func (l *lifecycle) succeeds(c api.CVM) {
	l.t.Helper()
	require.Equal(l.t, api.OperationSucceeded, l.ended(c.Operation.ID).Status, c.Operation.Kind)
}

// canceled requires that op was ended by another.
func (l *lifecycle) canceled(op string, by api.CVM) {
	l.t.Helper()
	got := l.operation(op)
	require.Equal(l.t, api.OperationCanceled, got.Status)
	require.Equal(l.t, api.ErrorSuperseded, got.Error.Code)
	require.Equal(l.t, by.Operation.ID, got.Error.SupersededBy)
	require.NotNil(l.t, got.FinishedAt)
}

func (l *lifecycle) open(op string) {
	l.t.Helper()
	require.False(l.t, l.operation(op).Status.Ended(), l.operation(op).Kind)
}

// calls is what reached Owl about one CVM, in order: POST, PUT 2, DELETE. The
// same again and again is one: two workers may both push what is due.
func (l *lifecycle) calls(id api.ID) (calls []string) {
	for _, r := range l.owl.Journal() {
		switch {
		case r.Path == owlapi.PathCVMsBatch && strings.Contains(string(r.Body), `"id":"`+id.String()):
			calls = append(calls, "POST")
		case r.Path == "/v1/cvms/"+id.String() && r.Method == http.MethodPut:
			var put owlapi.PutCVM
			require.NoError(l.t, json.Unmarshal(r.Body, &put))
			calls = append(calls, fmt.Sprint("PUT ", put.Generation))
		case r.Path == "/v1/cvms/"+id.String() && r.Method == http.MethodDelete:
			calls = append(calls, "DELETE")
		}
	}
	return slices.Compact(calls)
}

// inFlight waits until Owl has been called n times about the CVM.
func (l *lifecycle) inFlight(id api.ID, n int) {
	l.t.Helper()
	eventually(l.t, "the push is under way", func() bool { return len(l.calls(id)) >= n })
}

func (l *lifecycle) record(id api.ID) owlapi.CVM {
	l.t.Helper()
	record, ok := l.owl.Record(id)
	require.True(l.t, ok)
	return record
}

// TestWhatIsAskedForWhileAPushIsInFlightIsPushed: the row as it is when the
// answer comes decides what is still due, not the copy that was claimed.
func TestWhatIsAskedForWhileAPushIsInFlightIsPushed(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		first, then func(l *lifecycle, id api.ID) api.CVM
		want        []string // nil first: the create itself is in flight
	}{
		"a stop during the create":   {nil, (*lifecycle).stop, []string{"POST", "PUT 2"}},
		"a delete during the create": {nil, (*lifecycle).remove, []string{"POST", "DELETE"}},
		"a PATCH during a stop":      {(*lifecycle).stop, (*lifecycle).grow, []string{"POST", "PUT 2", "PUT 3"}},
		"a start during a stop":      {(*lifecycle).stop, (*lifecycle).start, []string{"POST", "PUT 2", "PUT 3"}},
		"a delete during a stop":     {(*lifecycle).stop, (*lifecycle).remove, []string{"POST", "PUT 2", "DELETE"}},
		"a delete during a PATCH":    {(*lifecycle).grow, (*lifecycle).remove, []string{"POST", "PUT 2", "DELETE"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := setupLifecycle(t, owlapitest.Config{})
			var c api.CVM
			if tc.first != nil {
				c = l.running("web")
				defer l.owl.Hold()()
				tc.first(l, c.VMUUID)
				l.inFlight(c.VMUUID, 2)
			} else {
				defer l.owl.Hold()()
				l.run(l.service)
				c = l.create("web")
				l.inFlight(c.VMUUID, 1)
			}
			then := tc.then(l, c.VMUUID)
			l.owl.Hold()() // a new gate, opened at once, lets go of the old one's
			l.succeeds(then)
			require.Equal(t, tc.want, l.calls(c.VMUUID))
			require.Zero(t, l.count("cvms", "reconcile_after IS NOT NULL AND deleted_at IS NULL"), "nothing is left to do")
			require.Zero(t, l.count("operations", "status IN ('pending', 'running')"))
		})
	}
}

// TestWhatIsStillDueIsComputedFromTheRowAsItIsNow: the row moved on while its
// push was in flight, and nobody else will claim it before the lease ends.
func TestWhatIsStillDueIsComputedFromTheRowAsItIsNow(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ meanwhile, want string }{
		"a change":   {"generation = generation + 1, power = 'running'", "PUT 3"},
		"a deletion": {"generation = generation + 1, deleting_at = now()", "DELETE"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := setupLifecycle(t, owlapitest.Config{})
			c := l.running("web")
			defer l.owl.Hold()()
			l.stop(c.VMUUID)
			l.inFlight(c.VMUUID, 2)
			require.NoError(t, l.db.Exec("UPDATE cvms SET "+tc.meanwhile).Error)
			l.owl.Hold()()
			l.inFlight(c.VMUUID, 3)
			require.Equal(t, []string{"POST", "PUT 2", tc.want}, l.calls(c.VMUUID))
			eventually(t, "and it comes to rest", func() bool { return l.count("cvms", "reconcile_after IS NULL") == 1 })
		})
	}
}

func (l *lifecycle) stop(id api.ID) api.CVM  { l.t.Helper(); return l.ask(id, "stop") }
func (l *lifecycle) start(id api.ID) api.CVM { l.t.Helper(); return l.ask(id, "start") }
func (l *lifecycle) grow(id api.ID) api.CVM  { l.t.Helper(); return l.patch(id, `{"vcpu":2}`) }

// TestAChangeGoesOutAsItIsNow: PUT carries the present spec, power and
// restart; POST the stored create, also when Owl has lost the CVM.
func TestAChangeGoesOutAsItIsNow(t *testing.T) {
	t.Parallel()
	l := setupLifecycle(t, owlapitest.Config{})
	c := l.running("web")
	l.succeeds(l.grow(c.VMUUID))
	require.Contains(t, string(l.record(c.VMUUID).Spec), `"vcpu":2`)
	restart := l.ask(c.VMUUID, "restart")
	l.succeeds(restart)
	require.Equal(t, restart.Operation.ID, *l.record(c.VMUUID).Restart)

	l.owl.Forget(c.VMUUID) // as a restored database would
	stopped := l.stop(c.VMUUID)
	l.succeeds(stopped)
	require.Equal(t, []string{"POST", "PUT 2", "PUT 3", "PUT 4", "POST", "PUT 4"}, l.calls(c.VMUUID))
	sent := creates(l.owl)[c.VMUUID]
	require.Equal(t, sent[0], sent[1], "the create that was stored")
	record := l.record(c.VMUUID)
	require.Equal(t, api.PowerStopped, record.Power)
	require.Contains(t, string(record.Spec), `"vcpu":2`)
	require.Equal(t, api.StatusStopped, l.cvm(c.VMUUID).Status)
}

// TestAPlatformThatIsBehindCatchesUp: it was restored from an older backup, so
// Owl has its generation, with something else in it.
func TestAPlatformThatIsBehindCatchesUp(t *testing.T) {
	t.Parallel()
	for name, ahead := range map[string]int{"by nothing": 1, "by two generations": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := setupLifecycle(t, owlapitest.Config{})
			c := l.running("web")
			for range ahead {
				l.succeeds(l.ask(c.VMUUID, "restart"))
			}
			require.NoError(t, l.db.Exec(`UPDATE cvms SET generation = 1, pushed_generation = 1, observed_generation = 1, restart_id = NULL`).Error)
			stop := l.stop(c.VMUUID)
			require.Equal(t, int64(2), stop.Generation)
			l.succeeds(stop)
			now := l.cvm(c.VMUUID)
			require.Equal(t, api.StatusStopped, now.Status)
			require.Equal(t, int64(ahead+2), now.Generation)
			require.Equal(t, api.PowerStopped, l.record(c.VMUUID).Power)
		})
	}
}

// TestNothingFollowsADelete: whatever answer is lost, no POST and no PUT comes
// after a DELETE, and the CVM ends.
func TestNothingFollowsADelete(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		before func(l *lifecycle, id api.ID)
		want   []string
	}{
		"answer lost":           {func(l *lifecycle, _ api.ID) { l.owl.DropNext(1) }, []string{"POST", "DELETE"}},
		"503":                   {func(l *lifecycle, _ api.ID) { l.owl.FailNext(2, http.StatusServiceUnavailable) }, []string{"POST", "DELETE"}},
		"unauthorized":          {func(l *lifecycle, _ api.ID) { l.owl.FailNext(1, http.StatusUnauthorized) }, []string{"POST", "DELETE"}},
		"Owl has lost the CVM":  {func(l *lifecycle, id api.ID) { l.owl.Forget(id) }, []string{"POST", "DELETE"}},
		"deleted below already": {func(l *lifecycle, id api.ID) { l.deleteBelow(id) }, []string{"POST", "DELETE"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := setupLifecycle(t, owlapitest.Config{})
			c := l.running("web")
			tc.before(l, c.VMUUID)
			removed := l.remove(c.VMUUID)
			require.Equal(t, c.Generation+1, removed.Generation, "a generation of its own, so that no older one ends it")
			require.Equal(t, removed.Generation, l.operation(removed.Operation.ID).Generation)
			l.succeeds(removed)
			require.Equal(t, tc.want, l.calls(c.VMUUID))
			require.NotNil(t, l.get(path(c.VMUUID)).Refuse(api.CodeResourceDeleted).DeletedAt)
			require.Zero(t, l.rows()["quota"])
			require.Zero(t, l.owl.Records())
		})
	}
}

func (l *lifecycle) deleteBelow(id api.ID) {
	l.t.Helper()
	require.NoError(l.t, owlapi.New(owlapi.Config{BaseURL: l.cfg.OwlURL}).DeleteCVM(l.t.Context(), id))
}

func TestADeleteBeforeThePushSendsNoCreate(t *testing.T) {
	t.Parallel()
	l := setupLifecycle(t, owlapitest.Config{})
	l.owl.PauseMachines(true)
	c := l.create("web")
	l.stop(c.VMUUID)
	removed := l.remove(c.VMUUID)
	l.run(l.service)
	eventually(t, "Owl has heard of it", func() bool { return l.count("cvms", "delete_confirmed") == 1 })
	require.NoError(t, l.db.Exec(`UPDATE cvms SET reconcile_after = now()`).Error) // the lease has run out
	eventually(t, "it was claimed again", func() bool { return l.count("cvms", "reconcile_after > now()") == 1 })
	l.owl.PauseMachines(false)
	l.succeeds(removed)
	require.Equal(t, []string{"DELETE"}, l.calls(c.VMUUID), "it plants the tombstone that stops a late create")
}

// TestAChangeOfWhatWasDeletedBelowFails: 410 to a PUT is a CVM
// that was deleted below us; it is never made again silently.
func TestAChangeOfWhatWasDeletedBelowFails(t *testing.T) {
	t.Parallel()
	l := setupLifecycle(t, owlapitest.Config{})
	c := l.running("web")
	l.deleteBelow(c.VMUUID)
	op := l.ended(l.stop(c.VMUUID).Operation.ID)
	require.Equal(t, api.OperationFailed, op.Status)
	require.Equal(t, string(api.CodeResourceDeleted), op.Error.Code)
	require.Equal(t, api.StatusFailed, l.cvm(c.VMUUID).Status)
	require.Len(t, creates(l.owl)[c.VMUUID], 1)
}

// TestAnOperationWaitsForItsOwnGeneration: an older one that is observed ends
// what asked for that one, and nothing later.
func TestAnOperationWaitsForItsOwnGeneration(t *testing.T) {
	t.Parallel()
	l := setupLifecycle(t, owlapitest.Config{})
	l.owl.PauseMachines(true)
	l.run(l.service)
	c := l.create("web")
	eventually(t, "Owl has it", func() bool { return l.count("cvms", "confirmed") == 1 })
	update := l.grow(c.VMUUID)
	eventually(t, "Owl has the change", func() bool { return l.count("cvms", "pushed_generation = 2") == 1 })
	require.Equal(t, api.OperationRunning, l.operation(update.Operation.ID).Status)
	l.owl.Rewind(c.VMUUID, 1)
	l.owl.Observe(c.VMUUID, api.StatusRunning, nil) // a look that saw the machine before the change
	l.succeeds(c)
	require.Equal(t, api.OperationRunning, l.operation(update.Operation.ID).Status)
	shown := l.cvm(c.VMUUID)
	require.True(t, shown.InProgress)
	require.Equal(t, []int64{1, 2}, []int64{shown.ObservedGeneration, shown.Generation})
}

// TestAStartOrStopOrRestartWhosePowerALaterRequestReverses, and only such, end
// when it is accepted; nothing has been pushed.
func TestAStartOrStopOrRestartWhosePowerALaterRequestReversesIsCanceled(t *testing.T) {
	t.Parallel()
	l := setupLifecycle(t, owlapitest.Config{})
	c := l.create("web")
	id := c.VMUUID
	update := l.grow(id)
	stop := l.stop(id)
	start := l.start(id)
	l.canceled(stop.Operation.ID, start)
	again := l.stop(id)
	l.canceled(start.Operation.ID, again)
	restart := l.ask(id, "restart")
	l.canceled(again.Operation.ID, restart)
	second := l.ask(id, "restart")
	l.open(restart.Operation.ID) // a restart does not reverse a restart
	last := l.stop(id)
	l.canceled(restart.Operation.ID, last)
	l.canceled(second.Operation.ID, last)
	shrink := l.patch(id, `{"vcpu":1}`)
	for _, kept := range []api.CVM{c, update, last, shrink} {
		l.open(kept.Operation.ID)
	}
	require.Equal(t, int64(9), shrink.Generation)
	require.Equal(t, 5, l.count("operations", "status = 'canceled'"))

	l.run(l.service)
	for _, kept := range []api.CVM{c, update, last, shrink} {
		l.succeeds(kept)
	}
	require.Equal(t, api.StatusStopped, l.cvm(id).Status)
	require.Equal(t, []string{"POST", "PUT 9"}, l.calls(id))
	l.canceled(stop.Operation.ID, start) // what has ended stays as it ended
}

// TestEveryOperationButTheDeleteItselfEndsOnceTheCVMIsBeingDeleted, whatever its kind.
func TestEveryOperationButTheDeleteItselfEndsOnceTheCVMIsBeingDeleted(t *testing.T) {
	t.Parallel()
	l := setupLifecycle(t, owlapitest.Config{})
	c := l.create("web")
	replica := l.post("/apps/"+c.AppID.String()+path(c.VMUUID)+"/replicas", "").Expect(http.StatusAccepted).CVM()
	scaled := l.scale(c.AppID, 3)
	for _, victim := range []api.CVM{c, replica, scaled.Items[0]} {
		id := victim.VMUUID
		ops := []string{victim.Operation.ID, l.grow(id).Operation.ID, l.ask(id, "restart").Operation.ID, l.patch(id, `{"memory":4096}`).Operation.ID}
		stopped := l.stop(id)
		l.canceled(ops[2], stopped)
		ops = append(ops[:2:2], ops[3], stopped.Operation.ID)
		removed := l.remove(id)
		for _, op := range ops {
			l.canceled(op, removed)
		}
		require.Equal(t, removed.Operation, l.remove(id).Operation, "while deleting the same operation")
	}
	l.run(l.service)
	eventually(t, "all are gone", func() bool { return l.count("cvms", "deleted_at IS NULL") == 0 })
	require.Equal(t, 3, l.count("operations", "status = 'succeeded' AND kind = 'cvm.delete'"))
	require.Zero(t, l.count("operations", "status IN ('pending', 'running', 'failed')"))
	require.Zero(t, l.rows()["quota"])
}

// TestAnOperationOverSeveralEndsWithTheLastOfThem when one is deleted
// meanwhile: canceled, or failed if another failed, and not before the last.
func TestAnOperationOverSeveralOfWhichOneIsDeletedEndsWithTheLast(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		last api.Status
		want api.OperationStatus
	}{
		"the others run": {api.StatusRunning, api.OperationCanceled},
		"one fails":      {api.StatusFailed, api.OperationFailed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := setupLifecycle(t, owlapitest.Config{})
			l.owl.PauseMachines(true)
			l.run(l.service)
			c := l.create("web")
			scaled := l.scale(c.AppID, 3)
			eventually(t, "Owl has them", func() bool { return l.count("cvms", "confirmed") == 3 })
			l.remove(scaled.Items[0].VMUUID)
			l.open(scaled.Operation.ID)
			var failure *api.ResourceError
			if tc.last == api.StatusFailed {
				failure = &api.ResourceError{Code: "X", Message: "because"}
			}
			l.owl.Observe(scaled.Items[1].VMUUID, tc.last, failure)
			require.Equal(t, tc.want, l.ended(scaled.Operation.ID).Status)
		})
	}
}

// TestScale is "Counting".
func TestScaleCopiesTheOldestThatHasNotFailedAndTheNewestGoFirst(t *testing.T) {
	t.Parallel()
	l := setupLifecycle(t, owlapitest.Config{Fail: func(name string) bool { return name == "doomed" }})
	l.run(l.service)
	c := l.create("doomed")
	l.ended(c.Operation.ID)
	scale := l.client().Request(http.MethodPut, "/apps/"+c.AppID.String()+"/replicas", `{"count":3}`).Key("k")
	scale.Send().Refuse(api.CodeInvalidState) // all have failed
	require.Zero(t, l.count("idempotency_keys"))

	blue := l.post("/apps/"+c.AppID.String()+path(c.VMUUID)+"/replicas", `{"name":"blue"}`).Expect(http.StatusAccepted).CVM()
	l.succeeds(blue)
	l.succeeds(l.grow(blue.VMUUID))
	up := apitest.Decode[api.CVMs](scale.Expect(http.StatusAccepted))
	require.Len(t, up.Items, 1)
	require.Equal(t, blue.VMUUID, *up.Items[0].ReplicaOf, "the oldest that has not failed")
	require.Equal(t, []any{"blue", int64(2)}, []any{up.Items[0].Name, up.Items[0].VCPU}, "as it is configured now")
	l.ended(up.Operation.ID)

	release := l.owl.Hold()
	more := l.scale(c.AppID, 5)
	down := l.scale(c.AppID, 3)
	require.Equal(t, []api.ID{more.Items[0].VMUUID, more.Items[1].VMUUID}, []api.ID{down.Items[0].VMUUID, down.Items[1].VMUUID})
	require.Equal(t, api.StatusDeleting, down.Items[0].Status)
	require.Equal(t, 3, l.rows()["quota"])
	require.Equal(t, api.OperationCanceled, l.operation(more.Operation.ID).Status)
	require.Equal(t, down.Operation.ID, l.remove(down.Items[0].VMUUID).Operation.ID, "while deleting the same operation")
	release()
	require.Equal(t, api.OperationSucceeded, l.ended(down.Operation.ID).Status)

	one := l.scale(c.AppID, 1)
	require.Equal(t, api.OperationSucceeded, l.ended(one.Operation.ID).Status)
	require.Equal(t, []api.ID{c.VMUUID}, l.list(c.AppID), "never the first one, also when it failed")
	require.True(t, scale.Expect(http.StatusAccepted).Replayed())
	require.Len(t, apitest.Decode[api.CVMs](scale.Expect(http.StatusAccepted)).Items, 1, "the same IDs, even deleted")
}

func TestScaleCountsNoneThatIsBeingDeleted(t *testing.T) {
	t.Parallel()
	l := setupLifecycle(t, owlapitest.Config{}) // Owl never answers: what is deleting stays so
	c := l.create("web")
	more := l.scale(c.AppID, 3)
	l.remove(more.Items[1].VMUUID)
	require.Equal(t, 2, l.rows()["quota"])
	again := l.scale(c.AppID, 3)
	require.Len(t, again.Items, 1, "two are left to count")
	require.Equal(t, 3, l.rows()["quota"])
	nothing := l.scale(c.AppID, 3)
	require.Empty(t, nothing.Items)
	require.Equal(t, api.OperationSucceeded, nothing.Operation.Status)
	require.Equal(t, c.AppID, nothing.Operation.ResourceID)

	l.remove(c.VMUUID) // the primary: the oldest replica is the first one now
	require.Len(t, l.scale(c.AppID, 1).Items, 1)
	live := 0
	for _, id := range l.list(c.AppID) {
		if shown := l.cvm(id); shown.Status != api.StatusDeleting {
			live++
			require.Equal(t, more.Items[0].VMUUID, id)
		}
	}
	require.Equal(t, 1, live)
}

// TestNamesAndAdoption is "Committing".
func TestANewCreateOfAnAppThatHasACVMNamesIt(t *testing.T) {
	t.Parallel()
	l := setupLifecycle(t, owlapitest.Config{Fail: func(name string) bool { return name == "doomed" }})
	l.run(l.service)
	c := l.create("doomed")
	l.ended(c.Operation.ID)
	adopted := l.post("/cvms", l.spec("doomed")).Key("k").Expect(http.StatusAccepted)
	require.True(t, adopted.Replayed(), "also when it failed")
	require.Equal(t, []any{c.VMUUID, c.Operation.ID, api.StatusFailed}, []any{adopted.CVM().VMUUID, adopted.CVM().Operation.ID, adopted.CVM().Status})
	require.Equal(t, c.Operation.ID, *apitest.Decode[api.Key](l.get("/idempotency-keys/k").Expect(http.StatusOK)).OperationID)

	patched := l.grow(c.VMUUID)
	require.NotEqual(t, c.ComposeHash, patched.ComposeHash)
	p := l.post("/cvms", l.spec("doomed")).Send().Refuse(api.CodeAppExists)
	require.Equal(t, []api.ID{c.AppID, c.VMUUID}, []api.ID{*p.AppID, *p.VMUUID})
	larger := strings.Replace(l.spec("doomed"), "{", `{"vcpu":2,`, 1)
	require.True(t, l.post("/cvms", larger).Expect(http.StatusAccepted).Replayed(), "the hash follows PATCH")
	commit := fmt.Sprintf(`{"app_id":%q,"compose_hash":%q}`, c.AppID, patched.ComposeHash)
	require.True(t, l.post("/cvms", commit).Expect(http.StatusAccepted).Replayed(), "also of a commit without its provision")

	defer l.owl.Hold()()
	removed := l.remove(c.VMUUID)
	next := l.post("/cvms", l.spec("doomed")).Expect(http.StatusAccepted)
	require.False(t, next.Replayed(), "while the first is being deleted: a new one")
	require.Equal(t, c.AppID, next.CVM().AppID)
	require.NotEqual(t, c.VMUUID, next.CVM().VMUUID)
	require.Equal(t, []api.ID{c.VMUUID, next.CVM().VMUUID}, l.list(c.AppID))
	require.True(t, l.post("/cvms", l.spec("doomed")).Key("k").Expect(http.StatusAccepted).Replayed())
	l.owl.Hold()()
	l.succeeds(removed)
	require.Equal(t, []api.ID{next.CVM().VMUUID}, l.list(c.AppID))
	require.Equal(t, c.VMUUID, l.post("/cvms", l.spec("doomed")).Key("k").Expect(http.StatusAccepted).CVM().VMUUID, "the key's own, even deleted")
}

func TestAPatchIsNaturalAndOfWhatWasNeverPushedToo(t *testing.T) {
	t.Parallel()
	l := setupLifecycle(t, owlapitest.Config{})
	c := l.create("web")
	first := l.grow(c.VMUUID)
	require.Equal(t, api.StatusProvisioning, first.Status)
	require.Equal(t, first.Operation, l.grow(c.VMUUID).Operation, "it names the operation under way")
	require.Equal(t, int64(2), l.cvm(c.VMUUID).Generation)
	l.run(l.service)
	l.succeeds(first)
	idle := l.grow(c.VMUUID)
	require.Equal(t, int64(2), idle.Generation)
	require.Equal(t, api.OperationSucceeded, idle.Operation.Status)
	require.NotEqual(t, first.Operation.ID, idle.Operation.ID)
	require.Equal(t, []string{"POST", "PUT 2"}, l.calls(c.VMUUID))
	require.NotContains(t, string(creates(l.owl)[c.VMUUID][0].Spec), `"vcpu":2`, "the create goes out as it was stored")
}

// TestARuleIsPushedOnceItsCVMIsConfirmed: a claim takes the oldest first, and
// passes over the rule whose CVM Owl does not have.
func TestARuleIsPushedOnceItsCVMIsConfirmed(t *testing.T) {
	t.Parallel()
	l := setupLifecycle(t, owlapitest.Config{})
	there := l.running("there")
	defer l.owl.Hold()()
	coming := l.create("coming")
	early := l.rule(coming.VMUUID)
	later := l.rule(there.VMUUID)
	eventually(t, "the later rule is under way", func() bool { return l.ruleCalls(later, http.MethodPost) == 1 })
	require.Equal(t, 1, l.count("firewall_rules", "attempts = 0 AND id = '"+early.ID.String()+"'"))
	l.owl.Hold()()
	for _, rule := range []api.FirewallRule{early, later} {
		eventually(t, "it is active", func() bool {
			return l.count("firewall_rules", "status = 'active' AND id = '"+rule.ID.String()+"'") == 1
		})
		require.Equal(t, 1, l.ruleCalls(rule, http.MethodPost))
	}
}

func (l *lifecycle) rule(cvm api.ID) api.FirewallRule {
	l.t.Helper()
	return apitest.Decode[api.FirewallRule](l.post(path(cvm)+"/firewall-rules", `{"cidr":"10.0.0.0/8"}`).Expect(http.StatusCreated))
}

// ruleCalls counts the calls about a rule that reached Owl.
func (l *lifecycle) ruleCalls(rule api.FirewallRule, method string) (n int) {
	for _, r := range l.owl.Journal() {
		about := r.Path == "/v1/firewall-rules/"+rule.ID.String() || strings.Contains(string(r.Body), `"id":"`+rule.ID.String())
		if r.Method == method && about {
			n++
		}
	}
	return n
}

// TestARuleThatIsDeletedWhileItsPushIsInFlight is deleted at Owl too.
func TestARuleThatIsDeletedWhileItsPushIsInFlightIsDeletedAtOwl(t *testing.T) {
	t.Parallel()
	l := setupLifecycle(t, owlapitest.Config{})
	c := l.running("web")
	defer l.owl.Hold()()
	rule := l.rule(c.VMUUID)
	one := path(c.VMUUID) + "/firewall-rules/" + rule.ID.String()
	eventually(t, "the push is under way", func() bool { return l.ruleCalls(rule, http.MethodPost) == 1 })
	// As a deletion leaves it, had its own due time been claimed already.
	require.NoError(t, l.db.Exec(`UPDATE firewall_rules SET deleted_at = now()`).Error)
	l.owl.Hold()()
	eventually(t, "Owl has deleted it", func() bool {
		return l.ruleCalls(rule, http.MethodDelete) == 1 && l.count("firewall_rules", "reconcile_after IS NOT NULL") == 0
	})
	require.Equal(t, 1, l.ruleCalls(rule, http.MethodPost))
	require.NotNil(t, l.client().Request(http.MethodDelete, one, "").Send().Refuse(api.CodeGone).DeletedAt)
}

// TestRulesEndWithTheirCVM: with its acceptance, and Owl is asked for no rule.
func TestRulesEndWithTheirCVM(t *testing.T) {
	t.Parallel()
	l := setupLifecycle(t, owlapitest.Config{})
	c := l.running("web")
	rule := l.rule(c.VMUUID)
	eventually(t, "it is active", func() bool { return l.count("firewall_rules", "status = 'active'") == 1 })
	defer l.owl.Hold()()
	removed := l.remove(c.VMUUID)
	rules := apitest.Decode[api.Page[api.FirewallRule]](l.get(path(c.VMUUID) + "/firewall-rules").Expect(http.StatusOK))
	require.Empty(t, rules.Items)
	one := path(c.VMUUID) + "/firewall-rules/" + rule.ID.String()
	l.client().Request(http.MethodDelete, one, "").Send().Refuse(api.CodeGone)
	l.owl.Hold()()
	l.succeeds(removed)
	l.get(path(c.VMUUID) + "/firewall-rules").Refuse(api.CodeResourceDeleted)
	l.client().Request(http.MethodDelete, one, "").Send().Refuse(api.CodeGone)
	require.Zero(t, l.ruleCalls(rule, http.MethodDelete))
}

// TestPhalaShapedClientsKnowOnly404AsGone, and the body is the same but for
// the status; a key on a DELETE is ignored, whatever it is.
func TestPhalaShapedClientsKnowOnly404AsGone(t *testing.T) {
	t.Parallel()
	l := setupLifecycle(t, owlapitest.Config{})
	c := l.running("web")
	del := func() *apitest.Call { return l.client().Request(http.MethodDelete, path(c.VMUUID), "") }
	first := del().Key("a b").Expect(http.StatusAccepted)
	require.Empty(t, first.Header.Get(api.HeaderIdempotencyKeyExpiresAt))
	l.succeeds(first.CVM())
	require.Zero(t, l.count("idempotency_keys"))
	gone := del().Send().Refuse(api.CodeGone)
	as404 := del().With(api.HeaderPhalaVersion, "2026-01-21").Send().Refuse(api.CodeResourceDeleted)
	gone.Status, gone.RequestID, as404.RequestID = as404.Status, "", ""
	require.Equal(t, gone, as404)
	// Every other call knows 410.
	l.post(path(c.VMUUID)+"/stop", "").With(api.HeaderPhalaVersion, "2026-01-21").Send().Refuse(api.CodeGone)
}

// answerPuts is an Owl that refuses every change, over one that takes all.
func answerPuts(fake *owlapitest.Fake, status int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			w.Header().Set("Content-Type", api.ProblemContentType)
			w.WriteHeader(status)
			_, _ = w.Write([]byte(`{"error_code":"INVALID_REQUEST","detail":"because"}`))
			return
		}
		fake.ServeHTTP(w, r)
	})
}

// TestARefusedChangeFailsItsOperation and leaves the CVM to be changed again.
func TestARefusedChangeFailsItsOperation(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusBadRequest, http.StatusRequestEntityTooLarge} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(answerPuts(owlapitest.New(owlapitest.Config{}), status))
			t.Cleanup(server.Close)
			b := setup(t, func(c *platform.Config) { c.OwlURL = server.URL })
			l := &lifecycle{testBundle: b}
			c := l.running("web")
			op := l.ended(l.stop(c.VMUUID).Operation.ID)
			require.Equal(t, api.OperationFailed, op.Status)
			require.Equal(t, "because", op.Error.Message)
			require.Equal(t, api.StatusFailed, l.cvm(c.VMUUID).Status)
			require.False(t, l.cvm(c.VMUUID).InProgress)
			l.ended(l.start(c.VMUUID).Operation.ID) // it still takes what is asked
		})
	}
}

// TestADeleteRightAfterACreateWaitsForNobody: requests and the reconciler lock
// CVMs before operations, or Postgres would end one of them as a deadlock.
func TestADeleteRightAfterACreateWaitsForNobody(t *testing.T) {
	t.Parallel()
	b, owl := setupWithOwl(t, owlapitest.Config{}, func(c *platform.Config) { c.ReconcileLease = time.Second })
	l := &lifecycle{testBundle: b, owl: owl}
	l.run(l.service)
	for i := range 30 {
		c := l.create(fmt.Sprint("web-", i))
		l.stop(c.VMUUID)
		l.remove(c.VMUUID)
	}
	eventually(t, "all are gone", func() bool { return l.count("cvms", "deleted_at IS NULL") == 0 })
	require.NotContains(t, l.log.String(), "deadlock")
}

// TestAChangeWhoseCommitReplyIsLostIsDoneOnce: the same transaction runs again
// and finds its own work, with a key and without one.
func TestAChangeWhoseCommitReplyIsLostIsDoneOnce(t *testing.T) {
	t.Parallel()
	for name, fate := range map[string]pgproxy.Fate{"reply lost": pgproxy.LoseReply, "request lost": pgproxy.LoseRequest} {
		for _, key := range []string{"", "k"} {
			t.Run(name+" key "+key, func(t *testing.T) {
				t.Parallel()
				b, proxy := setupBehindProxy(t)
				m := b.matrixCase(t)
				m.first("web")
				rule := apitest.Decode[api.FirewallRule](m.post(m.to("/cvms/{cvm}/firewall-rules"), `{"cidr":"10.0.0.0/8"}`).Expect(http.StatusCreated))
				change := delta{"operations": 1, "operation_targets": 1}
				for i, step := range []struct {
					method, path, body string
					status             int
					does               delta
				}{
					{http.MethodPost, "/cvms/{cvm}/start", "", http.StatusAccepted, nil},
					{http.MethodPost, "/cvms/{cvm}/stop", "", http.StatusAccepted, change},
					{http.MethodPost, "/cvms/{cvm}/restart", "", http.StatusAccepted, change},
					{http.MethodPatch, "/cvms/{cvm}", `{"vcpu":2}`, http.StatusAccepted, with(change, "specs", 1)},
					{http.MethodPut, "/apps/{app}/replicas", `{"count":3}`, http.StatusAccepted, delta{"cvms": 2, "operations": 1, "operation_targets": 2, "quota": 2}},
					{http.MethodPut, "/apps/{app}/replicas", `{"count":3}`, http.StatusAccepted, delta{"operations": 1}},
					{http.MethodPut, "/apps/{app}/replicas", `{"count":1}`, http.StatusAccepted, delta{"operations": 1, "operation_targets": 2, "quota": -2}},
					{http.MethodPost, "/cvms/{cvm}/firewall-rules", `{"cidr":"10.0.0.0/8"}`, http.StatusCreated, delta{"firewall_rules": 1}},
					{http.MethodDelete, "/cvms/{cvm}/firewall-rules/" + rule.ID.String(), "", http.StatusNoContent, nil},
					{http.MethodDelete, "/cvms/{cvm}", "", http.StatusAccepted, with(change, "quota", -1)},
				} {
					c, does := m.client().Request(step.method, m.to(step.path), step.body), step.does
					if key != "" && step.method != http.MethodDelete {
						c.Key(fmt.Sprint(key, i))
						does = with(does, "idempotency_keys", 1)
					}
					proxy.Next(fate)
					r := m.grows(c, does).Expect(step.status)
					require.False(t, r.Replayed(), "a first answer is no replay")
				}
			})
		}
	}
}

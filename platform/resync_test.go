package platform_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/apitest"
	"roost/api/owlapi"
	"roost/api/owlapi/owlapitest"
	"roost/platform"
)

// The sweeper makes a row due, and no more. These are the repairs that follow.

// due is what the sweeper does to a row at rest.
func (l *lifecycle) due(set string) {
	l.t.Helper()
	eventually(l.t, "the row is at rest", func() bool { return l.count("cvms", "reconcile_after IS NULL") == 1 })
	require.NoError(l.t, l.db.Exec("UPDATE cvms SET reconcile_after = now()"+set).Error)
}

// agree waits until both sides have the CVM as it was asked for.
func (l *lifecycle) agree(id api.ID) (api.CVM, owlapi.CVM) {
	l.t.Helper()
	eventually(l.t, "both sides agree", func() bool {
		record, ok := l.owl.Record(id)
		return ok && l.count("cvms", fmt.Sprintf("reconcile_after IS NULL AND generation = %d AND observed_generation = generation "+
			"AND pushed_generation = generation AND power = '%s'", record.ObservedGeneration, record.Power)) == 1
	})
	return l.cvm(id), l.record(id)
}

func TestARowAtRestThatOwlForgotIsMadeAgain(t *testing.T) {
	t.Parallel()
	l := setupLifecycle(t, owlapitest.Config{})
	c := l.running("web")
	l.succeeds(l.stop(c.VMUUID))
	l.owl.Forget(c.VMUUID)
	l.due("")
	eventually(t, "Owl has it again", func() bool { return l.owl.Records() == 1 })
	shown, record := l.agree(c.VMUUID)
	require.Equal(t, api.StatusStopped, shown.Status)
	require.Equal(t, int64(2), record.Generation)
	require.Equal(t, []string{"POST", "PUT 2", "POST", "PUT 2"}, l.calls(c.VMUUID))
}

func TestARowAtRestWhoseChangeOwlForgotIsPushedAgain(t *testing.T) {
	t.Parallel()
	l := setupLifecycle(t, owlapitest.Config{})
	c := l.running("web")
	l.succeeds(l.stop(c.VMUUID))
	l.owl.Rewind(c.VMUUID, 1)
	l.due("")
	eventually(t, "it is told again", func() bool { return l.record(c.VMUUID).Generation == 2 })
	shown, _ := l.agree(c.VMUUID)
	require.Equal(t, api.StatusStopped, shown.Status)
	require.Equal(t, []string{"POST", "PUT 2"}, l.calls(c.VMUUID), "no create again, and no other change")
}

// TestARowFromAnOlderBackupOvertakesOwl: what was asked for since the backup is
// gone; what the row says now is what is wanted, under a generation of its own.
func TestARowFromAnOlderBackupOvertakesOwl(t *testing.T) {
	t.Parallel()
	l := setupLifecycle(t, owlapitest.Config{})
	c := l.running("web")
	l.succeeds(l.stop(c.VMUUID))
	l.succeeds(l.grow(c.VMUUID))
	l.due(", generation = 1, pushed_generation = 1, observed_generation = 1, power = 'running'")
	eventually(t, "the row moved on", func() bool { return l.count("cvms", "generation = 4") == 1 })
	shown, record := l.agree(c.VMUUID)
	require.Equal(t, api.StatusRunning, shown.Status)
	require.Equal(t, int64(4), record.Generation)
}

// TestAnOperationFromAnOlderBackupWaitsForItsOwnChange: the generation that it
// asked for is one that Owl has seen, of something else.
func TestAnOperationFromAnOlderBackupWaitsForItsOwnChange(t *testing.T) {
	t.Parallel()
	for name, pushed := range map[string]int{"not pushed yet": 1, "pushed before the backup": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := setupLifecycle(t, owlapitest.Config{})
			stopService := l.run(l.service)
			c := l.create("web")
			l.succeeds(c)
			l.succeeds(l.stop(c.VMUUID))
			l.succeeds(l.start(c.VMUUID))
			stopService()
			l.owl.PauseMachines(true)
			stop := l.stop(c.VMUUID)
			// As if the stop had been accepted in a database that had not heard of the two before.
			require.NoError(t, l.db.Exec("UPDATE operation_targets SET generation = 2 WHERE operation_id = ?", stop.Operation.ID).Error)
			require.NoError(t, l.db.Exec("UPDATE cvms SET generation = 2, pushed_generation = ?, observed_generation = 1", pushed).Error)
			again, _ := l.node()
			l.run(again)
			eventually(t, "the stop was pushed over what Owl had", func() bool { return l.record(c.VMUUID).Power == api.PowerStopped })
			eventually(t, "and looked at", func() bool { return l.count("cvms", "observed_generation = 3") == 1 })
			l.open(stop.Operation.ID)
			l.owl.PauseMachines(false)
			require.Equal(t, api.OperationSucceeded, l.ended(stop.Operation.ID).Status)
			shown, _ := l.agree(c.VMUUID)
			require.Equal(t, api.StatusStopped, shown.Status)
		})
	}
}

// TestAnOwlThatForgetsADeletionBeforeItsEndHearsOfItAgain: it had confirmed it,
// and nobody asks again for what is confirmed.
func TestAnOwlThatForgetsADeletionBeforeItsEndHearsOfItAgain(t *testing.T) {
	t.Parallel()
	l := setupLifecycle(t, owlapitest.Config{})
	c := l.running("web")
	l.owl.PauseMachines(true)
	deletion := l.remove(c.VMUUID)
	eventually(t, "Owl has confirmed the deletion", func() bool { return l.count("cvms", "delete_confirmed") == 1 })
	l.owl.Forget(c.VMUUID)
	l.makeAtOwl(c)
	l.owl.PauseMachines(false)
	l.succeeds(deletion)
	require.NotNil(t, l.record(c.VMUUID).DeletedAt)
}

// makeAtOwl gives Owl a CVM that it has forgotten, as from a backup.
func (l *lifecycle) makeAtOwl(c api.CVM) {
	l.t.Helper()
	_, created, err := owlapi.New(owlapi.Config{BaseURL: l.cfg.OwlURL}).CreateCVM(l.t.Context(),
		owlapi.CreateCVM{ID: c.VMUUID, AppID: c.AppID, Name: c.Name, Spec: json.RawMessage(`{}`)})
	require.NoError(l.t, err)
	require.True(l.t, created)
}

func TestARowAtRestThatWasDeletedBelowFails(t *testing.T) {
	t.Parallel()
	l := setupLifecycle(t, owlapitest.Config{})
	c := l.running("web")
	l.deleteBelow(c.VMUUID)
	l.due("")
	eventually(t, "it has failed", func() bool { return l.cvm(c.VMUUID).Status == api.StatusFailed })
	require.Equal(t, string(api.CodeResourceDeleted), l.cvm(c.VMUUID).Error.Code)
	eventually(t, "and is at rest", func() bool { return l.count("cvms", "reconcile_after IS NULL") == 1 })
	require.Equal(t, []string{"POST", "DELETE"}, l.calls(c.VMUUID), "never made again silently; the DELETE is ours")
}

// TestARuleThatWasDeletedBelowBlamesNoCVM: its machine is well, and whoever
// read otherwise would delete it.
func TestARuleThatWasDeletedBelowBlamesNoCVM(t *testing.T) {
	t.Parallel()
	l := setupLifecycle(t, owlapitest.Config{})
	c := l.running("web")
	rule := l.rule(c.VMUUID)
	eventually(t, "the rule is in force", func() bool {
		return l.count("firewall_rules", "status = 'active' AND reconcile_after IS NULL") == 1
	})
	require.NoError(t, owlapi.New(owlapi.Config{BaseURL: l.cfg.OwlURL}).DeleteFirewallRule(t.Context(), rule.ID))
	require.NoError(t, l.db.Exec("UPDATE firewall_rules SET reconcile_after = now()").Error)
	eventually(t, "the rule has failed", func() bool { return l.count("firewall_rules", "status = 'failed'") == 1 })
	require.Equal(t, 1, l.count("firewall_rules", "error_message LIKE 'the rule was deleted%'"))
	require.Equal(t, api.StatusRunning, l.cvm(c.VMUUID).Status)
}

// TestADeletionThatOwlForgotIsSentAgain: whether Owl has the CVM as it was, or
// has never heard of it; and for clients it stays deleted all the while.
func TestADeletionThatOwlForgotIsSentAgain(t *testing.T) {
	t.Parallel()
	for name, alive := range map[string]bool{"alive": true, "unheard of": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := setupLifecycle(t, owlapitest.Config{})
			c := l.running("web")
			l.succeeds(l.remove(c.VMUUID))
			var before, after time.Time
			require.NoError(t, l.db.Raw("SELECT deleted_at FROM cvms").Scan(&before).Error)
			l.owl.Forget(c.VMUUID)
			if alive {
				l.makeAtOwl(c)
			}
			l.due("")
			eventually(t, "Owl has a tombstone", func() bool {
				record, ok := l.owl.Record(c.VMUUID)
				return ok && record.DeletedAt != nil
			})
			eventually(t, "the row is at rest", func() bool { return l.count("cvms", "reconcile_after IS NULL") == 1 })
			l.get(path(c.VMUUID)).Refuse(api.CodeResourceDeleted)
			require.NoError(t, l.db.Raw("SELECT deleted_at FROM cvms").Scan(&after).Error)
			require.Equal(t, before, after)
		})
	}
}

// TestWithoutALeaseNothingIsDoneTwice: it only saves work. Two nodes claim the
// same rows as often as they like.
func TestWithoutALeaseNothingIsDoneTwice(t *testing.T) {
	t.Parallel()
	b, owl := setupWithOwl(t, owlapitest.Config{}, func(c *platform.Config) { c.ReconcileLease = time.Nanosecond })
	l := &lifecycle{testBundle: b, owl: owl}
	other, _ := b.node()
	b.run(b.service)
	b.run(other)
	for i := range 4 {
		c := l.create(fmt.Sprintf("app-%d", i))
		l.stop(c.VMUUID)
		started := l.start(c.VMUUID)
		owl.DropNext(2)
		l.succeeds(started)
		l.succeeds(l.grow(c.VMUUID))
		_, record := l.agreeOn(c.VMUUID)
		require.Equal(t, api.PowerRunning, record.Power)
		if i%2 == 0 {
			l.succeeds(l.remove(c.VMUUID))
		}
	}
	require.Equal(t, 2, owl.Records())
	for id, posts := range creates(owl) {
		for _, again := range posts {
			require.Equal(t, posts[0], again, "every POST of %s is the same", id)
		}
	}
}

// agreeOn is agree among other rows.
func (l *lifecycle) agreeOn(id api.ID) (api.CVM, owlapi.CVM) {
	l.t.Helper()
	eventually(l.t, "both sides agree", func() bool {
		record, ok := l.owl.Record(id)
		return ok && l.count("cvms", fmt.Sprintf("id = '%s' AND reconcile_after IS NULL AND generation = %d AND observed_generation = generation",
			id, record.ObservedGeneration)) == 1
	})
	return l.cvm(id), l.record(id)
}

// TestAnOwlThatWasAwayForAnHourIsCaughtUpWithInOrder: the oldest first, in
// few batches at a time; and while it is away it is not hammered.
func TestAnOwlThatWasAwayForAnHourIsCaughtUpWithInOrder(t *testing.T) {
	t.Parallel()
	var back atomic.Bool
	var refused, now, most atomic.Int64
	fake := owlapitest.New(owlapitest.Config{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !back.Load() {
			refused.Add(1)
			refuseWith(w, http.StatusServiceUnavailable)
			return
		}
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer now.Add(-1)
		fake.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	const cvms = 2000
	b := setup(t, func(c *platform.Config) { c.OwlURL, c.MaxCVMs = server.URL, cvms })
	l := &lifecycle{testBundle: b, owl: fake}
	source := l.create("web")
	l.run(l.service)
	eventually(t, "Platform noticed", func() bool { return refused.Load() >= 5 })
	for n := 1; n < cvms; n += 100 {
		count := min(100, cvms-n)
		l.post("/apps/"+source.AppID.String()+path(source.VMUUID)+"/replicas", fmt.Sprintf(`{"count":%d}`, count)).Expect(http.StatusAccepted)
	}
	require.NoError(t, l.db.Exec(`UPDATE cvms SET created_at = now() - (2001 - ordinal) * interval '1.8 seconds',
		reconcile_after = now() - (2001 - ordinal) * interval '1.8 seconds'`).Error)
	before, began := refused.Load(), time.Now()
	eventually(t, "it goes on trying", func() bool { return refused.Load() >= before+2 })
	require.Greater(t, time.Since(began), time.Second/2, "at a leisurely pace")
	require.Less(t, l.count("cvms", "fence > 0"), cvms/20, "the others keep their place in the queue")

	back.Store(true)
	eventually(t, "everything was pushed", func() bool { return fake.Records() == cvms })
	require.LessOrEqual(t, most.Load(), int64(8), "batches and looks at one time")
	requireOldestFirst(t, l)
	eventually(t, "everything is at rest", func() bool { return l.count("cvms", "reconcile_after IS NOT NULL") == 0 })
}

// TestAnOwlThatIsSlowIsNotSentMoreThanItAnswersInTime: it works on through
// batches whose sender has left, so the same large ones again and again would
// keep it busy for ever.
func TestAnOwlThatIsSlowIsNotSentMoreThanItAnswersInTime(t *testing.T) {
	t.Parallel()
	const perItem = 5 * time.Millisecond // 200 take as long as a call may
	var one sync.Mutex
	fake := owlapitest.New(owlapitest.Config{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		if items := bytes.Count(body, []byte(`"app_id"`)); items > 0 {
			one.Lock()
			defer one.Unlock()
			timer := time.NewTimer(time.Duration(items) * perItem)
			defer timer.Stop()
			<-timer.C
		}
		fake.ServeHTTP(w, r.WithContext(context.WithoutCancel(r.Context())))
	}))
	t.Cleanup(server.Close)
	b := setup(t, func(c *platform.Config) {
		c.OwlURL, c.ReconcileLease, c.ReconcileBackoffMax = server.URL, time.Second, time.Second
	})
	l := &lifecycle{testBundle: b, owl: fake}
	source := l.create("web")
	for range 8 {
		l.post("/apps/"+source.AppID.String()+path(source.VMUUID)+"/replicas", `{"count":100}`).Expect(http.StatusAccepted)
	}
	l.run(l.service)
	eventually(t, "everything is confirmed", func() bool { return l.count("cvms", "NOT confirmed") == 0 })
}

// TestAnOwlThatIsBackIsSentChangesAsBefore: a create that was not answered made
// the claims small, and no further create comes to make them larger.
func TestAnOwlThatIsBackIsSentChangesAsBefore(t *testing.T) {
	t.Parallel()
	var away atomic.Bool
	var refused, now, most atomic.Int64
	fake := owlapitest.New(owlapitest.Config{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case away.Load():
			refused.Add(1)
			refuseWith(w, http.StatusServiceUnavailable)
			return
		case r.Method == http.MethodPut:
			most.Store(max(most.Load(), now.Add(1)))
			defer now.Add(-1)
			timer := time.NewTimer(10 * time.Millisecond)
			defer timer.Stop()
			<-timer.C
		}
		fake.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	b := setup(t, func(c *platform.Config) { c.OwlURL, c.ReconcileLease = server.URL, time.Minute })
	l := &lifecycle{testBundle: b, owl: fake}
	source := l.running("web")
	require.Equal(t, api.OperationSucceeded, l.ended(l.scale(source.AppID, 100).Operation.ID).Status)
	away.Store(true)
	late := l.create("late")
	eventually(t, "Owl was silent", func() bool { return refused.Load() >= 5 })
	away.Store(false)
	l.succeeds(late)
	patch := request(l.client(), http.MethodPatch, path(source.VMUUID)+"/docker-compose", "services: {}").Expect(http.StatusAccepted)
	require.Equal(t, api.OperationSucceeded, l.ended(apitest.Decode[api.CVMs](patch).Operation.ID).Status)
	require.Greater(t, most.Load(), int64(4*2), "more at a time than four claims of two")
}

// requireOldestFirst wants that what kept its place arrived in its order. Four
// batches may overtake each other.
func requireOldestFirst(t *testing.T, l *lifecycle) {
	t.Helper()
	position := map[api.ID]int{}
	for _, r := range l.owl.Journal() {
		var batch owlapi.Batch
		if r.Path != owlapi.PathCVMsBatch || json.Unmarshal(r.Body, &batch) != nil {
			continue
		}
		for _, item := range batch.Items {
			var c owlapi.CreateCVM
			require.NoError(t, json.Unmarshal(item, &c))
			if _, seen := position[c.ID]; !seen {
				position[c.ID] = len(position)
			}
		}
	}
	var kept []struct{ ID api.ID }
	require.NoError(t, l.db.Raw("SELECT id FROM cvms WHERE fence = 1 ORDER BY ordinal").Find(&kept).Error)
	require.Greater(t, len(kept), 1800)
	const batches = 4 * owlapi.MaxBatchItems
	furthest := 0
	for _, row := range kept {
		at := position[row.ID]
		require.Less(t, furthest-at, batches, "one of the oldest came long after younger ones")
		furthest = max(furthest, at)
	}
}

// TestASightingOfAnotherChangeIsNotOurs: Platform comes from an older backup,
// and gave what was asked for since a generation that Owl has seen already, of
// something else. A look at that must not pass for what was asked for.
func TestASightingOfAnotherChangeIsNotOurs(t *testing.T) {
	t.Parallel()
	l := setupLifecycle(t, owlapitest.Config{})
	c := l.running("web")
	l.owl.PauseMachines(true)
	shown := func(since int) (times int) {
		for _, r := range l.owl.Journal()[since:] {
			if r.Method == http.MethodGet && strings.Contains(r.Path, c.VMUUID.String()) && r.Status == http.StatusOK {
				times++
			}
		}
		return times
	}
	before := len(l.owl.Journal())
	asked := l.stop(c.VMUUID)
	// With the second look the first has been digested: one that finds news for a
	// row as it is below would be the last.
	eventually(t, "it is being watched", func() bool { return l.count("cvms", "pushed_generation = 2") == 1 && shown(before) > 1 })
	// The stop is of before the backup; since then a restart was accepted, and claimed by a node that died.
	require.NoError(t, l.db.Exec(`UPDATE cvms SET pushed_generation = 1, power = 'running', restart_id = 'op_other',
		reconcile_after = now() + interval '1 hour'`).Error)
	before = len(l.owl.Journal())
	l.owl.PauseMachines(false)
	eventually(t, "Owl has shown the stop", func() bool { return shown(before) > 0 })
	l.succeeds(l.create("later")) // a later look was written, so that one was too
	l.open(asked.Operation.ID)
	require.NoError(t, l.db.Exec("UPDATE cvms SET reconcile_after = now() WHERE id = ?", c.VMUUID).Error) // the lease has run out
	require.Equal(t, api.OperationSucceeded, l.ended(asked.Operation.ID).Status)
	_, record := l.agreeOn(c.VMUUID)
	require.Equal(t, int64(3), record.Generation)
	require.Equal(t, "op_other", *record.Restart)
}

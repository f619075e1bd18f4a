package platform_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/owlapi"
	"roost/api/owlapi/owlapitest"
	"roost/platform"
)

// intercept is a fake Owl behind a handler that may answer in its stead.
func intercept(
	t *testing.T, cfg owlapitest.Config, before func(w http.ResponseWriter, r *http.Request) (answered bool),
) *lifecycle {
	t.Helper()
	fake := owlapitest.New(cfg)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !before(w, r) {
			fake.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	b := setup(t, func(c *platform.Config) { c.OwlURL, c.ReconcileLease = server.URL, time.Minute })
	return &lifecycle{testBundle: b, owl: fake}
}

func refuseWith(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Type", api.ProblemContentType)
	w.WriteHeader(status)
	_, _ = w.Write([]byte(`{"error_code":"INVALID_REQUEST","detail":"because"}`))
}

// TestARefusalSpeaksOnlyOfWhatWasSent: while a change is refused, another is
// accepted; it is pushed all the same.
func TestARefusalSpeaksOnlyOfWhatWasSent(t *testing.T) {
	t.Parallel()
	refuse := make(chan struct{})
	var puts atomic.Int64
	l := intercept(t, owlapitest.Config{}, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || puts.Add(1) > 1 {
			return false
		}
		<-refuse
		refuseWith(w, http.StatusBadRequest)
		return true
	})
	c := l.running("web")
	grown := l.grow(c.VMUUID)
	eventually(t, "the change is in flight", func() bool { return puts.Load() == 1 })
	// The next change, whose due time the claim of the first has moved out.
	require.NoError(t, l.db.Exec("UPDATE cvms SET generation = generation + 1, power = 'stopped'").Error)
	close(refuse)
	require.Equal(t, api.OperationFailed, l.ended(grown.Operation.ID).Status)
	eventually(t, "the next change was pushed and seen", func() bool { return l.cvm(c.VMUUID).Status == api.StatusStopped })
}

// TestADeletionDoesNotEndWithTheCreateThatItOvertook: Owl refuses the create
// for good, and has not heard of the deletion that was accepted meanwhile.
func TestADeletionDoesNotEndWithTheCreateThatItOvertook(t *testing.T) {
	t.Parallel()
	const pushes = 4 // at one time
	refuse, answer := make(chan struct{}), make(chan struct{})
	answerAll := sync.OnceFunc(func() { close(answer) })
	defer answerAll()
	var posts, deletions atomic.Int64
	l := intercept(t, owlapitest.Config{}, func(w http.ResponseWriter, r *http.Request) bool {
		switch r.Method {
		case http.MethodPost:
			if posts.Add(1) < pushes {
				<-answer
				return false
			}
			<-refuse
			answerItems(&sync.Map{}, http.StatusConflict, api.CodeIDConflict).ServeHTTP(w, r)
			return true
		case http.MethodDelete:
			deletions.Add(1)
			<-answer
		}
		return false
	})
	l.run(l.service)
	var c api.CVM
	for n := range int64(pushes) { // so that nobody is left to push the deletion
		c = l.create(fmt.Sprint("web-", n))
		eventually(t, "the create is on its way", func() bool { return posts.Load() == n+1 })
	}
	removed := l.remove(c.VMUUID)
	close(refuse)
	eventually(t, "the deletion is on its way", func() bool { return deletions.Load() == 1 })
	l.open(removed.Operation.ID)
	answerAll()
	l.succeeds(removed)
}

// TestAResultUnderAnOldFenceMovesNoOperation: somebody else has claimed the
// row since, and another change was accepted.
func TestAResultUnderAnOldFenceMovesNoOperation(t *testing.T) {
	t.Parallel()
	answer := make(chan struct{})
	var puts atomic.Int64
	l := intercept(t, owlapitest.Config{}, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut {
			return false
		}
		puts.Add(1)
		<-answer
		_, _ = w.Write([]byte(`{"generation":9,"power":"running","spec":{},"created_at":"2026-01-01T00:00:00Z","updated_at":"2026-01-01T00:00:00Z"}`))
		return true
	})
	c := l.running("web")
	grown := l.grow(c.VMUUID)
	eventually(t, "the change is in flight", func() bool { return puts.Load() == 1 })
	require.NoError(t, l.db.Exec(`UPDATE cvms SET fence = fence + 1, generation = generation + 1,
		reconcile_after = now() + interval '1 hour'`).Error)
	close(answer)
	eventually(t, "the result was handled", func() bool { return l.operation(grown.Operation.ID).Attempts > 0 })
	require.Equal(t, 1, l.count("operation_targets", "ended_at IS NULL AND generation = 2"))
	require.Equal(t, 1, l.count("cvms", "generation = 3"))
}

// TestAnOwlThatNeverHoldsWhatItWasSentIsAskedEverMoreRarely: each answer says
// that the row is behind, and each makes a generation.
func TestAnOwlThatNeverHoldsWhatItWasSentIsAskedEverMoreRarely(t *testing.T) {
	t.Parallel()
	l := intercept(t, owlapitest.Config{}, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut {
			return false
		}
		var put owlapi.PutCVM
		_ = json.NewDecoder(r.Body).Decode(&put)
		_, _ = fmt.Fprintf(w, `{"generation":%d,"power":"running","spec":{},"created_at":"2026-01-01T00:00:00Z","updated_at":"2026-01-01T00:00:00Z"}`,
			put.Generation)
		return true
	})
	c := l.running("web")
	grown := l.grow(c.VMUUID)
	eventually(t, "it waits longer and longer", func() bool { return l.count("cvms", "attempts >= 4 AND generation >= 5") == 1 })
	l.open(grown.Operation.ID)
}

// TestAnOwlThatLostAChangeGetsItAgain: it comes from an older backup while the
// change is still to be seen.
func TestAnOwlThatLostAChangeGetsItAgain(t *testing.T) {
	t.Parallel()
	b, owl := setupWithOwl(t, owlapitest.Config{}, func(c *platform.Config) { c.ReconcileLease = time.Minute })
	l := &lifecycle{testBundle: b, owl: owl}
	c := l.running("web")
	owl.PauseMachines(true)
	stop := l.stop(c.VMUUID)
	eventually(t, "the change was pushed", func() bool { return l.count("cvms", "pushed_generation = 2") == 1 })
	owl.Rewind(c.VMUUID, 1)
	owl.PauseMachines(false)
	require.Equal(t, api.OperationSucceeded, l.ended(stop.Operation.ID).Status)
}

// TestWhatOwlLostAfterItFailedStillTakesActions: it had a machine, so it is
// not one of those that can only be deleted.
func TestWhatOwlLostAfterItFailedStillTakesActions(t *testing.T) {
	t.Parallel()
	var away atomic.Bool
	l := intercept(t, owlapitest.Config{Fail: func(name string) bool { return name == "doomed" }},
		func(w http.ResponseWriter, r *http.Request) bool {
			if away.Load() && r.URL.Path == owlapi.PathCVMsBatch {
				refuseWith(w, http.StatusServiceUnavailable)
				return true
			}
			return false
		})
	l.run(l.service)
	c := l.create("doomed")
	require.Equal(t, api.OperationFailed, l.ended(c.Operation.ID).Status)
	away.Store(true)
	l.owl.Forget(c.VMUUID)
	l.stop(c.VMUUID) // is told 404: lost, and not created again so far
	eventually(t, "the loss was noticed", func() bool { return l.count("cvms", "NOT confirmed") == 1 })
	l.start(c.VMUUID)
	away.Store(false)
	eventually(t, "it was created again", func() bool { return l.count("cvms", "confirmed") == 1 })
}

// TestARuleOfACVMThatOwlRefusedFails: nobody waits for it for ever.
func TestARuleOfACVMThatOwlRefusedFails(t *testing.T) {
	t.Parallel()
	l := setupLifecycle(t, owlapitest.Config{})
	c := l.create("web")
	l.rule(c.VMUUID)
	l.deleteBelow(c.VMUUID) // the create will meet a tombstone
	l.run(l.service)
	require.Equal(t, api.OperationFailed, l.ended(c.Operation.ID).Status)
	eventually(t, "the rule has failed", func() bool {
		return l.count("firewall_rules", "status = 'failed' AND reconcile_after IS NULL") == 1
	})
}

// TestARuleThatWasDeletedWhileItWasPushedIsDeletedAtOwl: the push ends with
// nothing left to do, but for what was asked for meanwhile.
func TestARuleThatWasDeletedWhileItWasPushedIsDeletedAtOwl(t *testing.T) {
	t.Parallel()
	answer := make(chan struct{})
	var posts, deletions atomic.Int64
	l := intercept(t, owlapitest.Config{}, func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.Method == http.MethodPost && r.URL.Path == owlapi.PathFirewallRules:
			posts.Add(1)
			<-answer
			w.WriteHeader(http.StatusCreated)
			_, _ = w.Write([]byte(`{"status":"active","created_at":"2026-01-01T00:00:00Z","updated_at":"2026-01-01T00:00:00Z"}`))
			return true
		case r.Method == http.MethodDelete:
			deletions.Add(1)
			w.WriteHeader(http.StatusNoContent)
			return true
		}
		return false
	})
	c := l.running("web")
	rule := l.rule(c.VMUUID)
	eventually(t, "the rule is on its way", func() bool { return posts.Load() == 1 })
	l.client().Request(http.MethodDelete, path(c.VMUUID)+"/firewall-rules/"+rule.ID.String(), "").Expect(http.StatusNoContent)
	close(answer)
	eventually(t, "Owl hears of the deletion", func() bool { return deletions.Load() == 1 })
	eventually(t, "and it is at rest", func() bool { return l.count("firewall_rules", "reconcile_after IS NULL") == 1 })
}

// TestARuleThatWaitsForItsMachineIsLookedAtAsOftenAsItTakes: 2^1024 is more
// than Postgres can count.
func TestARuleThatWaitsForItsMachineIsLookedAtAsOftenAsItTakes(t *testing.T) {
	t.Parallel()
	l := setupLifecycle(t, owlapitest.Config{})
	l.owl.PauseMachines(true)
	l.run(l.service)
	l.rule(l.create("web").VMUUID)
	eventually(t, "Owl has it", func() bool { return l.count("firewall_rules", "confirmed AND status = 'pending'") == 1 })
	require.NoError(t, l.db.Exec("UPDATE firewall_rules SET attempts = 5000, reconcile_after = now()").Error)
	eventually(t, "it is looked at again", func() bool { return l.count("firewall_rules", "attempts > 5001") == 1 })
	l.owl.PauseMachines(false)
	eventually(t, "it is in force", func() bool { return l.count("firewall_rules", "status = 'active'") == 1 })
}

// TestARuleWaitsAsLongAsOwlAsksFor, as a CVM does.
func TestARuleWaitsAsLongAsOwlAsksFor(t *testing.T) {
	t.Parallel()
	fake := owlapitest.New(owlapitest.Config{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == owlapi.PathFirewallRules {
			w.Header().Set("Retry-After", "600")
			refuseWith(w, http.StatusTooManyRequests)
			return
		}
		fake.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	b := setup(t, func(c *platform.Config) { c.OwlURL, c.ReconcileBackoffMax = server.URL, time.Hour })
	l := &lifecycle{testBundle: b, owl: fake}
	l.rule(l.running("web").VMUUID)
	eventually(t, "it waits", func() bool {
		return l.count("firewall_rules", "attempts = 1 AND reconcile_after > now() + interval '9 minutes'") == 1
	})
}

package stack_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/apitest"
	"roost/cmd/internal/platformcmd"
	"roost/cmd/internal/stack"
	"roost/platform"
)

// soon is how long the services may take to agree again after a restore.
const soon = 30 * time.Second

func sweepEvery(d time.Duration) stack.Options {
	return stack.Options{Platform: func(c *platform.Config) { c.SweepInterval = d }}
}

// differing counts what the two sides have differently while nothing is under
// way, and what is.
func (b *bundle) differing() (n int) {
	b.t.Helper()
	require.NoError(b.t, b.PlatformDB.Raw(`SELECT (SELECT count(*) FROM cvms WHERE reconcile_after IS NOT NULL)
		+ (SELECT count(*) FROM firewall_rules WHERE reconcile_after IS NOT NULL)`).Scan(&n).Error)
	type one struct {
		ID         api.ID
		Generation int64
		Alive      bool
	}
	var ours, theirs []one
	require.NoError(b.t, b.PlatformDB.Raw(`SELECT id, CASE WHEN deleted_at IS NULL THEN generation ELSE 0 END AS generation,
			deleted_at IS NULL AND error_code IS DISTINCT FROM 'RESOURCE_DELETED' AS alive FROM cvms
		UNION ALL SELECT id, 0, deleted_at IS NULL FROM firewall_rules`).Find(&ours).Error)
	require.NoError(b.t, b.OwlDB.Raw(`SELECT id, CASE WHEN delete_requested_at IS NULL THEN generation ELSE 0 END AS generation,
			delete_requested_at IS NULL AS alive FROM cvms
		UNION ALL SELECT id, 0, delete_requested_at IS NULL FROM firewall_rules`).Find(&theirs).Error)
	alive := map[api.ID]int64{}
	for _, c := range theirs {
		if c.Alive {
			alive[c.ID] = c.Generation
		}
	}
	for _, c := range ours {
		if generation, has := alive[c.ID]; has != c.Alive || has && generation != c.Generation {
			n++
		}
	}
	return n
}

// agree waits until both sides have the same, and returns how long that took.
func (b *bundle) agree() time.Duration {
	b.t.Helper()
	start := time.Now()
	require.Eventually(b.t, func() bool { return b.differing() == 0 }, soon, 20*time.Millisecond)
	return time.Since(start)
}

// TestEitherSideRestoredAtRestIsNoticedSoon: nobody asks for anything, no
// process restarts, no connection breaks, and the interval is an hour away.
func TestEitherSideRestoredAtRestIsNoticedSoon(t *testing.T) {
	t.Parallel()
	for name, restored := range map[string]func(b *bundle) func(){
		"Owl":      func(b *bundle) func() { return backup(b.t, b.OwlDB, owlTables()...) },
		"Platform": func(b *bundle) func() { return backup(b.t, b.PlatformDB, platformTables()...) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, sweepEvery(time.Hour))
			deleted, stopped := b.running("deleted"), b.running("stopped")
			restore := restored(b)
			late := b.running("late")
			b.ask(stopped.VMUUID, "stop").Expect(http.StatusAccepted)
			b.del("/cvms/" + deleted.VMUUID.String()).Expect(http.StatusAccepted)
			b.c.Post("/cvms/"+stopped.VMUUID.String()+"/firewall-rules", `{"cidr":"10.0.0.0/8"}`).Expect(http.StatusCreated)
			b.agree()
			made := effects(t, b.Stack)["create"]

			restore()
			require.Positive(t, b.differing())
			t.Logf("agreed after %s", b.agree())
			require.Equal(t, made, effects(t, b.Stack)["create"], "no machine is made again")
			if name == "Owl" {
				require.Equal(t, api.StatusStopped, b.get(stopped.VMUUID).Status)
				require.Equal(t, api.StatusRunning, b.get(late.VMUUID).Status)
				b.c.Get("/cvms/" + deleted.VMUUID.String()).Refuse(api.CodeResourceDeleted)
				return
			}
			require.Equal(t, api.StatusRunning, b.get(stopped.VMUUID).Status)
			require.Equal(t, string(api.CodeResourceDeleted), b.get(deleted.VMUUID).Error.Code)
			require.Eventually(t, func() bool { return strings.Contains(b.orphan("list"), late.VMUUID.String()) }, soon, 50*time.Millisecond)
			require.Empty(t, effects(t, b.Stack)["remove"][late.VMUUID], "nothing is done to it")
		})
	}
}

// orphan runs the command and returns what it printed.
func (b *bundle) orphan(args ...string) string {
	b.t.Helper()
	out, err := b.tryOrphan(args...)
	require.NoError(b.t, err)
	return out
}

func (b *bundle) tryOrphan(args ...string) (string, error) {
	var out strings.Builder
	err := platformcmd.Run(context.Background(), append([]string{"orphan"}, append(args,
		"--platform-database-url", b.PlatformAt, "--platform-owl-url", b.Owls[0].URL, "--platform-owl-token", stack.OwlToken)...), &out, io.Discard)
	return out.String(), err
}

// ciphertext stands for an encrypted_env.
const ciphertext = "5ec7e7c0ffee"

// secret is a spec with an encrypted_env.
func secret(name string) string {
	return strings.Replace(apitest.Spec(name, "services: {}"), `{`, `{"encrypted_env":"`+ciphertext+`","env_keys":["A"],`, 1)
}

// TestWhatIsAdoptedIsACVMLikeAnyOther: Platform has forgotten an app, its CVM,
// a replica of that and a rule; Owl has all of them.
func TestWhatIsAdoptedIsACVMLikeAnyOther(t *testing.T) {
	t.Parallel()
	var log lockedLog
	o := sweepEvery(200 * time.Millisecond)
	o.Log = &log
	b := setup(t, o)
	restore := backup(t, b.PlatformDB, platformTables()...)
	first := b.c.Post("/cvms", secret("web")).Expect(http.StatusAccepted).CVM()
	require.Equal(t, api.OperationSucceeded, b.Wait(first.Operation.ID).Status)
	replicas := "/apps/" + first.AppID.String() + "/cvms/" + first.VMUUID.String() + "/replicas"
	replica := b.c.Post(replicas, `{"name":"copy"}`).Expect(http.StatusAccepted).CVM()
	require.Equal(t, api.OperationSucceeded, b.Wait(replica.Operation.ID).Status)
	stop := b.ask(first.VMUUID, "stop").Expect(http.StatusAccepted).CVM()
	require.Equal(t, api.OperationSucceeded, b.Wait(stop.Operation.ID).Status)
	rule := apitest.Decode[api.FirewallRule](b.c.Post("/cvms/"+replica.VMUUID.String()+"/firewall-rules", `{"cidr":"10.0.0.0/8","port":22}`).Expect(http.StatusCreated))
	rules := "/cvms/" + replica.VMUUID.String() + "/firewall-rules/" + rule.ID.String()
	require.Eventually(t, func() bool {
		return apitest.Decode[api.FirewallRule](b.c.Get(rules).Expect(http.StatusOK)).Status == api.FirewallActive
	}, soon, 10*time.Millisecond)
	before := b.get(first.VMUUID)
	made := effects(t, b.Stack)

	restore()
	b.c.Get("/cvms/" + first.VMUUID.String()).Refuse(api.CodeNotFound)
	for _, id := range []api.ID{first.VMUUID, replica.VMUUID, rule.ID} {
		require.Eventually(t, func() bool { return strings.Contains(b.orphan("list"), id.String()) }, soon, 20*time.Millisecond)
	}
	adopting := time.Now()
	_, err := b.tryOrphan("adopt", first.VMUUID.String())
	require.ErrorContains(t, err, "--workspace")
	_, err = b.tryOrphan("adopt", rule.ID.String())
	require.ErrorContains(t, err, "adopt that first")
	require.Contains(t, b.orphan("adopt", first.VMUUID.String(), "--workspace", "acme"), "adopted")
	require.Contains(t, b.orphan("adopt", first.VMUUID.String(), "--workspace", "acme"), "already")
	require.Contains(t, b.orphan("adopt", replica.VMUUID.String()), "adopted", "whose app is known by now")
	require.Contains(t, b.orphan("adopt", rule.ID.String()), "adopted")
	b.agree()
	// A sweep that was under way may have recorded one once more; the next forgets it.
	require.Eventually(t, func() bool { return b.orphan("list") == "" }, soon, 20*time.Millisecond)
	require.Equal(t, made, effects(t, b.Stack), "no machine has noticed")

	after := b.get(first.VMUUID)
	adopted := apitest.Decode[api.FirewallRule](b.c.Get(rules).Expect(http.StatusOK))
	app := apitest.Decode[api.App](b.c.Get("/apps/" + first.AppID.String()).Expect(http.StatusOK))
	for _, at := range []api.Time{after.CreatedAt, adopted.CreatedAt, app.CreatedAt} {
		require.True(t, at.Before(adopting), "it is as old as Owl says")
	}
	for _, c := range []*api.CVM{&before, &after} { // what is lost, and says so in the command's help
		c.Operation, c.EncryptedEnvPubkey, c.CreatedAt, c.UpdatedAt = nil, "", api.Time{}, api.Time{}
	}
	require.Equal(t, before, after)
	require.Len(t, b.list(first.AppID), 2)
	require.Equal(t, "copy", b.list(first.AppID)[1].Name)
	require.Equal(t, api.FirewallActive, adopted.Status)

	// The same create finds it, another one does not; and it takes every action.
	require.Equal(t, first.VMUUID, b.c.Post("/cvms", secret("web")).Key("again").Expect(http.StatusAccepted).CVM().VMUUID)
	b.c.Post("/cvms", apitest.Spec("web", "services: {other: {}}")).Send().Refuse(api.CodeAppExists)
	start := b.ask(first.VMUUID, "start").Expect(http.StatusAccepted).CVM()
	require.Equal(t, api.OperationSucceeded, b.Wait(start.Operation.ID).Status)
	require.Equal(t, 1, effects(t, b.Stack)["start"][first.VMUUID]-made["start"][first.VMUUID])
	third := b.c.Post(replicas, ``).Expect(http.StatusAccepted).CVM()
	require.Equal(t, api.OperationSucceeded, b.Wait(third.Operation.ID).Status)
	scale := apitest.Decode[api.CVMs](b.scale(first.AppID, 1).Expect(http.StatusAccepted))
	require.Equal(t, api.OperationSucceeded, b.Wait(scale.Operation.ID).Status)
	gone := b.del("/cvms/" + first.VMUUID.String()).Expect(http.StatusAccepted).CVM()
	require.Equal(t, api.OperationSucceeded, b.Wait(gone.Operation.ID).Status)
	require.Equal(t, 1, effects(t, b.Stack)["remove"][first.VMUUID])
	var quota int
	require.NoError(t, b.PlatformDB.Raw(`SELECT cvms FROM workspaces`).Scan(&quota).Error)
	require.Zero(t, quota, "each was counted once")
	b.agree()

	require.Equal(t, []string{"specs.body"}, holding(t, b.PlatformDB, ciphertext))
	require.Equal(t, []string{"cvms.spec"}, holding(t, b.OwlDB, ciphertext))
	require.NotContains(t, log.String(), ciphertext)
}

// TestAnOrphanIsDeletedByCommand, and its machine with it. A copy of it that is
// adopted then stands alone: nothing is made in the other's place.
func TestAnOrphanIsDeletedByCommand(t *testing.T) {
	t.Parallel()
	b := setup(t, sweepEvery(200*time.Millisecond))
	restore := backup(t, b.PlatformDB, platformTables()...)
	cvm := b.running("web")
	replica := b.c.Post("/apps/"+cvm.AppID.String()+"/cvms/"+cvm.VMUUID.String()+"/replicas", ``).Expect(http.StatusAccepted).CVM()
	require.Equal(t, api.OperationSucceeded, b.Wait(replica.Operation.ID).Status)
	made := effects(t, b.Stack)["create"]
	restore()
	for _, id := range []api.ID{cvm.VMUUID, replica.VMUUID} {
		require.Eventually(t, func() bool { return strings.Contains(b.orphan("list"), id.String()) }, soon, 20*time.Millisecond)
	}
	b.Owls[0].Stop()
	_, err := b.tryOrphan("delete", cvm.VMUUID.String())
	require.ErrorContains(t, err, "it is decided")
	require.Contains(t, b.orphan("list"), "delete")
	_, err = b.tryOrphan("adopt", cvm.VMUUID.String(), "--workspace", "acme")
	require.ErrorContains(t, err, "safe to repeat", "Owl is away")
	b.Owls[0].Start()
	require.Eventually(t, func() bool { return effects(t, b.Stack)["remove"][cvm.VMUUID] == 1 }, soon, 20*time.Millisecond, "a sweep does it")
	require.Contains(t, b.orphan("adopt", replica.VMUUID.String(), "--workspace", "acme"), "adopted")
	require.Eventually(t, func() bool { return b.orphan("list") == "" }, soon, 20*time.Millisecond)
	require.Contains(t, b.orphan("delete", cvm.VMUUID.String()), "it was deleted before")

	b.agree()
	scale := apitest.Decode[api.CVMs](b.scale(cvm.AppID, 1).Expect(http.StatusAccepted))
	require.Equal(t, api.OperationSucceeded, scale.Operation.Status, "it is one already")
	require.Equal(t, replica.VMUUID, b.list(cvm.AppID)[0].VMUUID)
	require.Equal(t, made, effects(t, b.Stack)["create"], "no machine is made")
}

// TestASweepFindsNothingInAHealthySystem, however busy that is: two nodes sweep
// without a pause while everything that can be asked for is.
func TestASweepFindsNothingInAHealthySystem(t *testing.T) {
	t.Parallel()
	o := sweepEvery(time.Millisecond)
	o.Platforms, o.Owls, o.Boot = 2, 1, 20*time.Millisecond
	b := setup(t, o)
	var clients sync.WaitGroup
	for n := range 4 {
		clients.Go(func() {
			for round := range 8 {
				b.life(fmt.Sprintf("app-%d-%d", n, round), b.Platforms[n%2].URL)
			}
		})
	}
	clients.Wait()
	require.Eventually(t, func() bool { return b.differing() == 0 }, 2*soon, 20*time.Millisecond)
	var sweeps float64
	for _, node := range b.Platforms {
		sweeps += metric(t, node, "roost_sweeps_total")
		require.Zero(t, metric(t, node, "roost_sweep_due_total"), "a row was made due for nothing")
		require.Zero(t, metric(t, node, "roost_orphans"))
		require.Zero(t, metric(t, node, "roost_maintenance_failures_total"))
	}
	var cvms int
	require.NoError(t, b.PlatformDB.Raw(`SELECT count(*) FROM cvms`).Scan(&cvms).Error)
	t.Logf("%v sweeps beside the lives of %d CVMs", sweeps, cvms)
	require.Greater(t, sweeps, 10.0)
}

// life is an app from its first CVM to its last, in no hurry to see any of it
// done.
func (b *bundle) life(name, node string) {
	b.t.Helper()
	at := func(c *apitest.Call) *apitest.Call { return c.At(node) }
	cvm := at(b.c.Post("/cvms", apitest.Spec(name, "services: {}"))).Expect(http.StatusAccepted).CVM()
	path := "/cvms/" + cvm.VMUUID.String()
	actions := []func(){
		func() { at(b.c.Post(path+"/stop", "")).Expect(http.StatusAccepted) },
		func() { at(b.c.Post(path+"/start", "")).Expect(http.StatusAccepted) },
		func() { at(b.c.Post(path+"/restart", "")).Expect(http.StatusAccepted) },
		func() { at(b.scale(cvm.AppID, 1+rand.IntN(3))).Expect(http.StatusAccepted) },
		func() {
			at(b.c.Request(http.MethodPatch, path, fmt.Sprintf(`{"vcpu":%d}`, 1+rand.IntN(4)))).Expect(http.StatusAccepted)
		},
		func() {
			rule := apitest.Decode[api.FirewallRule](at(b.c.Post(path+"/firewall-rules", `{"cidr":"10.0.0.0/8"}`)).Expect(http.StatusCreated))
			if rand.IntN(2) == 0 {
				b.settle(cvm.VMUUID)
				at(b.del(path + "/firewall-rules/" + rule.ID.String())).Expect(http.StatusNoContent)
			}
		},
	}
	for range 1 + rand.IntN(5) {
		actions[rand.IntN(len(actions))]()
		if rand.IntN(2) == 0 {
			b.settle(cvm.VMUUID)
		}
	}
	for _, one := range b.list(cvm.AppID) {
		if rand.IntN(3) > 0 {
			at(b.del("/cvms/" + one.VMUUID.String())).Send()
		}
	}
}

// settle waits until nothing is under way for a CVM: only then is it compared.
func (b *bundle) settle(id api.ID) {
	b.t.Helper()
	require.Eventually(b.t, func() bool { return !b.get(id).InProgress }, soon, 5*time.Millisecond)
}

// metric adds up a metric of a node over its labels.
func metric(t *testing.T, node *stack.Node, name string) (sum float64) {
	t.Helper()
	reply := apitest.Client{T: t, URL: node.URL}.Raw("/metrics").Expect(http.StatusOK)
	for line := range bytes.Lines(reply.Body) {
		if rest, ok := strings.CutPrefix(string(line), name); ok {
			var value float64
			_, err := fmt.Sscan(rest[strings.LastIndexByte(rest, ' ')+1:], &value)
			require.NoError(t, err)
			sum += value
		}
	}
	return sum
}

package scenario_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/apitest"
	"roost/cmd/internal/harness"
)

// world is what happens around a backup: CVMs that exist before it, and what
// becomes of them afterwards, which the backup does not know.
type world struct {
	kept, stopped, patched, deleted, late, ephemeral api.CVM
	rule                                             api.FirewallRule
}

// before makes what the backup holds.
func (b *bundle) before() (w world) {
	b.t.Helper()
	for name, cvm := range map[string]*api.CVM{
		"kept": &w.kept, "stopped": &w.stopped, "patched": &w.patched, "deleted": &w.deleted,
	} {
		*cvm = b.running(name)
	}
	b.settled()
	return w
}

// after makes what it does not hold, and waits until both sides are at rest.
func (b *bundle) after(w *world) {
	b.t.Helper()
	accepted := func(call *apitest.Call) api.CVM {
		return b.Insist(call).Expect(http.StatusAccepted).CVM()
	}
	accepted(b.ask(w.stopped.VMUUID, "stop"))
	accepted(b.Client().Request(http.MethodPatch, "/cvms/"+w.patched.VMUUID.String(), `{"instance_type":"tdx.medium"}`).Key("patch"))
	accepted(b.del(w.deleted.VMUUID))
	w.rule = apitest.Decode[api.FirewallRule](b.Insist(b.Client().Post("/cvms/"+w.kept.VMUUID.String()+"/firewall-rules",
		`{"cidr":"10.0.0.0/8"}`).Key("rule")).Expect(http.StatusCreated))
	w.late = b.running("late")
	w.ephemeral = b.running("ephemeral")
	accepted(b.del(w.ephemeral.VMUUID))
	b.settled()
}

// settled waits until nothing is unfinished, and checks.
func (b *bundle) settled() {
	b.t.Helper()
	b.AwaitRest()
	b.Check()
}

// TestScenarioOwlRestoredFromASnapshot: Owl forgets what came after its backup:
// a create, changes, deletions. Platform pushes it all again, and no machine
// notices.
func TestScenarioOwlRestoredFromASnapshot(t *testing.T) {
	t.Parallel()
	b := setup(t, harness.Options{PlatformEnv: []string{"PLATFORM_SWEEP_INTERVAL=1s"}})
	w := b.before()
	backup := b.SnapshotOwl()
	b.after(&w)
	effects := len(b.Effects())

	backup.Restore()
	require.Equal(t, "", b.owlStatus(w.late.VMUUID), "Owl has forgotten it")
	require.Equal(t, "running", b.owlStatus(w.deleted.VMUUID), "and this deletion")
	b.FaultsEnded()
	b.converged()
	require.Equal(t, api.StatusStopped, b.get(w.stopped.VMUUID).Status)
	require.Equal(t, "tdx.medium", b.get(w.patched.VMUUID).InstanceType)
	require.Equal(t, "deleted", b.owlStatus(w.deleted.VMUUID))
	require.Equal(t, "deleted", b.owlStatus(w.ephemeral.VMUUID), "a tombstone for what Owl has forgotten altogether")
	require.Equal(t, api.StatusRunning, b.get(w.late.VMUUID).Status)
	rule := "/cvms/" + w.kept.VMUUID.String() + "/firewall-rules/" + w.rule.ID.String()
	require.Equal(t, api.FirewallActive, apitest.Decode[api.FirewallRule](b.Client().Get(rule)).Status)
	require.Equal(t, 1, harness.Rows[int](b.Stack, b.OwlDB, `SELECT count(*) FROM firewall_rules WHERE id = ? AND deleted_at IS NULL`, w.rule.ID)[0])
	require.Len(t, b.Effects(), effects, "no machine has noticed: %v", b.Effects())
	require.Empty(t, b.Orphans())
}

// converged waits for agreement after a restore, and logs how long it took.
func (b *bundle) converged() {
	b.t.Helper()
	took := b.AwaitAgreement()
	b.t.Logf("converged: %s %.3fs", b.t.Name(), took.Seconds())
	require.Less(b.t, took, b.Limit())
	b.Check()
}

// TestScenarioPlatformRestoredFromASnapshot: Platform forgets what was asked
// for after its backup. What it still knows it puts right at Owl; what Owl has
// and nobody here has heard of is recorded and left alone; what was deleted is
// never made again.
func TestScenarioPlatformRestoredFromASnapshot(t *testing.T) {
	t.Parallel()
	b := setup(t, harness.Options{PlatformEnv: []string{"PLATFORM_SWEEP_INTERVAL=1s"}})
	w := b.before()
	backup := b.SnapshotPlatform()
	b.after(&w)
	machine := b.Machine(w.late.VMUUID)

	backup.Restore()
	for _, key := range []string{"late", "ephemeral", "stop-" + w.stopped.VMUUID.String(), "patch", "rule", ""} {
		b.Journal.Forget(key) // whoever restores a backup breaks what was promised since
	}
	b.FaultsEnded()
	b.converged()
	b.Await("the operator sees it", func() bool { return b.Orphans()[w.late.VMUUID] })
	require.Equal(t, machine, b.Machine(w.late.VMUUID), "its machine is untouched")
	require.False(t, b.Orphans()[w.ephemeral.VMUUID], "a tombstone is nobody's")
	require.Equal(t, api.StatusRunning, b.get(w.stopped.VMUUID).Status, "the stop is forgotten")
	require.Equal(t, "tdx.small", b.get(w.patched.VMUUID).InstanceType)
	gone := b.get(w.deleted.VMUUID)
	require.Equal(t, api.StatusFailed, gone.Status, "deleted below us, and not made again")
	require.Equal(t, string(api.CodeResourceDeleted), gone.Error.Code)
	require.Equal(t, "create start remove", b.Machine(w.deleted.VMUUID))

	// What is changed from here on is above whatever Owl has.
	for _, id := range []api.ID{w.stopped.VMUUID, w.patched.VMUUID, w.kept.VMUUID} {
		stop := b.Insist(b.ask(id, "stop").Key("again-" + id.String())).Expect(http.StatusAccepted).CVM()
		require.Equal(t, api.OperationSucceeded, b.Wait(stop.Operation.ID).Status)
		require.Equal(t, "stopped", b.owlStatus(id))
	}
	b.FaultsEnded()
	b.AtRest()
}

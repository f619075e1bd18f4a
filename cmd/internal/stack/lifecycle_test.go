package stack_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/apitest"
	"roost/cmd/internal/stack"
)

// bundle is a stack and what its tests do again and again.
type bundle struct {
	*stack.Stack

	t *testing.T
	c apitest.Client
}

func setup(t *testing.T, o stack.Options) *bundle {
	t.Helper()
	s := stack.Start(t, o)
	return &bundle{Stack: s, t: t, c: s.Client()}
}

// running creates a CVM and waits until it runs.
func (b *bundle) running(name string) api.CVM {
	b.t.Helper()
	cvm := b.c.Post("/cvms", apitest.Spec(name, "services: {}")).Expect(http.StatusAccepted).CVM()
	require.Equal(b.t, api.OperationSucceeded, b.Wait(cvm.Operation.ID).Status)
	return b.get(cvm.VMUUID)
}

func (b *bundle) get(id api.ID) api.CVM {
	b.t.Helper()
	return b.c.Get("/cvms/" + id.String()).Expect(http.StatusOK).CVM()
}

// ask posts an action to a CVM.
func (b *bundle) ask(id api.ID, action string) *apitest.Call {
	return b.c.Post("/cvms/"+id.String()+"/"+action, "")
}

func (b *bundle) del(path string) *apitest.Call { return b.c.Request(http.MethodDelete, path, "") }

func (b *bundle) scale(app api.ID, count int) *apitest.Call {
	return b.c.Request(http.MethodPut, "/apps/"+app.String()+"/replicas", fmt.Sprintf(`{"count":%d}`, count))
}

func (b *bundle) list(app api.ID) []api.CVM {
	b.t.Helper()
	return apitest.Decode[[]api.CVM](b.c.Get("/apps/" + app.String() + "/cvms").Expect(http.StatusOK))
}

func (b *bundle) gone(id api.ID) {
	b.t.Helper()
	require.Eventually(b.t, func() bool { return b.c.Get("/cvms/"+id.String()).Status == http.StatusNotFound },
		30*time.Second, 10*time.Millisecond)
}

// TestSeed003 is the race of the founding document: a stop whose answer was
// lost, a start by somebody else, and the late repeat of the stop.
func TestSeed003(t *testing.T) {
	t.Parallel()
	b := setup(t, stack.Options{})
	cvm := b.running("web")
	stop := b.ask(cvm.VMUUID, "stop").Key("c1700de3-b8cb-4d8a-9990-e4ebf052e9aa")
	stopping := stop.Expect(http.StatusAccepted).CVM()
	require.Equal(t, api.StatusStopping, stopping.Status, "the answer that accepts it shows it")
	require.True(t, stopping.InProgress)
	require.Equal(t, api.StatusStopped, *stopping.Progress.Target)
	require.Equal(t, api.OperationSucceeded, b.Wait(stopping.Operation.ID).Status)
	require.Equal(t, api.StatusStopped, b.get(cvm.VMUUID).Status)

	started := b.ask(cvm.VMUUID, "start").Expect(http.StatusAccepted).CVM()
	require.Equal(t, api.StatusStarting, started.Status)
	require.Equal(t, api.OperationSucceeded, b.Wait(started.Operation.ID).Status)

	late := stop.Expect(http.StatusAccepted)
	require.True(t, late.Replayed())
	require.Equal(t, stopping.Operation.ID, late.CVM().Operation.ID)
	require.Equal(t, api.OperationSucceeded, late.CVM().Operation.Status)
	require.Equal(t, api.StatusRunning, late.CVM().Status, "the machine that somebody started goes on")
	require.Equal(t, 1, effects(t, b.Stack)["stop"][cvm.VMUUID])
}

// TestSeed004 is the echo of the founding document, and its two 409s.
func TestSeed004(t *testing.T) {
	t.Parallel()
	b := setup(t, stack.Options{})
	cvm := b.running("web")
	rule := b.c.Post("/cvms/"+cvm.VMUUID.String()+"/firewall-rules", `{"cidr":"10.0.0.0/8","port":443}`).Key("rule")
	first, again := rule.Expect(http.StatusCreated), rule.Expect(http.StatusCreated)
	require.Equal(t, string(first.Body), string(again.Body))
	require.True(t, again.Replayed())
	b.c.Post("/cvms/"+cvm.VMUUID.String()+"/firewall-rules", `{"cidr":"10.0.0.0/8"}`).Key("rule").
		Send().Refuse(api.CodeIdempotencyKeyReused)
}

func TestAStopBeforeTheStartWasPushedEndsItAsSuperseded(t *testing.T) {
	t.Parallel()
	b := setup(t, stack.Options{})
	cvm := b.running("web")
	b.Owls[0].Stop()
	stop := b.ask(cvm.VMUUID, "stop").Expect(http.StatusAccepted).CVM().Operation.ID
	start := b.ask(cvm.VMUUID, "start").Expect(http.StatusAccepted).CVM()
	ended := b.Wait(stop)
	require.Equal(t, api.OperationCanceled, ended.Status)
	require.Equal(t, api.ErrorSuperseded, ended.Error.Code)
	require.Equal(t, start.Operation.ID, ended.Error.SupersededBy)
	require.NotNil(t, ended.FinishedAt)

	b.Owls[0].Start()
	require.Equal(t, api.OperationSucceeded, b.Wait(start.Operation.ID).Status)
	require.Equal(t, api.StatusRunning, b.get(cvm.VMUUID).Status)
	require.Empty(t, effects(t, b.Stack)["stop"])
}

func TestAPowerThatIsAskedForAlreadyMakesNoGeneration(t *testing.T) {
	t.Parallel()
	b := setup(t, stack.Options{})
	cvm := b.running("web")
	idle := b.ask(cvm.VMUUID, "start").Expect(http.StatusAccepted).CVM()
	require.Equal(t, cvm.Generation, idle.Generation)
	require.Equal(t, api.OperationSucceeded, idle.Operation.Status)
	require.Equal(t, api.KindCVMStart, idle.Operation.Kind)
	require.NotEqual(t, cvm.Operation.ID, idle.Operation.ID)
	require.False(t, idle.InProgress)

	b.Owls[0].Stop()
	first := b.ask(cvm.VMUUID, "stop").Key("a").Expect(http.StatusAccepted).CVM()
	second := b.ask(cvm.VMUUID, "stop").Key("b").Expect(http.StatusAccepted)
	require.False(t, second.Replayed())
	require.Equal(t, first.Operation.ID, second.CVM().Operation.ID, "it names the operation under way")
	require.Equal(t, first.Generation, second.CVM().Generation)
	key := apitest.Decode[api.Key](b.c.Get("/idempotency-keys/b").Expect(http.StatusOK))
	require.Equal(t, first.Operation.ID, *key.OperationID)
}

func TestRestartRestartsOnceAndStartsWhatIsStopped(t *testing.T) {
	t.Parallel()
	b := setup(t, stack.Options{})
	cvm := b.running("web")
	restart := b.ask(cvm.VMUUID, "restart").Key("r")
	first := restart.Expect(http.StatusAccepted).CVM()
	require.Equal(t, api.StatusRestarting, first.Status)
	require.Equal(t, api.OperationSucceeded, b.Wait(first.Operation.ID).Status)
	require.Equal(t, first.Operation.ID, restart.Expect(http.StatusAccepted).CVM().Operation.ID)
	require.Equal(t, 1, effects(t, b.Stack)["restart"][cvm.VMUUID])

	b.Wait(b.ask(cvm.VMUUID, "stop").Expect(http.StatusAccepted).CVM().Operation.ID)
	again := b.ask(cvm.VMUUID, "restart").Expect(http.StatusAccepted).CVM()
	require.Equal(t, api.OperationSucceeded, b.Wait(again.Operation.ID).Status)
	require.Equal(t, api.StatusRunning, b.get(cvm.VMUUID).Status)
}

func TestAPatchChangesWhatItNamesAndNothingElse(t *testing.T) {
	t.Parallel()
	b := setup(t, stack.Options{})
	cvm := b.running("web")
	path := "/cvms/" + cvm.VMUUID.String()
	patch := b.c.Request(http.MethodPatch, path, `{"instance_type":"tdx.large","disk_size":null,"compose_file":{"public_logs":true}}`)
	changed := patch.Key("p").Expect(http.StatusAccepted).CVM()
	require.Equal(t, api.StatusUpdating, changed.Status)
	require.Equal(t, "tdx.large", changed.InstanceType)
	require.Equal(t, []int64{4, 8192, 20}, []int64{changed.VCPU, changed.Memory, changed.DiskSize}, "the disk stays")
	require.NotEqual(t, cvm.ComposeHash, changed.ComposeHash)
	require.Equal(t, api.OperationSucceeded, b.Wait(changed.Operation.ID).Status)
	require.Equal(t, "services: {}", string(b.c.Get(path+"/docker-compose.yml").Body))

	same := patch.Key("p2").Expect(http.StatusAccepted).CVM()
	require.Equal(t, changed.Generation, same.Generation, "naturally the same")
	require.Equal(t, api.OperationSucceeded, same.Operation.Status)

	p := b.c.Request(http.MethodPatch, path, `{"disk_size":10}`).Send().Refuse(api.CodeInvalidRequest)
	require.Equal(t, []string{"/disk_size"}, apitest.Fields(p))

	// A replica is of what the CVM is now; the hash follows the patch.
	copied := b.c.Post("/apps/"+cvm.AppID.String()+path+"/replicas", "").Expect(http.StatusAccepted).CVM()
	require.Equal(t, "tdx.large", copied.InstanceType)
	require.Equal(t, changed.ComposeHash, copied.ComposeHash)
	b.c.Post("/cvms", apitest.Spec("web", "services: {}")).Send().Refuse(api.CodeAppExists)
}

func TestDeleteIsAcceptedNamedAgainAndThenGone(t *testing.T) {
	t.Parallel()
	b := setup(t, stack.Options{Boot: 300 * time.Millisecond})
	cvm := b.running("web")
	path := "/cvms/" + cvm.VMUUID.String()
	b.Owls[0].Stop()
	update := b.c.Request(http.MethodPatch, path, `{"vcpu":2}`).Expect(http.StatusAccepted).CVM().Operation.ID
	first := b.del(path).Expect(http.StatusAccepted).CVM()
	require.Equal(t, api.StatusDeleting, first.Status)
	require.Equal(t, api.StatusDeleted, *first.Progress.Target)
	require.Equal(t, first.Operation, b.del(path).Expect(http.StatusAccepted).CVM().Operation)
	ended := b.c.Get("/operations/" + update).Operation()
	require.Equal(t, api.OperationCanceled, ended.Status)
	require.Equal(t, first.Operation.ID, ended.Error.SupersededBy)
	for _, action := range []string{"start", "stop", "restart", "firewall-rules"} {
		body := ""
		if action == "firewall-rules" {
			body = `{"cidr":"10.0.0.0/8"}`
		}
		b.c.Post(path+"/"+action, body).Send().Refuse(api.CodeGone)
	}
	require.Len(t, b.list(cvm.AppID), 1, "it stays in the list until it is gone")

	b.Owls[0].Start()
	require.Equal(t, api.OperationSucceeded, b.Wait(first.Operation.ID).Status)
	require.NotNil(t, b.del(path).Send().Refuse(api.CodeGone).DeletedAt)
	p := b.del(path).With(api.HeaderPhalaVersion, "2026-01-21").Send().Refuse(api.CodeResourceDeleted)
	require.NotNil(t, p.DeletedAt)
	require.NotNil(t, b.c.Get(path).Refuse(api.CodeResourceDeleted).DeletedAt)
	b.c.Get("/apps/" + cvm.AppID.String()).Refuse(api.CodeResourceDeleted)
	b.c.Get("/apps/" + cvm.AppID.String() + "/cvms").Refuse(api.CodeResourceDeleted)
	require.Equal(t, 1, effects(t, b.Stack)["remove"][cvm.VMUUID])

	// The name is free, and the app is the same one.
	next := b.running("web")
	require.Equal(t, cvm.AppID, next.AppID)
	require.NotEqual(t, cvm.VMUUID, next.VMUUID)
}

// TestADeleteBeforeTheCreateWasPushed: Owl learns of the end first, and the
// late create finds a tombstone.
func TestADeleteBeforeTheCreateWasPushed(t *testing.T) {
	t.Parallel()
	b := setup(t, stack.Options{})
	b.Owls[0].Stop()
	created := b.c.Post("/cvms", apitest.Spec("web", "services: {}")).Expect(http.StatusAccepted).CVM()
	removed := b.del("/cvms/" + created.VMUUID.String()).Expect(http.StatusAccepted).CVM()
	require.Equal(t, api.OperationCanceled, b.Wait(created.Operation.ID).Status)
	b.Owls[0].Start()
	require.Equal(t, api.OperationSucceeded, b.Wait(removed.Operation.ID).Status)
	owl := apitest.Client{T: t, URL: b.Owls[0].URL}
	late := fmt.Sprintf(`{"id":%q,"app_id":%q,"name":"web","spec":{}}`, created.VMUUID, created.AppID)
	owl.Post("", late).With("Authorization", "Bearer stack").To("/v1/cvms").Send().Refuse(api.CodeGone)
	require.Empty(t, effects(t, b.Stack)["create"])
}

func TestScaleCountsWhatIsNotBeingDeleted(t *testing.T) {
	t.Parallel()
	b := setup(t, stack.Options{})
	first := b.running("web")
	up := apitest.Decode[api.CVMs](b.scale(first.AppID, 4).Key("up").Expect(http.StatusAccepted))
	require.Len(t, up.Items, 3)
	require.Equal(t, api.KindAppScale, up.Operation.Kind)
	require.Equal(t, first.AppID, up.Operation.ResourceID)
	require.Equal(t, api.OperationSucceeded, b.Wait(up.Operation.ID).Status)
	require.Equal(t, up.Operation.ID, apitest.Decode[api.CVMs](b.scale(first.AppID, 4).Key("up").Expect(http.StatusAccepted)).Operation.ID)

	nothing := apitest.Decode[api.CVMs](b.scale(first.AppID, 4).Expect(http.StatusAccepted))
	require.Equal(t, api.OperationSucceeded, nothing.Operation.Status)
	require.NotNil(t, nothing.Operation.FinishedAt)
	require.Empty(t, nothing.Items)

	down := apitest.Decode[api.CVMs](b.scale(first.AppID, 2).Expect(http.StatusAccepted))
	require.Equal(t, []api.ID{up.Items[1].VMUUID, up.Items[2].VMUUID}, []api.ID{down.Items[0].VMUUID, down.Items[1].VMUUID}, "the newest go")
	require.Equal(t, api.OperationSucceeded, b.Wait(down.Operation.ID).Status)
	left := b.list(first.AppID)
	require.Equal(t, []api.ID{first.VMUUID, up.Items[0].VMUUID}, []api.ID{left[0].VMUUID, left[1].VMUUID})

	b.scale(first.AppID, 1).Expect(http.StatusAccepted)
	b.gone(left[1].VMUUID)
	require.Equal(t, first.VMUUID, b.list(first.AppID)[0].VMUUID, "never the first one")
	b.scale(api.NewMinter().ID(), 1).Send().Refuse(api.CodeNotFound)
}

func TestFirewallRulesEndToEnd(t *testing.T) {
	t.Parallel()
	b := setup(t, stack.Options{})
	cvm := b.running("web")
	path := "/cvms/" + cvm.VMUUID.String() + "/firewall-rules"
	p := b.c.Post(path, `{"cidr":"10.1.2.3/8","protocol":"icmp","port":0}`).Send().Refuse(api.CodeInvalidRequest)
	require.Equal(t, []string{"/cidr", "/protocol", "/port"}, apitest.Fields(p))

	rule := apitest.Decode[api.FirewallRule](b.c.Post(path, `{"cidr":"10.0.0.0/8"}`).Key("k").Expect(http.StatusCreated))
	require.Equal(t, api.FirewallPending, rule.Status)
	require.Equal(t, api.ProtocolTCP, rule.Protocol)
	require.Nil(t, rule.Port)
	rules := func() []api.FirewallRule {
		return apitest.Decode[api.Page[api.FirewallRule]](b.c.Get(path).Expect(http.StatusOK)).Items
	}
	require.Eventually(t, func() bool { return rules()[0].Status == api.FirewallActive }, 30*time.Second, 10*time.Millisecond)

	one := path + "/" + rule.ID.String()
	require.Equal(t, rules()[0], apitest.Decode[api.FirewallRule](b.c.Get(one).Expect(http.StatusOK)))
	b.del(path + "/" + api.NewMinter().ID().String()).Send().Refuse(api.CodeNotFound)
	require.Empty(t, b.del(one).Expect(http.StatusNoContent).Body)
	require.NotNil(t, b.del(one).Send().Refuse(api.CodeGone).DeletedAt)
	require.NotNil(t, b.c.Get(one).Refuse(api.CodeResourceDeleted).DeletedAt)
	require.Empty(t, rules())
	require.Eventually(t, func() bool {
		var n int
		return b.OwlDB.Raw(`SELECT count(*) FROM firewall_rules WHERE delete_requested_at IS NOT NULL`).Scan(&n).Error == nil && n == 1
	}, 30*time.Second, 10*time.Millisecond, "Owl heard of it")
}

// TestARestartThatWasCanceledDoesNotComeBack: restart, stop and start while
// Owl is away ask for a machine that runs, as it does.
func TestARestartThatWasCanceledDoesNotComeBack(t *testing.T) {
	t.Parallel()
	b := setup(t, stack.Options{})
	cvm := b.running("web")
	b.Owls[0].Stop()
	restart := b.ask(cvm.VMUUID, "restart").Expect(http.StatusAccepted).CVM().Operation.ID
	stop := b.ask(cvm.VMUUID, "stop").Expect(http.StatusAccepted).CVM().Operation.ID
	start := b.ask(cvm.VMUUID, "start").Expect(http.StatusAccepted).CVM().Operation.ID
	b.Owls[0].Start()
	require.Equal(t, api.OperationSucceeded, b.Wait(start).Status)
	require.Equal(t, api.OperationCanceled, b.Wait(restart).Status)
	require.Equal(t, api.OperationCanceled, b.Wait(stop).Status)
	require.Empty(t, effects(t, b.Stack)["restart"])
}

// TestPowerBeforeTheCreateWasConfirmed: the create goes out as it was stored,
// and the change follows.
func TestPowerBeforeTheCreateWasConfirmed(t *testing.T) {
	t.Parallel()
	b := setup(t, stack.Options{})
	b.Owls[0].Stop()
	cvm := b.c.Post("/cvms", apitest.Spec("web", "services: {}")).Expect(http.StatusAccepted).CVM()
	stop := b.ask(cvm.VMUUID, "stop").Expect(http.StatusAccepted).CVM()
	require.Equal(t, api.StatusProvisioning, stop.Status)
	require.Equal(t, api.StatusStopped, *stop.Progress.Target)
	b.Owls[0].Start()
	require.Equal(t, api.OperationSucceeded, b.Wait(stop.Operation.ID).Status)
	require.Equal(t, api.OperationSucceeded, b.Wait(cvm.Operation.ID).Status, "a generation at or above its own was observed")
	require.Equal(t, api.StatusStopped, b.get(cvm.VMUUID).Status)
}

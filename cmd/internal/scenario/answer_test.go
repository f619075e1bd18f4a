package scenario_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/apitest"
	"roost/cmd/internal/harness"
	"roost/cmd/internal/lossy"
)

// everyWrite does one of each write to one app, each repeated until answered.
func (b *bundle) everyWrite(name string) {
	b.t.Helper()
	c := b.Client()
	cvm := b.Insist(b.create(name)).Expect(http.StatusAccepted).CVM()
	app, vm := "/apps/"+cvm.AppID.String(), "/cvms/"+cvm.VMUUID.String()
	for _, call := range []*apitest.Call{
		c.Post(app+vm+"/replicas", `{"count":2}`).Key(name + "-replicas"),
		b.ask(cvm.VMUUID, "stop"),
		c.Request(http.MethodPatch, vm, `{"instance_type":"tdx.medium"}`).Key(name + "-patch"),
		b.ask(cvm.VMUUID, "start"),
		b.ask(cvm.VMUUID, "restart"),
		c.Post(vm+"/firewall-rules", `{"cidr":"10.0.0.0/8","port":443}`).Key(name + "-rule"),
		c.Request(http.MethodPut, app+"/replicas", `{"count":2}`).Key(name + "-scale"),
	} {
		reply := b.Insist(call)
		require.Equal(b.t, 2, reply.Status/100, "%s: %s", call.Path(), reply.Body)
		if reply.Status == http.StatusAccepted {
			b.Wait(reply.CVM().Operation.ID)
		}
	}
	gone := b.Insist(b.create(name + "-gone")).Expect(http.StatusAccepted).CVM()
	require.Contains(b.t, []int{http.StatusAccepted, http.StatusGone}, b.Insist(b.del(gone.VMUUID)).Status)
}

// ways are what befalls each write, in this order, until it is answered: one
// app with answers lost and then a request doubled, one with a doubled request.
func ways() map[string][]lossy.Fate {
	return map[string][]lossy.Fate{
		"lost":  {lossy.DropAnswer(), lossy.TearAnswer(40), lossy.DuplicateAtOnce()},
		"twice": {lossy.Duplicate()},
	}
}

// TestScenarioAnswerLostOnTheClientHop: every write loses its answer in each
// way, one after the other, and the client sends it again until it is answered.
func TestScenarioAnswerLostOnTheClientHop(t *testing.T) {
	t.Parallel()
	b := setup(t, harness.Options{})
	front := b.Platforms[0].Front
	const writes = 10 // of everyWrite
	for name, fates := range ways() {
		front.SetPolicy(inTurn(lossy.Writes, fates...))
		b.everyWrite(name)
	}
	front.SetPolicy(nil)
	b.FaultsEnded()
	b.AtRest()
	require.GreaterOrEqual(t, b.Journal.Count(0), 2*writes, "what was dropped and torn")
	for _, fates := range ways() {
		for _, fate := range fates {
			require.Equal(t, writes, front.Count(fate.String()), fate)
		}
	}
	b.nothingTwice(len(ways()))
}

// nothingTwice: each app has the CVMs and effects of one everyWrite.
func (b *bundle) nothingTwice(apps int) {
	b.t.Helper()
	effects := map[string]int{}
	for _, e := range b.Effects() {
		effects[e.Effect]++
	}
	// Two replicas, of which the newest was removed again; one CVM only made to be deleted.
	require.LessOrEqual(b.t, effects["create"], 4*apps)
	require.GreaterOrEqual(b.t, effects["create"], 3*apps)
	require.Equal(b.t, apps, effects["stop"])
	require.Equal(b.t, apps, effects["restart"])
	require.Equal(b.t, 2*apps, harness.Rows[int](b.Stack, b.PlatformDB, `SELECT count(*) FROM cvms WHERE deleted_at IS NULL`)[0])
	require.Equal(b.t, 4*apps, harness.Rows[int](b.Stack, b.PlatformDB, `SELECT count(*) FROM cvms`)[0])
	require.Equal(b.t, apps, harness.Rows[int](b.Stack, b.OwlDB, `SELECT count(*) FROM firewall_rules WHERE deleted_at IS NULL`)[0])
}

// TestScenarioAnswerLostOnTheOwlHop is the same one hop further down, where
// Platform is the client.
func TestScenarioAnswerLostOnTheOwlHop(t *testing.T) {
	t.Parallel()
	b := setup(t, harness.Options{})
	for name, fates := range ways() {
		b.back().SetPolicy(inTurn(lossy.Writes, fates...))
		b.everyWrite(name)
	}
	b.back().SetPolicy(nil)
	b.FaultsEnded()
	b.AtRest()
	for _, fates := range ways() {
		for _, fate := range fates {
			require.GreaterOrEqual(t, b.back().Count(fate.String()), 5, fate)
		}
	}
	require.Positive(t, b.Owls[0].Metric(`owl_inserts_total{kind="cvm",outcome="existing"}`), "Owl has answered 200, not 201")
	require.Positive(t, b.Owls[0].Metric(`owl_inserts_total{kind="firewall_rule",outcome="existing"}`))
	b.nothingTwice(len(ways()))
}

// TestScenarioTwoPlatformsRaceOneNewKey: a hundred requests at once on two
// processes; one executes, and all name what it made.
func TestScenarioTwoPlatformsRaceOneNewKey(t *testing.T) {
	t.Parallel()
	b := setup(t, harness.Options{Platforms: 2, Owls: 2})
	source := b.running("web")
	b.FaultsEnded()
	path := "/apps/" + source.AppID.String() + "/cvms/" + source.VMUUID.String() + "/replicas"
	replies := apitest.Together(t, 100, func(i int) *apitest.Call {
		return b.ClientOf(i%2).Post(path, `{"count":3}`).Key("race")
	})
	made := 0
	for i, r := range replies {
		if harness.Transient(r) { // it waited for the one that executes as long as one does
			r = b.Insist(b.ClientOf(i%2).Post(path, `{"count":3}`).Key("race"))
		}
		if !r.Expect(http.StatusAccepted).Replayed() {
			made++
		}
		require.Len(t, apitest.Decode[api.CVMs](r).Items, 3)
	}
	require.Equal(t, 1, made, "one of them executes")
	b.AtRest()
	require.Equal(t, 4, harness.Rows[int](b.Stack, b.OwlDB, `SELECT count(*) FROM cvms`)[0])
}

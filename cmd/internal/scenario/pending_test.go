package scenario_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/cmd/internal/harness"
	"roost/cmd/internal/lossy"
)

// creates matches the pushes of creates.
func creates(r *lossy.Request) bool { return lossy.Route(http.MethodPost, "/v1/cvms/batch")(r) }

// changes matches the pushes of changes.
func changes(r *lossy.Request) bool { return lossy.Route(http.MethodPut, "/v1/cvms/*")(r) }

// stops matches the pushes of stops.
func stops(r *lossy.Request) bool {
	return changes(r) && strings.Contains(string(r.Body), `"power":"stopped"`)
}

// released waits until all that was held has been delivered, and returns it.
func (b *bundle) released() (out []lossy.Exchange) {
	b.t.Helper()
	b.Await("what was held is delivered", func() bool {
		out = nil
		for _, e := range b.back().Exchanges() {
			if e.Fate == "hold" && !e.Done {
				return false
			} else if e.Fate == "hold" {
				out = append(out, e)
			}
		}
		return true
	})
	require.NotEmpty(b.t, out)
	return out
}

// TestScenarioStopBeforeTheCreateWasConfirmed: Owl has the create, Platform
// has not heard so, and a stop is accepted. What is sent again is the request
// that was stored, and the stop follows it.
func TestScenarioStopBeforeTheCreateWasConfirmed(t *testing.T) {
	t.Parallel()
	for name, fate := range map[string]lossy.Fate{"never arrived": lossy.Refuse(), "answer lost": lossy.DropAnswer()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, harness.Options{})
			b.back().SetPolicy(lossy.Always(creates, fate))
			cvm := b.Insist(b.create("web")).Expect(http.StatusAccepted).CVM()
			b.AwaitExchange(b.back(), func(e lossy.Exchange) bool { return e.Fate == fate.String() && e.Done })
			stop := b.ask(cvm.VMUUID, "stop").Expect(http.StatusAccepted).CVM()
			require.Equal(t, api.StatusStopped, *stop.Progress.Target)
			b.back().SetPolicy(nil)
			b.FaultsEnded()
			require.Equal(t, api.OperationSucceeded, b.Wait(stop.Operation.ID).Status)
			b.AtRest()
			require.Equal(t, api.StatusStopped, b.get(cvm.VMUUID).Status)
			existing := b.Owls[0].Metric(`owl_inserts_total{kind="cvm",outcome="existing"}`)
			require.Equal(t, fate.String() == "drop answer", existing > 0)
			require.Zero(t, b.Owls[0].Metric(`owl_inserts_total{kind="cvm",outcome="conflict"}`))
		})
	}
}

// TestScenarioStopThenStartBeforeThePush: the stop never reached Owl before it
// was overtaken, and the machine never stops.
func TestScenarioStopThenStartBeforeThePush(t *testing.T) {
	t.Parallel()
	b := setup(t, harness.Options{})
	cvm := b.running("web")
	b.back().SetPolicy(lossy.Always(changes, lossy.Refuse()))
	stop := b.ask(cvm.VMUUID, "stop").Expect(http.StatusAccepted).CVM()
	b.AwaitExchange(b.back(), func(e lossy.Exchange) bool { return e.Fate == "refuse" })
	start := b.ask(cvm.VMUUID, "start").Expect(http.StatusAccepted).CVM()
	ended := b.Wait(stop.Operation.ID)
	require.Equal(t, api.OperationCanceled, ended.Status)
	require.Equal(t, start.Operation.ID, ended.Error.SupersededBy)
	b.back().SetPolicy(nil)
	b.FaultsEnded()
	b.AtRest()
	require.Equal(t, api.OperationSucceeded, b.Wait(start.Operation.ID).Status)
	require.Equal(t, api.StatusRunning, b.get(cvm.VMUUID).Status)
	require.Equal(t, "create start", b.Machine(cvm.VMUUID))
	require.Equal(t, b.ask(cvm.VMUUID, "stop").Expect(http.StatusAccepted).CVM().Operation.ID, stop.Operation.ID,
		"a late repeat of the stop stops nothing")
	require.Equal(t, "create start", b.Machine(cvm.VMUUID))
}

// TestScenarioALateStopAfterAStart: the stop's push is held on the way, the
// start overtakes it, and then it arrives.
func TestScenarioALateStopAfterAStart(t *testing.T) {
	t.Parallel()
	b := setup(t, harness.Options{})
	cvm := b.running("web")
	hold := lossy.NewHold()
	b.back().SetPolicy(lossy.Always(stops, hold.Fate()))
	b.ask(cvm.VMUUID, "stop").Expect(http.StatusAccepted)
	<-hold.Held()
	start := b.ask(cvm.VMUUID, "start").Expect(http.StatusAccepted).CVM()
	require.Equal(t, api.OperationSucceeded, b.Wait(start.Operation.ID).Status)
	hold.Release()
	for _, late := range b.released() {
		require.Equal(t, []int{http.StatusOK}, late.Statuses, "unchanged: its generation is not newer")
	}
	b.FaultsEnded()
	b.AtRest()
	require.Equal(t, "create start", b.Machine(cvm.VMUUID))
}

// TestScenarioDeleteWhileTheCreateIsPending: the create's push is held, the
// CVM is deleted meanwhile, and then the push arrives at a tombstone.
func TestScenarioDeleteWhileTheCreateIsPending(t *testing.T) {
	t.Parallel()
	b := setup(t, harness.Options{})
	hold := lossy.NewHold()
	b.back().SetPolicy(lossy.Always(creates, hold.Fate()))
	cvm := b.Insist(b.create("web")).Expect(http.StatusAccepted).CVM()
	<-hold.Held()
	deletion := b.del(cvm.VMUUID).Expect(http.StatusAccepted).CVM()
	require.Equal(t, api.OperationSucceeded, b.Wait(deletion.Operation.ID).Status)
	require.Equal(t, "deleted", b.owlStatus(cvm.VMUUID), "a tombstone for an ID that Owl never saw")
	hold.Release()
	b.FaultsEnded()
	require.InDelta(t, len(b.released()), b.Owls[0].Metric(`owl_inserts_total{kind="cvm",outcome="gone"}`), 0.1,
		"Owl says 410 to all that was held")
	b.AtRest()
	require.Equal(t, "deleted", b.owlStatus(cvm.VMUUID))
	require.Empty(t, b.Machine(cvm.VMUUID))
	b.del(cvm.VMUUID).Send().Refuse(api.CodeGone)
	require.Equal(t, api.OperationCanceled, b.Wait(cvm.Operation.ID).Status)
}

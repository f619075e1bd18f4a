package scenario_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/apitest"
	"roost/cmd/internal/harness"
)

// meanwhile is what others do to a CVM while somebody is frozen who has
// claimed it, and what the machine has been through at the end.
type meanwhile struct {
	asked   []string // in order
	machine string
}

// whatHappens are the things that must not be undone by who thaws. Whether the
// first start was over before the stop came is a matter of luck.
func whatHappens() map[string]meanwhile {
	return map[string]meanwhile{
		"finished":              {machine: "create start"},
		"stopped":               {asked: []string{"stop"}, machine: "create start stop"},
		"stopped and restarted": {asked: []string{"stop", "start", "restart"}, machine: "create start stop start restart"},
		"deleted":               {asked: []string{"delete"}, machine: "create start remove"},
	}
}

// do asks for each through a client and waits for it.
func (b *bundle) do(c apitest.Client, id api.ID, asked []string) {
	b.t.Helper()
	for _, action := range asked {
		call := askOn(c, id, action)
		if action == "delete" {
			call = delOn(c, id)
		}
		reply := b.Insist(call).Expect(http.StatusAccepted)
		b.waitAt(c, reply.CVM().Operation.ID)
	}
}

func (b *bundle) waitAt(c apitest.Client, operation string) {
	b.t.Helper()
	b.Await("the operation succeeds", func() bool {
		op := c.Get("/operations/" + operation + "?wait=5s").Expect(http.StatusOK).Operation()
		return op.Status == api.OperationSucceeded
	})
}

// TestScenarioAWorkerFrozenAfterItsClaim freezes a Platform that is about to
// push what it has claimed: another Platform does the work, and
// what the frozen one does when it thaws changes no row.
func TestScenarioAWorkerFrozenAfterItsClaim(t *testing.T) {
	t.Parallel()
	for name, m := range whatHappens() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, harness.Options{Platforms: 2, NotStarted: true})
			zombie, other := b.Platforms[0], b.Platforms[1]
			b.Owls[0].Start()
			zombie.Start("ROOST_FAULT=platform.push_creates.before:stop")
			frozen := make(chan struct{})
			go func() { defer close(frozen); zombie.AwaitFault("platform.push_creates.before") }()
			_, _ = b.create("web").Until(ended(t, frozen)) // the answer may have been faster
			<-frozen
			other.Start()
			cvm := b.Insist(createOn(b.ClientOf(1), "web")).Expect(http.StatusAccepted)
			require.True(t, cvm.Replayed(), "what was claimed was accepted")
			b.waitAt(b.ClientOf(1), cvm.CVM().Operation.ID)
			b.do(b.ClientOf(1), cvm.CVM().VMUUID, m.asked)
			b.AwaitRest()
			before := b.row(cvm.CVM().VMUUID)

			zombie.Thaw()
			b.FaultsEnded()
			zombie.AwaitMetric("roost_reconcile_stale_results_total", 1)
			require.Equal(t, before, b.row(cvm.CVM().VMUUID), "the zombie's result changed nothing")
			b.AtRest()
			require.Equal(t, m.machine, b.Machine(cvm.CVM().VMUUID))
		})
	}
}

// row is all that a CVM's row says. (A look at Owl writes what it saw, also
// when that is nothing new.)
func (b *bundle) row(id api.ID) string {
	b.t.Helper()
	return harness.Rows[string](b.Stack, b.PlatformDB, `SELECT (to_jsonb(c) - 'updated_at')::text FROM cvms c WHERE id = ?`, id)[0]
}

// TestScenarioAnOwlFrozenBeforeItsDriverCall: another Owl does the work, and
// the driver refuses what the frozen one asks for when it thaws.
func TestScenarioAnOwlFrozenBeforeItsDriverCall(t *testing.T) {
	t.Parallel()
	for name, m := range whatHappens() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, harness.Options{Owls: 2, NotStarted: true})
			zombie, other := b.Owls[0], b.Owls[1]
			zombie.Start("ROOST_FAULT=owl.ensure.before:stop")
			b.Platforms[0].Start()
			create := b.Insist(b.create("web")).Expect(http.StatusAccepted).CVM()
			zombie.AwaitFault("owl.ensure.before")
			require.Empty(t, b.Machine(create.VMUUID))
			other.Start()
			b.Platforms[0].Use(other)
			b.waitAt(b.Client(), create.Operation.ID)
			b.do(b.Client(), create.VMUUID, m.asked)
			require.Equal(t, m.machine, b.Machine(create.VMUUID))

			zombie.Thaw()
			b.FaultsEnded()
			b.Await("the zombie calls the driver", func() bool {
				calls := 0.0
				for _, outcome := range []string{"ok", "stale", "removed", "canceled"} {
					calls += zombie.Metric(`owl_driver_calls_total{call="ensure",outcome="` + outcome + `"}`)
				}
				return calls > 0
			})
			b.AtRest()
			require.Equal(t, m.machine, b.Machine(create.VMUUID), "nothing revived, nothing stopped")
		})
	}
}

package maintenance_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/platform/maintenance"
)

// looks counts the sweeps of a node that n more looks cause.
func (b *testBundle) looks(n int) (sweeps int) {
	b.t.Helper()
	before := b.metric(b.reg, "roost_sweeps_total")
	for range n {
		b.m.Look(b.t.Context())
	}
	return int(b.metric(b.reg, "roost_sweeps_total") - before)
}

func TestALookSweepsForACauseOnly(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cvm()
	require.Equal(t, 1, b.looks(1), "at the start")
	require.Equal(t, 1, b.log.lines(`"cause":"start"`))
	require.Zero(t, b.looks(5))
	b.one(`UPDATE chores SET due_at = now()`)
	require.Equal(t, 1, b.looks(5), "at the interval")
	require.Zero(t, b.due.Load())
	require.Zero(t, b.metric(b.reg, "roost_maintenance_failures_total"))
	require.Positive(t, b.metric(b.reg, "roost_sweep_completed_timestamp_seconds"))
}

// TestALookFindsWhatOwlLostLast: the latest change, be it a CVM, a change of
// one, a deletion or a rule. Everything else is found by the sweep after it.
func TestALookFindsWhatOwlLostLast(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(b *testBundle, id api.ID){
		"a CVM":    forget,
		"a change": func(b *testBundle, id api.ID) { b.setCVM(id, `generation = 2, pushed_generation = 2`) },
		"a deletion": func(b *testBundle, id api.ID) {
			b.setCVM(id, deletedNow)
		},
		"a rule": func(b *testBundle, id api.ID) { b.owl.ForgetRule(b.rule(id)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			old := b.cvm()
			since := b.operation(api.OperationSucceeded, nil) // one over many puts it out of sight
			b.exec(`INSERT INTO operation_targets (operation_id, cvm_id, generation, ended_at)
				SELECT ?, gen_random_uuid(), 1, now() FROM generate_series(1, 2500)`, since)
			latest := b.cvm()
			b.exec(`INSERT INTO operations (id, workspace_id, kind, status, app_id, generation, request_id, open_targets)
				SELECT 'op_Z' || n, ?, 'cvm.stop', 'succeeded', ?, 1, '', 0 FROM generate_series(1, 300) n`,
				b.workspace, b.app) // those of no consequence hide nothing
			b.looks(1)
			lose(b, latest)
			b.owl.Forget(old)
			require.Equal(t, 1, b.looks(1))
			require.True(t, b.dueNow("cvms", old))
			require.EqualValues(t, 1, b.count("cvms", "reconcile_after IS NOT NULL AND id = ?", latest)+
				b.count("firewall_rules", "reconcile_after IS NOT NULL"))
		})
	}
}

// TestALookIsCheap: two requests to Owl, whatever there is.
func TestALookIsCheap(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range 20 {
		b.rule(b.cvm())
	}
	b.looks(1)
	before := len(b.owl.Journal())
	require.Zero(t, b.looks(1))
	require.Equal(t, before+2, len(b.owl.Journal()))
}

// TestADifferenceThatStaysDoesNotSweepForEver: at the 1st, 2nd, 4th, 8th time.
func TestADifferenceThatStaysDoesNotSweepForEver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.cvm()
	b.looks(1)
	b.owl.Forget(id)
	sweeps := 0
	for range 10 {
		b.setCVM(id, `reconcile_after = NULL`) // nobody repairs it
		sweeps += b.looks(1)
	}
	require.Equal(t, 4, sweeps)
	b.atOwl(id)
	b.looks(1)
	b.owl.Forget(id)
	b.setCVM(id, `reconcile_after = NULL`)
	require.Equal(t, 1, b.looks(1), "another one is swept for at once")
}

func TestASweepFollowsWhenWhoeverFailedIsBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cvm()
	b.looks(1)
	b.owl.FailNext(1, http.StatusServiceUnavailable)
	require.Zero(t, b.looks(1))
	require.Equal(t, 1, b.looks(1), "Owl")
	require.Zero(t, b.looks(1))

	b.exec(`ALTER TABLE chores RENAME TO elsewhere`)
	require.Zero(t, b.looks(2))
	b.exec(`ALTER TABLE elsewhere RENAME TO chores`)
	require.Equal(t, 1, b.looks(1), "the database")
	require.Zero(t, b.looks(1))
	require.Equal(t, 3.0, b.metric(b.reg, "roost_maintenance_failures_total"))

	// A sweep that fails in the middle is begun again.
	b.one(`UPDATE chores SET due_at = now()`)
	b.exec(`ALTER TABLE orphans RENAME TO elsewhere`)
	b.atOwl(b.mint.ID())
	b.m.Look(t.Context())
	b.exec(`ALTER TABLE elsewhere RENAME TO orphans`)
	require.Equal(t, 1, b.looks(1))
	require.Len(t, b.orphans(), 1)
}

// TestADatabaseThatWentBackIsNoticed, though no connection broke.
func TestADatabaseThatWentBackIsNoticed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	other, _ := b.node()
	b.looks(3)
	other.Look(t.Context()) // others count too
	require.Zero(t, b.looks(2))
	b.one(`UPDATE chores SET rounds = rounds - 1`)
	require.Equal(t, 1, b.looks(3), "the same count twice")
	b.one(`UPDATE chores SET rounds = 1`)
	require.Equal(t, 1, b.looks(3))
	b.exec(`DELETE FROM chores`)
	require.Equal(t, 1, b.looks(3))
}

// TestNodesTakeTurns: of several that come for the interval one sweeps.
func TestNodesTakeTurns(t *testing.T) {
	t.Parallel()
	b := setup(t)
	nodes := make([]*testBundle, 4)
	for i := range nodes {
		one := &testBundle{t: t, db: b.db, owl: b.owl, url: b.url, mint: b.mint, log: b.log}
		one.m, one.reg = b.node()
		require.Equal(t, 1, one.looks(1))
		nodes[i] = one
	}
	for range 20 {
		b.one(`UPDATE chores SET due_at = now()`)
		sweeps := make([]int, len(nodes))
		atOnce(len(nodes), func(i int) { sweeps[i] = nodes[i].looks(1) })
		require.Equal(t, []int{1}, onlyPositive(sweeps))
		require.Equal(t, 1, b.count("chores", "due_at > now() + interval '59 minutes'"))
	}
}

func onlyPositive(all []int) (out []int) {
	for _, n := range all {
		if n > 0 {
			out = append(out, n)
		}
	}
	return out
}

// TestRunSweepsByItself, soon and at the interval.
func TestRunSweepsByItself(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *maintenance.Config) { c.SweepInterval = 50 * time.Millisecond })
	go func() { _ = b.m.Run(t.Context()) }()
	require.Eventually(t, func() bool { return b.metric(b.reg, "roost_sweeps_total") >= 5 }, patience, tick)
}

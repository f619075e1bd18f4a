package maintenance_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/owlapi"
	"roost/api/owlapi/owlapitest"
	"roost/platform/maintenance"
)

// setCVM changes a row, which stays at rest.
func (b *testBundle) setCVM(id api.ID, set string, args ...any) {
	b.t.Helper()
	b.one(`UPDATE cvms SET `+set+` WHERE id = ?`, append(args, id)...)
}

const (
	deletedNow   = `deleting_at = now(), delete_confirmed = true, generation = 2, deleted_at = now()`
	deletedLong  = `deleting_at = now(), delete_confirmed = true, generation = 2, deleted_at = now() - interval '7 days 1 minute'`
	deletedBelow = `error_code = 'RESOURCE_DELETED', error_message = 'below'`
)

// difference is one way in which the two sides may stand.
type difference struct {
	row string                         // what differs in the row, of a CVM that both sides have
	owl func(b *testBundle, id api.ID) // what differs at Owl
	due bool                           // whether the row is to become due
}

func forget(b *testBundle, id api.ID)  { b.owl.Forget(id) }
func rewind(b *testBundle, id api.ID)  { b.owl.Rewind(id, 1) }
func advance(b *testBundle, id api.ID) { b.owl.Rewind(id, 3) }

func (b *testBundle) deleteAtOwl(id api.ID) {
	b.t.Helper()
	require.NoError(b.t, b.client().DeleteCVM(b.t.Context(), id))
}

func differences() map[string]difference {
	remove := (*testBundle).deleteAtOwl
	return map[string]difference{
		"the same":               {},
		"Owl lacks it":           {owl: forget, due: true},
		"Owl has an older one":   {row: `generation = 2, pushed_generation = 2, observed_generation = 2`, due: true},
		"Owl has a newer one":    {owl: advance, due: true},
		"deleted below":          {owl: remove, due: true},
		"deleted, alive there":   {row: deletedNow, due: true},
		"deleted, lost there":    {row: deletedNow, owl: forget, due: true},
		"deleted on both":        {row: deletedNow, owl: remove},
		"unheard of and deleted": {row: deletedNow + `, confirmed = false`, owl: forget, due: true},
		"deleted long ago":       {row: deletedLong, owl: forget},

		"Owl lacks it, and it failed":              {row: `error_code = 'SIM_FAILED'`, owl: forget, due: true},
		"Owl has an older one, and it failed":      {row: `error_code = 'X', generation = 3, pushed_generation = 2`, due: true},
		"failed before Owl had it":                 {row: `error_code = 'ID_CONFLICT', confirmed = false`, owl: forget},
		"a change that Owl refused":                {row: `error_code = 'INVALID_REQUEST', generation = 2, observed_generation = 2`},
		"an answer that was never heard":           {row: `generation = 3, observed_generation = 3, pushed_generation = 1`, owl: advance},
		"an answer that was never heard, and lost": {row: `generation = 2, observed_generation = 2, pushed_generation = 1`, due: true},
		"deleted below, and known":                 {row: deletedBelow, owl: remove},
		"deleted below, known, and forgotten":      {row: deletedBelow, owl: forget},
		"deleted below, known, and alive again":    {row: deletedBelow, due: true},
		"under way":                                {row: `reconcile_after = now() + interval '1 hour'`, owl: forget},
	}
}

func TestWhatDiffersAtRestBecomesDue(t *testing.T) {
	t.Parallel()
	b := setup(t)
	made := map[string]api.ID{}
	for name, d := range differences() {
		id := b.cvm()
		made[name] = id
		if d.row != "" {
			b.setCVM(id, d.row)
		}
		if d.owl != nil {
			d.owl(b, id)
		}
	}
	found := b.sweep()
	var want int64
	for name, d := range differences() {
		require.Equal(t, d.due, b.dueNow("cvms", made[name]), name)
		if d.due {
			want++
			require.Zero(t, b.count("cvms", "id = ? AND deleted_at IS NOT NULL AND delete_confirmed", made[name]), "%s: the deletion is sent again", name)
		}
	}
	require.Equal(t, want, found.Due)
	require.Equal(t, float64(want), b.metric(b.reg, "roost_sweep_due_total"))
	require.Equal(t, int64(1), b.due.Load(), "the reconciler is told")
	require.Zero(t, b.sweep().Due, "and what is due is left to it")
	for name := range made {
		require.LessOrEqual(t, b.count("cvms", "id = ? AND (deleting_at IS NULL) <> (deleted_at IS NULL)", made[name]), 0, name)
	}
}

// TestAChangeMeanwhileIsNotADifference: the row is read, somebody changes it
// and that reaches Owl, Owl is asked.
func TestAChangeMeanwhileIsNotADifference(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(b *testBundle, id api.ID){
		"a change": func(b *testBundle, id api.ID) {
			b.owl.Rewind(id, 2)
			b.setCVM(id, `generation = 2, pushed_generation = 2, observed_generation = 2`)
		},
		"a change under way": func(b *testBundle, id api.ID) {
			b.owl.Rewind(id, 2)
			b.setCVM(id, `generation = 2, reconcile_after = now() + interval '1 hour'`)
		},
		"a deletion": func(b *testBundle, id api.ID) {
			b.deleteAtOwl(id)
			b.setCVM(id, deletedNow)
		},
		"one that is made due by somebody else": func(b *testBundle, id api.ID) {
			b.owl.Forget(id)
			b.setCVM(id, `reconcile_after = now() + interval '1 hour'`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			id := b.cvm()
			b.m, b.reg = b.node(func(c *maintenance.Config) {
				c.Owl = &meanwhile{Client: b.client(), ids: func() { change(b, id) }}
			})
			require.Zero(t, b.sweep().Due)
			require.False(t, b.dueNow("cvms", id))
		})
	}
}

// meanwhile does something before Owl answers.
type meanwhile struct {
	*owlapi.Client

	ids   func()
	rules func()
	page  func()
}

func call(f func()) {
	if f != nil {
		f()
	}
}

func (o *meanwhile) CVMs(ctx context.Context, list owlapi.List) ([]owlapi.CVM, error) {
	if list.IDs != nil {
		call(o.ids)
		return o.Client.CVMs(ctx, list)
	}
	call(o.page)
	return o.Client.CVMs(ctx, list)
}

func (o *meanwhile) FirewallRules(ctx context.Context, list owlapi.List) ([]owlapi.FirewallRule, error) {
	if list.IDs != nil {
		call(o.rules)
	}
	return o.Client.FirewallRules(ctx, list)
}

func TestRulesThatDifferBecomeDue(t *testing.T) {
	t.Parallel()
	b := setup(t)
	cvm, leaving := b.cvm(), b.cvm()
	deleteRule := func(id api.ID) { require.NoError(t, b.client().DeleteFirewallRule(t.Context(), id)) }
	set := func(id api.ID, set string) { b.one(`UPDATE firewall_rules SET `+set+` WHERE id = ?`, id) }
	same, lost, below, alive := b.rule(cvm), b.rule(cvm), b.rule(cvm), b.rule(cvm)
	both, long, failed, pending, ofLeaving := b.rule(cvm), b.rule(cvm), b.rule(cvm), b.rule(cvm), b.rule(leaving)
	for _, id := range []api.ID{lost, failed, pending} {
		b.owl.ForgetRule(id)
	}
	for _, id := range []api.ID{below, both} {
		deleteRule(id)
	}
	for _, id := range []api.ID{alive, both, ofLeaving} {
		set(id, `deleted_at = now()`)
	}
	set(long, `deleted_at = now() - interval '7 days 1 minute'`)
	set(failed, `status = 'failed'`)
	set(pending, `reconcile_after = now() + interval '1 hour'`)
	b.setCVM(leaving, `deleting_at = now(), reconcile_after = now()`) // Owl has not heard of it

	require.EqualValues(t, 3, b.sweep().Due)
	for _, id := range []api.ID{lost, below, alive} {
		require.True(t, b.dueNow("firewall_rules", id))
	}
	for _, id := range []api.ID{same, both, long, failed, pending, ofLeaving} {
		require.False(t, b.dueNow("firewall_rules", id))
	}
	require.Zero(t, b.sweep().Due)
}

func TestARuleDeletedMeanwhileIsNotADifference(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.rule(b.cvm())
	b.m, b.reg = b.node(func(c *maintenance.Config) {
		c.Owl = &meanwhile{Client: b.client(), rules: func() {
			b.exec(`UPDATE firewall_rules SET deleted_at = now()`)
			_ = b.client().DeleteFirewallRule(context.Background(), id)
		}}
	})
	require.Zero(t, b.sweep().Due)
}

// TestEveryPageIsCompared: the last of them too, and none with specs.
func TestEveryPageIsCompared(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var all []api.ID
	for range 401 {
		all = append(all, b.cvm())
	}
	for _, i := range []int{0, 199, 200, 399, 400} {
		b.owl.Forget(all[i])
	}
	stranger := b.mint.ID()
	b.atOwl(stranger)
	found := b.sweep()
	require.EqualValues(t, 5, found.Due)
	require.EqualValues(t, 1, found.Orphans)
	reads := 0
	for _, r := range b.owl.Journal() {
		if r.Method != http.MethodGet || !strings.HasPrefix(r.Path, owlapi.PathCVMs) {
			continue
		}
		reads++
		require.Contains(t, r.Path, "spec=false")
	}
	require.Equal(t, 3+3, reads, "of 401 rows and 397 records: three pages there, two and an empty one back")
}

func TestASweepStopsWhereNobodyAnswers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cvm()
	b.owl.FailNext(1, http.StatusServiceUnavailable)
	_, err := b.m.Sweep(t.Context())
	require.Error(t, err)
	require.Zero(t, b.due.Load())
	b.sweep()
}

// TestPagesThatDoNotAscendEnd, instead of being read for ever.
func TestPagesThatDoNotAscendEnd(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *maintenance.Config) { c.Owl = &stuck{id: c.Minter.ID()} })
	_, err := b.m.Sweep(t.Context())
	require.ErrorContains(t, err, "does not ascend")
}

type stuck struct {
	*owlapi.Client

	id api.ID
}

func (s *stuck) CVMs(context.Context, owlapi.List) ([]owlapi.CVM, error) {
	return []owlapi.CVM{{ID: s.id, Name: "web", Generation: 1}}, nil
}

func TestSweepsAtOnceAreHarmless(t *testing.T) {
	t.Parallel()
	b := setup(t)
	nodes := []*maintenance.Maintenance{b.m}
	for range 2 {
		m, _ := b.node()
		nodes = append(nodes, m)
	}
	var lost, there []api.ID
	for range 30 {
		lost, there = append(lost, b.cvm()), append(there, b.cvm())
	}
	strangers := make([]api.ID, 10)
	for i := range strangers {
		strangers[i] = b.mint.ID()
		b.atOwl(strangers[i])
	}
	for round := range 20 {
		for _, id := range lost {
			b.owl.Forget(id)
			b.setCVM(id, `reconcile_after = NULL`)
		}
		var due, fresh atomic.Int64
		atOnce(len(nodes), func(i int) {
			found, err := nodes[i].Sweep(t.Context())
			require.NoError(t, err)
			due.Add(found.Due)
			fresh.Add(found.Orphans)
		})
		require.EqualValues(t, len(lost), due.Load(), "each once")
		require.Equal(t, len(strangers), b.count("orphans"))
		require.EqualValues(t, map[bool]int{true: len(strangers)}[round == 0], fresh.Load())
	}
	require.Zero(t, b.count("cvms", "id IN ? AND reconcile_after IS NOT NULL", there))
}

// TestNoSecretLeavesTheSpecs: encrypted_env stays in specs.body, whatever the
// sweeper finds, records and tells of.
func TestNoSecretLeavesTheSpecs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.owl.Forget(b.cvm())
	b.atOwl(b.mint.ID())
	b.sweep()
	b.m.Look(t.Context())
	b.reap()
	require.Equal(t, 1, b.count("orphans"))
	var tables []string
	require.NoError(t, b.db.Raw(`SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'`).Scan(&tables).Error)
	for _, table := range tables {
		n := b.count(table+" x", "x::text LIKE ?", "%"+canary+"%")
		require.Equal(t, map[bool]int{true: 1}[table == "specs"], n, table)
	}
	require.NotContains(t, b.log.String(), canary)
	for _, r := range b.owl.Journal() {
		if r.Method == http.MethodGet {
			require.NotContains(t, string(r.Body), canary)
		}
	}
}

// TestTheFakesLossesAreWhatTheyAreCalled keeps the tables above honest.
func TestTheFakesLossesAreWhatTheyAreCalled(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.cvm()
	restore := b.owl.Backup()
	rule := b.rule(id)
	advance(b, id)
	record, _ := b.owl.Record(id)
	require.EqualValues(t, 3, record.Generation)
	b.deleteAtOwl(id)
	b.owl.ForgetRule(rule)
	restore()
	record, ok := b.owl.Record(id)
	require.True(t, ok && !record.Deleted() && record.Generation == 1, fmt.Sprint(record))
	rules, err := b.client().FirewallRules(t.Context(), owlapi.List{IDs: []api.ID{rule}})
	require.NoError(t, err)
	require.Empty(t, rules)
	_ = owlapitest.Config{}
	rewind(b, id)
}

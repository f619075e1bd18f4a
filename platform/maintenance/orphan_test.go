package maintenance_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"roost/api"
	"roost/models"
	"roost/models/pg"
	"roost/platform/maintenance"
)

func (b *testBundle) orphans() map[api.ID]models.Orphan {
	b.t.Helper()
	var rows []models.Orphan
	require.NoError(b.t, b.db.Find(&rows).Error)
	out := map[api.ID]models.Orphan{}
	for _, o := range rows {
		out[o.ID] = o
	}
	return out
}

// alive requires that Owl has the CVM, and nobody asked it for anything but reads.
func (b *testBundle) untouched(id api.ID) {
	b.t.Helper()
	record, ok := b.owl.Record(id)
	require.True(b.t, ok && !record.Deleted())
	for _, r := range b.owl.Journal() {
		require.NotEqual(b.t, http.MethodDelete, r.Method)
		require.NotEqual(b.t, http.MethodPut, r.Method)
	}
}

func TestWhatPlatformHasNeverHeardOfIsRecordedOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	known, stranger := b.cvm(), b.mint.ID()
	b.atOwl(stranger)
	rule := b.mint.ID()
	b.ruleAtOwl(rule, known)
	for round := range 3 {
		require.EqualValues(t, map[bool]int{true: 2}[round == 0], b.sweep().Orphans)
		require.Len(t, b.orphans(), 2)
	}
	got := b.orphans()
	require.Equal(t, models.Orphan{
		ID: stranger, Kind: models.OrphanCVM, Name: "web", AppID: &b.app, Generation: 1,
		FirstSeenAt: got[stranger].FirstSeenAt, LastSeenAt: got[stranger].LastSeenAt,
	}, got[stranger])
	require.True(t, got[stranger].FirstSeenAt.Before(got[stranger].LastSeenAt))
	require.Equal(t, models.Orphan{
		ID: rule, Kind: models.OrphanFirewallRule, Name: "10.0.0.0/8 tcp all", CVMID: &known,
		FirstSeenAt: got[rule].FirstSeenAt, LastSeenAt: got[rule].LastSeenAt,
	}, got[rule])
	require.Equal(t, 2.0, b.metric(b.reg, "roost_orphans"))
	require.Equal(t, 2, b.log.lines("has never heard of"), "once for each")
	require.Equal(t, 2, b.log.lines(`"level":"ERROR"`))
	b.untouched(stranger)
}

func TestATombstoneIsNoOrphan(t *testing.T) {
	t.Parallel()
	b := setup(t)
	gone, never := b.mint.ID(), b.mint.ID()
	b.atOwl(gone)
	b.deleteAtOwl(gone)
	b.deleteAtOwl(never)
	b.owl.PauseMachines(true)
	going := b.mint.ID()
	b.atOwl(going)
	b.deleteAtOwl(going)
	require.Zero(t, b.sweep().Orphans)
}

// TestARowThatCommitsBeforeItIsPushedIsNoOrphan: it is there, on both sides,
// by the time that Owl answers with a page.
func TestARowThatCommitsBeforeItIsPushedIsNoOrphan(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var made bool
	b.m, b.reg = b.node(func(c *maintenance.Config) {
		c.Owl = &meanwhile{Client: b.client(), page: func() {
			if !made {
				b.cvm()
			}
			made = true
		}}
	})
	for range 20 {
		made = false
		require.Zero(t, b.sweep().Orphans)
	}
}

func TestWhatWasDeletedLongAgoAndLivesIsAnOrphanToo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	long, lately, due := b.cvm(), b.cvm(), b.cvm()
	b.setCVM(long, deletedLong)
	b.setCVM(lately, deletedNow)
	b.setCVM(due, deletedLong+`, reconcile_after = now()`)
	rule := b.rule(b.cvm())
	b.one(`UPDATE firewall_rules SET deleted_at = now() - interval '7 days 1 minute' WHERE id = ?`, rule)
	found := b.sweep()
	require.EqualValues(t, 1, found.Due)
	require.EqualValues(t, 2, found.Orphans)
	require.Contains(t, b.orphans(), long)
	require.Contains(t, b.orphans(), rule)
	b.untouched(long)
}

func TestWhatIsNoOrphanAnyMoreLeaves(t *testing.T) {
	t.Parallel()
	b := setup(t)
	deleted, known, stays := b.mint.ID(), b.mint.ID(), b.mint.ID()
	for _, id := range []api.ID{deleted, known, stays} {
		b.atOwl(id)
	}
	b.sweep()
	require.Len(t, b.orphans(), 3)
	first := b.orphans()[stays].FirstSeenAt
	b.deleteAtOwl(deleted)
	row := b.insertCVM()
	b.setCVM(row, `id = ?`, known)
	require.EqualValues(t, 2, b.sweep().Ended)
	require.Len(t, b.orphans(), 1)
	require.Equal(t, first, b.orphans()[stays].FirstSeenAt)
}

// TestASweepThatDoesNotGetToItsEndForgetsNoOrphan: it has not seen them all.
func TestASweepThatDoesNotGetToItsEndForgetsNoOrphan(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.atOwl(b.mint.ID())
	b.sweep()
	b.owl.FailNext(1, http.StatusServiceUnavailable)
	_, err := b.m.Sweep(t.Context())
	require.Error(t, err)
	require.Len(t, b.orphans(), 1)
}

func TestAnOrphanIsDeletedWhenSomebodyDecidesSo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	cvm, rule, other := b.mint.ID(), b.mint.ID(), b.mint.ID()
	b.atOwl(cvm)
	b.atOwl(other)
	b.ruleAtOwl(rule, other)
	b.sweep()
	require.False(t, b.deletes(cvm))
	require.False(t, b.deletes(rule))
	record, _ := b.owl.Record(cvm)
	require.True(t, record.Deleted())
	require.Len(t, b.orphans(), 1)
	b.sweep()
	require.Contains(t, b.orphans(), other, "and nothing else")
}

// deletes reports whether it was done before.
func (b *testBundle) deletes(id api.ID) (already bool) {
	b.t.Helper()
	already, err := b.m.DeleteOrphan(b.t.Context(), id)
	require.NoError(b.t, err)
	return already
}

// TestADeletionIsRepeatedInPeace: what Owl has as deleted and Platform does not
// know is done, whoever did it. What nobody knows, and what only Platform
// does, is an error, and so is not to know.
func TestADeletionIsRepeatedInPeace(t *testing.T) {
	t.Parallel()
	b := setup(t)
	cvm, other, rule := b.mint.ID(), b.mint.ID(), b.mint.ID()
	b.atOwl(cvm)
	b.atOwl(other)
	b.ruleAtOwl(rule, other)
	b.sweep()
	for _, id := range []api.ID{cvm, rule} {
		require.False(t, b.deletes(id))
		asked := len(b.owl.Journal())
		require.True(t, b.deletes(id))
		for _, r := range b.owl.Journal()[asked:] {
			require.Equal(t, http.MethodGet, r.Method, "it is not deleted again")
		}
	}
	requireRefused := func(code api.Code, id api.ID) {
		_, err := b.m.DeleteOrphan(t.Context(), id)
		requireCode(t, err, code)
	}
	requireRefused(api.CodeNotFound, b.mint.ID())
	unswept := b.mint.ID()
	b.atOwl(unswept)
	requireRefused(api.CodeNotFound, unswept)
	mine := b.cvm()
	b.deleteAtOwl(mine)
	requireRefused(api.CodeInvalidState, mine)
	b.owl.FailNext(1, http.StatusServiceUnavailable)
	_, err := b.m.DeleteOrphan(t.Context(), cvm)
	require.ErrorContains(t, err, "Owl does not say whether it was deleted. Nothing was done; it is safe to repeat")
}

// TestADecisionOutlivesWhoeverMadeIt: the answer is lost, or Owl is away.
func TestADecisionOutlivesWhoeverMadeIt(t *testing.T) {
	t.Parallel()
	for name, misbehave := range map[string]func(b *testBundle){
		"Owl is away":        func(b *testBundle) { b.owl.FailNext(1, http.StatusServiceUnavailable) },
		"the answer is lost": func(b *testBundle) { b.owl.DropNext(1) },
	} {
		for again, finish := range map[string]func(b *testBundle, id api.ID){
			"the next sweep": func(b *testBundle, _ api.ID) { b.sweep() },
			"a repetition":   func(b *testBundle, id api.ID) { require.False(b.t, b.deletes(id)) },
		} {
			t.Run(name+", "+again, func(t *testing.T) {
				t.Parallel()
				b := setup(t)
				id := b.mint.ID()
				b.atOwl(id)
				b.sweep()
				misbehave(b)
				_, err := b.m.DeleteOrphan(t.Context(), id)
				require.ErrorContains(t, err, "it is decided")
				require.Equal(t, models.OrphanDelete, *b.orphans()[id].Decision)
				finish(b, id)
				record, _ := b.owl.Record(id)
				require.True(t, record.Deleted())
				b.sweep()
				require.Empty(t, b.orphans())
			})
		}
	}
}

// TestWhatPlatformHasIsNeverDeletedAsAnOrphan, though it was one and somebody
// decided so: by then it is a CVM like any other.
func TestWhatPlatformHasIsNeverDeletedAsAnOrphan(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.mint.ID()
	b.atOwl(id)
	b.sweep()
	b.setCVM(b.insertCVM(), `id = ?`, id)
	_, err := b.m.DeleteOrphan(t.Context(), id)
	requireCode(t, err, api.CodeInvalidState)
	require.Nil(t, b.orphans()[id].Decision)
	b.one(`UPDATE orphans SET decision = 'delete' WHERE id = ?`, id)
	b.sweep()
	require.Empty(t, b.orphans())
	b.untouched(id)
}

// TestASweepThatWaitedSetsNothingBack: while it waits for the other one's
// write, the other sees the orphan later than this one's statement began. Set
// back, the other would forget it.
func TestASweepThatWaitedSetsNothingBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.mint.ID()
	b.atOwl(id)
	b.sweep()
	swept := make(chan error, 1)
	require.NoError(t, pg.InTx(t.Context(), b.db, func(tx *gorm.DB) error {
		if err := tx.Exec(`UPDATE orphans SET last_seen_at = last_seen_at`).Error; err != nil {
			return err
		}
		go func() {
			_, err := b.m.Sweep(context.WithoutCancel(t.Context()))
			swept <- err
		}()
		require.Eventually(t, func() bool {
			var waiting int
			err := tx.Raw(`SELECT count(*) FROM pg_locks WHERE NOT granted
				AND transactionid = pg_current_xact_id_if_assigned()::xid`).Scan(&waiting).Error
			return err == nil && waiting == 1
		}, patience, tick)
		return tx.Exec(`UPDATE orphans SET last_seen_at = clock_timestamp()`).Error
	}))
	seen := b.orphans()[id].LastSeenAt
	require.NoError(t, <-swept)
	require.False(t, b.orphans()[id].LastSeenAt.Before(seen))
}

package platform_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/owlapi/owlapitest"
	"roost/models/pg"
	"roost/platform"
)

// TestConnectionsThatDieInSilenceHoldUpNoRule: TCP would wait for minutes.
func TestConnectionsThatDieInSilenceHoldUpNoRule(t *testing.T) {
	t.Parallel()
	fake, url := owlapitest.Start(t, owlapitest.Config{})
	b, proxy := setupBehindProxy(t, func(c *platform.Config) { c.OwlURL = url })
	l := &lifecycle{testBundle: b, owl: fake}
	pool, err := b.db.DB()
	require.NoError(t, err)
	pool.SetMaxIdleConns(2) // so many are to be given up, one after the other
	c := l.running("web")
	proxy.Strand()
	b.db, err = pg.Open(t.Context(), pg.Config{URL: proxy.URL}, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pg.Close(b.db)) })
	require.NoError(t, b.db.Exec(`INSERT INTO firewall_rules (id, workspace_id, cvm_id, cidr, protocol, status)
		SELECT gen_random_uuid(), workspace_id, id, '10.0.0.0/8', 'tcp', 'pending' FROM cvms WHERE id = ?`, c.VMUUID).Error)
	eventually(t, "the rule is in force", func() bool { return b.count("firewall_rules", "status = 'active'") == 1 })
}

// TestWhatWasSeenHasTimeToBeWritten, however much of its own the call took: on a
// machine that is slow, a look that is given up for the last of it is made
// again, and given up again.
func TestWhatWasSeenHasTimeToBeWritten(t *testing.T) {
	t.Parallel()
	b, owl := setupWithOwl(t, owlapitest.Config{}, func(c *platform.Config) { c.ReconcileLease = time.Second }) // so long a call may take
	l := &lifecycle{testBundle: b, owl: owl}
	c := l.running("web")
	owl.PauseMachines(true)
	stop := l.stop(c.VMUUID)
	eventually(t, "the change was pushed", func() bool { return l.count("cvms", "pushed_generation = 2") == 1 })
	holder := l.db.Begin()
	defer holder.Rollback()
	require.NoError(t, holder.Exec("SET LOCAL idle_in_transaction_session_timeout = 0").Error)
	require.NoError(t, holder.Exec("SELECT 1 FROM cvms FOR UPDATE").Error)
	owl.PauseMachines(false)
	eventually(t, "what was seen waits for the row, longer than a call may take", func() bool {
		return l.count("pg_stat_activity", `datname = current_database() AND wait_event_type = 'Lock'
			AND query LIKE '%locked AS MATERIALIZED%' AND clock_timestamp() - query_start > interval '1200 ms'`) == 1
	})
	require.NoError(t, holder.Rollback().Error)
	require.Equal(t, api.OperationSucceeded, l.ended(stop.Operation.ID).Status)
}

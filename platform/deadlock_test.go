package platform_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"roost/api/apitest"
	"roost/api/owlapi/owlapitest"
)

// TestChangesAndTheReconcilerLockInOneOrder: deletes, scales and changes of
// whole apps arrive while
// the results of the creates before them are being written. Locks taken in two
// orders showed here within a few rounds, as 503.
func TestChangesAndTheReconcilerLockInOneOrder(t *testing.T) {
	t.Parallel()
	b, _ := setupWithOwl(t, owlapitest.Config{})
	b.run(b.service)
	scaled := b.create("scaled")
	for i := range 60 {
		cvm := b.create(fmt.Sprint("web-", i))
		b.client().Request(http.MethodDelete, "/cvms/"+cvm.VMUUID.String(), "").Expect(http.StatusAccepted)
		b.client().Request(http.MethodPut, "/apps/"+scaled.AppID.String()+"/replicas", fmt.Sprintf(`{"count":%d}`, 1+i%2*9)).
			Expect(http.StatusAccepted)
		request(b.client(), http.MethodPatch, "/cvms/"+scaled.VMUUID.String()+"/docker-compose", fmt.Sprint("services: ", i)).
			Expect(http.StatusAccepted)
	}
	eventually(t, "every operation has ended", func() bool { return b.count("operations", "finished_at IS NULL") == 0 })
	left := apitest.Decode[[]any](b.get("/apps/" + scaled.AppID.String() + "/cvms").Expect(http.StatusOK))
	require.Len(t, left, 10)
	require.NotContains(t, b.log.String(), "deadlock")
}

// TestOperationsAreLockedByAscendingID also where several CVMs end several of
// them: a scale that waits for one operation holds none behind it.
func TestOperationsAreLockedByAscendingID(t *testing.T) {
	t.Parallel()
	b := setup(t)
	cvm := b.create("web")
	replicas := "/apps/" + cvm.AppID.String() + "/replicas"
	scale := func(count int) *apitest.Call {
		return b.client().Request(http.MethodPut, replicas, fmt.Sprintf(`{"count":%d}`, count))
	}
	scale(3).Expect(http.StatusAccepted)
	for i := range 2 {
		request(b.client(), http.MethodPatch, "/cvms/"+cvm.VMUUID.String()+"/docker-compose", fmt.Sprint("services: ", i)).Expect(http.StatusAccepted)
	}
	var patches []string
	require.NoError(t, b.db.Raw(`SELECT id FROM operations WHERE kind = 'cvm.update' ORDER BY id`).Scan(&patches).Error)
	require.Len(t, patches, 2)
	// The first of the copies has seen the first patch.
	require.NoError(t, b.db.Exec(`UPDATE operation_targets SET ended_at = now() WHERE operation_id = ? AND cvm_id = (
		SELECT id FROM cvms WHERE replica_of IS NOT NULL ORDER BY id LIMIT 1)`, patches[0]).Error)

	holder := b.db.Begin()
	defer holder.Rollback()
	require.NoError(t, holder.Exec(`SET LOCAL idle_in_transaction_session_timeout = 0`).Error)
	require.NoError(t, holder.Exec(`SELECT 1 FROM operations WHERE id = ? FOR UPDATE`, patches[0]).Error)
	scaled := make(chan *apitest.Reply, 1)
	go func() { reply, _ := scale(1).Try(); scaled <- reply }()
	eventually(t, "the scale waits for the first patch", func() bool {
		return b.count("pg_stat_activity", "datname = current_database() AND wait_event_type = 'Lock'") == 1
	})
	require.NoError(t, holder.Exec(`SELECT 1 FROM operations WHERE id = ? FOR UPDATE NOWAIT`, patches[1]).Error)
	require.NoError(t, holder.Rollback().Error)
	require.Equal(t, http.StatusAccepted, (<-scaled).Status)
}

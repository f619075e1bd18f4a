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

package owl_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/owl/driver/sim"
)

// BenchmarkCreateToRunning measures what Owl adds to a machine's boot, from the
// POST to the first look that sees it running.
func BenchmarkCreateToRunning(b *testing.B) {
	bundle := setup(b)
	bundle.sim.Boot = 100 * time.Millisecond
	n := bundle.start(b)
	var added []time.Duration
	for b.Loop() {
		began := time.Now()
		r := bundle.request()
		_, _, err := n.CreateCVM(b.Context(), r)
		require.NoError(b, err)
		look := time.NewTicker(time.Millisecond)
		for status := api.StatusProvisioning; status != api.StatusRunning; <-look.C {
			records, err := n.CVMsByID(b.Context(), []api.ID{r.ID})
			require.NoError(b, err)
			status = records[0].Status
		}
		look.Stop()
		added = append(added, time.Since(began)-bundle.sim.Boot)
	}
	slices.Sort(added)
	b.ReportMetric(float64(added[len(added)/2].Microseconds())/1000, "ms-over-boot-p50")
	b.ReportMetric(float64(added[len(added)*99/100].Microseconds())/1000, "ms-over-boot-p99")
}

// BenchmarkCreate measures one POST after the other, machines off.
func BenchmarkCreate(b *testing.B) {
	bundle := setup(b)
	bundle.sim = sim.Config{Dir: bundle.sim.Dir}
	n := bundle.start(b)
	for b.Loop() {
		r := bundle.request()
		r.Power = api.PowerStopped
		_, _, err := n.CreateCVM(b.Context(), r)
		require.NoError(b, err)
	}
}

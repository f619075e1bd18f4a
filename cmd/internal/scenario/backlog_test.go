package scenario_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/owlapi"
	"roost/cmd/internal/harness"
	"roost/cmd/internal/lossy"
)

// probes is how many rows may have served to find out whether Owl is back.
const probes = 20

// arrivals are the creates that reach Owl, in order.
type arrivals struct {
	mu      sync.Mutex
	batches [][]api.ID
}

// policy lets everything pass and takes note.
func (a *arrivals) policy(r *lossy.Request) lossy.Fate {
	if creates(r) {
		var batch struct{ Items []struct{ ID api.ID } }
		if json.Unmarshal(r.Body, &batch) == nil {
			ids := make([]api.ID, len(batch.Items))
			for i, item := range batch.Items {
				ids[i] = item.ID
			}
			a.mu.Lock()
			a.batches = append(a.batches, ids)
			a.mu.Unlock()
		}
	}
	return lossy.Pass()
}

// TestScenarioOwlDownForAnHourOfCreates: all are accepted meanwhile; when Owl
// is back, the oldest go first, a bounded number at a time.
func TestScenarioOwlDownForAnHourOfCreates(t *testing.T) {
	t.Parallel()
	const (
		count   = 100 // replicas of one request
		rounds  = 6
		pushes  = 4 // reconcile's bound on claims that are pushed at a time
		backlog = count * rounds
	)
	b := setup(t, harness.Options{
		PlatformEnv: []string{fmt.Sprint("PLATFORM_MAX_CVMS=", 2*backlog), "PLATFORM_RECONCILE_LEASE=10s"},
		OwlEnv:      []string{"OWL_SIM_BOOT=1ms"},
	})
	source := b.running("web")
	b.Owls[0].Kill()
	path := "/apps/" + source.AppID.String() + "/cvms/" + source.VMUUID.String() + "/replicas"
	for i := range rounds {
		b.Insist(b.Client().Post(path, fmt.Sprintf(`{"count":%d}`, count)).Key(fmt.Sprint("k", i))).Expect(http.StatusAccepted)
	}
	b.AwaitExchange(b.back(), func(e lossy.Exchange) bool { return e.Done && slices.Equal(e.Statuses, []int{0}) })
	oldest := b.backdate(time.Hour)
	require.Len(t, oldest, backlog)
	b.Await("Owl is known to be silent: nobody but a probe is sent", func() bool {
		before := len(b.back().Exchanges())
		b.Platforms[0].AwaitMetric("roost_reconcile_backlog", backlog) // one scrape of it is a moment
		return len(b.back().Exchanges()) <= before+1
	})

	// Who was probed with, or was on its way when the others got their ages, has a
	// later place.
	displaced := harness.Rows[api.ID](b.Stack, b.PlatformDB,
		`SELECT id FROM cvms WHERE NOT confirmed AND reconcile_after > now() - interval '1 second'`)
	require.LessOrEqual(t, len(displaced), probes)
	var seen arrivals
	b.back().SetPolicy(seen.policy)
	from := len(b.back().Exchanges())
	b.Owls[0].Start()
	b.FaultsEnded()
	b.t.Logf("converged: %s %.3fs", t.Name(), b.AwaitRest().Seconds()) // at a bounded rate: as long as it takes
	b.Check()
	seen.oldestFirst(t, oldest, displaced, pushes)
	require.LessOrEqual(t, atOnce(b.back().Exchanges()[from:]), pushes)
	require.Len(t, b.Effects(), 2*(backlog+1), "each was created and started once")
}

// backdate spreads what is not confirmed over the time that has passed, and
// returns it oldest first.
func (b *bundle) backdate(span time.Duration) []api.ID {
	b.t.Helper()
	return harness.Rows[api.ID](b.Stack, b.PlatformDB, `
		WITH aged AS (
			SELECT id, ?::float8 * (1 - (row_number() OVER (ORDER BY ordinal))::float8 / count(*) OVER ()) AS age
			FROM cvms WHERE NOT confirmed
		), dated AS (
			UPDATE cvms c SET reconcile_after = now() - age * interval '1 second', created_at = now() - age * interval '1 second'
			FROM aged WHERE aged.id = c.id RETURNING c.id, aged.age
		)
		SELECT id FROM dated ORDER BY age DESC`, span.Seconds())
}

// oldestFirst: what arrives for the first time comes in batches of neighbours,
// and these in the order of their ages but for as many as are under way at one
// time. What is displaced, or still serves as a probe, stands out of its place.
func (a *arrivals) oldestFirst(t *testing.T, oldest, displaced []api.ID, pushes int) {
	t.Helper()
	rank := map[api.ID]int{}
	for i, id := range oldest {
		rank[id] = i
	}
	seen := map[api.ID]bool{}
	var heads []int // the lowest rank of each batch, in order of arrival
	for _, batch := range a.batches {
		require.LessOrEqual(t, len(batch), owlapi.MaxBatchItems)
		var fresh []int
		for _, id := range batch {
			if !seen[id] && !slices.Contains(displaced, id) {
				fresh = append(fresh, rank[id])
			}
			seen[id] = true
		}
		if len(fresh) > 1 {
			require.True(t, slices.IsSorted(fresh), "inside a batch: %v", fresh)
			require.Less(t, fresh[len(fresh)-1]-fresh[0], len(fresh)+probes, "neighbours: %v", fresh)
			heads = append(heads, fresh[0])
		}
	}
	require.Len(t, seen, len(oldest), "all of them arrived")
	require.Greater(t, len(heads), pushes, "enough batches to have an order")
	sorted := slices.Sorted(slices.Values(heads))
	for i, head := range heads {
		behind := i - slices.Index(sorted, head)
		require.Less(t, max(behind, -behind), pushes, "batch %d begins with rank %d of %v", i, head, heads)
	}
}

// atOnce is the most creates that were begun close to each other and under way
// at one moment. What is older may have been given up by its sender: on a busy
// machine Owl, and the proxy, are at it longer than Platform waits.
func atOnce(exchanges []lossy.Exchange) (most int) {
	const recent = 2500 * time.Millisecond // half of what a call is given under this lease
	for _, e := range exchanges {
		under := 0
		for _, other := range exchanges {
			if other.Path == "/v1/cvms/batch" && e.Path == other.Path && !e.At.Before(other.At) &&
				e.At.Before(other.EndedAt) && e.At.Sub(other.At) < recent {
				under++
			}
		}
		most = max(most, under)
	}
	return most
}

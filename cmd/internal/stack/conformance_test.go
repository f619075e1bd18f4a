package stack_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/client"
	"roost/cmd/internal/lossy"
	"roost/cmd/internal/stack"
	"roost/platform"
)

// The network of the conformance test. What is lost, doubled or late is drawn
// for each request, so that a repeat may be lost as well.
const (
	conformanceSeed    = 20261121
	conformanceCalls   = 200             // `make conformance` makes 10,000
	conformanceClients = 48              // at most: few calls must not starve the tests beside them
	conformanceTimeout = 3 * time.Second // of an attempt
	conformanceLate    = 4 * time.Second // until a late request is delivered
	conformanceAtRest  = 2 * time.Minute
)

// TestEveryCreateThroughALossyNetworkMakesOneMachineAndReturnsIt: 30 % of the
// answers are lost, 20 % of the requests arrive twice, and some arrive when
// their client has given that attempt up.
func TestEveryCreateThroughALossyNetworkMakesOneMachineAndReturnsIt(t *testing.T) {
	t.Parallel()
	calls := conformanceCalls
	if n, err := strconv.Atoi(os.Getenv("ROOST_TEST_CONFORMANCE")); err == nil {
		calls = n
	}
	s := stack.Start(t, stack.Options{Boot: time.Nanosecond, Platform: func(c *platform.Config) {
		c.MaxCVMs = int64(calls)
		c.OwlHTTP = http.DefaultClient // other tests hold that hop against its document
	}})
	proxy := lossy.Start(t, s.Platforms[0].URL, lossy.Seeded(conformanceSeed, lossy.Writes,
		lossy.Chance{Probability: 0.30, Fate: lossy.DropAnswer()},
		lossy.Chance{Probability: 0.10, Fate: lossy.Duplicate()},
		lossy.Chance{Probability: 0.10, Fate: lossy.DuplicateAtOnce()},
		lossy.Chance{Probability: 0.005, Fate: lossy.Delay(conformanceLate)},
	))
	c, err := client.New(client.Config{Endpoint: proxy.URL(), Token: s.Token, Retry: client.Retry{
		AttemptTimeout: conformanceTimeout, MinBackoff: 10 * time.Millisecond, BudgetBurst: 1000, BudgetPerSecond: 1000,
	}})
	require.NoError(t, err)

	start := time.Now()
	made := createMany(t, c, calls)
	lost, twice, late := proxy.Count("drop answer"), proxy.Count("duplicate")+proxy.Count("duplicate at once"), proxy.Count("delay")
	t.Logf("seed %d: %d calls in %s; %d requests, of which %d lost their answer, %d arrived twice, %d late; %d results were replays",
		conformanceSeed, calls, time.Since(start).Round(time.Millisecond), len(proxy.Exchanges()), lost, twice, late, made.replayed.Load())
	for what, n := range map[string]int{"lost": lost, "twice": twice, "late": late, "replayed": int(made.replayed.Load())} {
		require.Positive(t, n, "nothing was %s: the test has shown nothing", what)
	}
	require.Len(t, made.ids, calls, "no ID twice")

	atRest(t, s, proxy, calls)
	listed := 0
	for cvm, err := range c.CVMs(t.Context()) {
		require.NoError(t, err)
		require.Equal(t, made.ids[cvm.VMUUID], cvm.Name, "the call got the ID of what it asked for")
		listed++
	}
	require.Equal(t, calls, listed)
	onlyOnce(t, s, calls)
	t.Logf("%d machines, each made once, after %s", calls, time.Since(start).Round(time.Millisecond))
}

// atRest holds until nothing is on its way: also what was late has arrived,
// and every operation has ended well.
func atRest(t *testing.T, s *stack.Stack, proxy *lossy.Proxy, calls int) {
	t.Helper()
	require.Eventually(t, func() bool {
		return !slices.ContainsFunc(proxy.Exchanges(), func(x lossy.Exchange) bool { return !x.Done })
	}, conformanceAtRest, 200*time.Millisecond, "requests are still under way")
	require.Eventually(t, func() bool {
		var ended int64
		err := s.PlatformDB.Table("operations").Where("status = ?", api.OperationSucceeded).Count(&ended).Error
		return err == nil && ended >= int64(calls)
	}, conformanceAtRest, 200*time.Millisecond, "operations are still under way")
}

type conformance struct {
	mu       sync.Mutex
	ids      map[api.ID]string // the name that was asked for
	replayed atomic.Int64
}

// createMany makes the calls: one in twenty an app of its own, the others
// replicas, which nobody could tell from a repeat without their key.
func createMany(t *testing.T, c *client.Client, calls int) *conformance {
	t.Helper()
	made := &conformance{ids: map[api.ID]string{}}
	next := make(chan int)
	var wg sync.WaitGroup
	for range max(8, min(conformanceClients, calls/200)) {
		wg.Go(func() {
			var source *api.CVM
			for i := range next {
				name := fmt.Sprint("m-", i)
				r, err := createOne(t.Context(), c, source, i, name)
				if err != nil {
					t.Errorf("call %d: %v", i, err)
					continue
				}
				if r.Value.ReplicaOf == nil {
					source = &r.Value
				}
				if r.Replayed {
					made.replayed.Add(1)
				}
				made.mu.Lock()
				made.ids[r.Value.VMUUID] = name
				made.mu.Unlock()
			}
		})
	}
	for i := range calls {
		next <- i
	}
	close(next)
	wg.Wait()
	return made
}

func createOne(ctx context.Context, c *client.Client, source *api.CVM, i int, name string) (client.Result[api.CVM], error) {
	if source == nil || i%20 == 0 {
		return c.CreateCVM(ctx, api.Spec{
			Name: name, InstanceType: "tdx.small", ComposeFile: &api.ComposeFile{DockerComposeFile: "services: {}"},
		})
	}
	return c.Replicate(ctx, source.AppID, source.VMUUID, name)
}

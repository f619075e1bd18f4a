package scenario_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/apitest"
	"roost/cmd/internal/harness"
	"roost/cmd/internal/lossy"
)

// TestScenarioKeyExpiringBetweenAttempts: a key lives as long as it is said to
// and until its operation has ended; what comes later is a new request, as the
// documentation says.
func TestScenarioKeyExpiringBetweenAttempts(t *testing.T) {
	t.Parallel()
	b := setup(t, harness.Options{PlatformEnv: []string{"PLATFORM_IDEMPOTENCY_TTL=300ms"}})
	b.KeysExpire = true
	source := b.running("web")
	replicate := b.Client().Post("/apps/"+source.AppID.String()+"/cvms/"+source.VMUUID.String()+"/replicas", "").Key("k")

	b.back().SetPolicy(lossy.Always(creates, lossy.Refuse()))
	b.Platforms[0].Front.SetPolicy(lossy.Nth(1, lossy.Writes, lossy.DropAnswer()))
	_, err := replicate.Try()
	require.Error(t, err)
	b.Await("its time has passed", func() bool {
		return harness.Rows[bool](b.Stack, b.PlatformDB, `SELECT expires_at < now() FROM idempotency_keys WHERE key = 'k'`)[0]
	})
	first := replicate.Expect(http.StatusAccepted)
	require.True(t, first.Replayed(), "its operation has not ended, so it is kept")

	b.back().SetPolicy(nil)
	require.Equal(t, api.OperationSucceeded, b.Wait(first.CVM().Operation.ID).Status)
	b.Await("the key is forgotten", func() bool {
		return b.Client().Get("/idempotency-keys/k").Status == http.StatusNotFound
	})
	second := replicate.Expect(http.StatusAccepted)
	require.False(t, second.Replayed())
	require.NotEqual(t, first.CVM().VMUUID, second.CVM().VMUUID)
	b.FaultsEnded()
	b.AtRest()
	require.Equal(t, 3, harness.Rows[int](b.Stack, b.OwlDB, `SELECT count(*) FROM cvms`)[0])
}

// TestScenarioReaperAgainstRetry: keys expire, are reaped by two Platforms and
// are used again, all at once. Each request is either executed or is a replay
// of one that was, and every one that was has been told so.
func TestScenarioReaperAgainstRetry(t *testing.T) {
	t.Parallel()
	b := setup(t, harness.Options{Platforms: 2, PlatformEnv: []string{
		"PLATFORM_IDEMPOTENCY_TTL=100ms", "PLATFORM_SWEEP_INTERVAL=10ms",
	}})
	b.KeysExpire = true
	cvm := b.running("web")
	const clients, keys, requests = 8, 3, 30
	var mu sync.Mutex
	executed, named := map[api.ID]int{}, map[api.ID]int{}
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			for j := range requests {
				call := b.ClientOf((i+j)%2).Post("/cvms/"+cvm.VMUUID.String()+"/firewall-rules", `{"cidr":"10.0.0.0/8"}`).
					Key(fmt.Sprint("k", j%keys))
				reply, err := call.Try()
				if err != nil || harness.Transient(reply) {
					continue // a busy machine; what it may have done is told to the next one
				}
				if !assert.Equal(t, http.StatusCreated, reply.Status, string(reply.Body)) {
					return
				}
				rule := apitest.Decode[api.FirewallRule](reply).ID
				mu.Lock()
				named[rule]++
				if !reply.Replayed() {
					executed[rule]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	b.FaultsEnded()
	b.AtRest()
	rules := harness.Rows[api.ID](b.Stack, b.PlatformDB, `SELECT id FROM firewall_rules`)
	untold := 0
	for _, id := range rules {
		require.LessOrEqual(t, executed[id], 1, id)
		untold += 1 - executed[id]
		delete(named, id)
	}
	require.LessOrEqual(t, untold, b.Journal.Count(0)+b.Journal.Count(http.StatusServiceUnavailable),
		"whoever was answered was told that it executed")
	require.Empty(t, named, "no answer names what is not there")
	require.Greater(t, len(rules), 2*keys, "keys have expired, and were used again")
	require.Less(t, len(rules), clients*requests, "and were replayed")
	b.Await("what expired is reaped", func() bool {
		return harness.Rows[int](b.Stack, b.PlatformDB, `SELECT count(*) FROM idempotency_keys`)[0] == 0
	})
}

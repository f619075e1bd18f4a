package idempotency_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/platform/idempotency"
)

func TestTheGateLetsOnePerKeyThrough(t *testing.T) {
	t.Parallel()
	const keys, visitors = 3, 60
	g, workspace := idempotency.NewGate(), api.NewMinter().ID()
	var inside [keys]atomic.Int32
	visits := [keys]int{} // without a lock: the race detector watches
	require.NotContains(t, atOnce(keys*visitors, func(i int) bool {
		k := i % keys
		leave, err := g.Enter(t.Context(), workspace, keyName(k), deadline)
		if err != nil {
			return false
		}
		alone := inside[k].Add(1) == 1
		visits[k]++
		inside[k].Add(-1)
		leave()
		return alone
	}), false)
	require.Equal(t, [keys]int{visitors, visitors, visitors}, visits)
}

func TestOtherKeysAndWorkspacesDoNotWaitAtTheGate(t *testing.T) {
	t.Parallel()
	g, m := idempotency.NewGate(), api.NewMinter()
	workspace := m.ID()
	leave, err := g.Enter(t.Context(), workspace, "k", 0)
	require.NoError(t, err)
	defer leave()
	for _, other := range []struct {
		workspace api.ID
		key       string
	}{{workspace, "K"}, {workspace, ""}, {m.ID(), "k"}} {
		leave, err := g.Enter(t.Context(), other.workspace, other.key, 0)
		require.NoError(t, err)
		leave()
	}
}

func TestWhoseTurnDoesNotComeInTimeIsToldSo(t *testing.T) {
	t.Parallel()
	g, workspace := idempotency.NewGate(), api.NewMinter().ID()
	leave, err := g.Enter(t.Context(), workspace, "k", 0)
	require.NoError(t, err)
	for _, wait := range []time.Duration{-1, 0, 20 * time.Millisecond} {
		start := time.Now()
		_, err = g.Enter(t.Context(), workspace, "k", wait)
		e := coded(t, err, api.CodeKeyInProgress)
		require.Equal(t, time.Second, e.RetryAfter)
		require.GreaterOrEqual(t, time.Since(start), wait)
	}
	leave()
	leave, err = g.Enter(t.Context(), workspace, "k", 0)
	require.NoError(t, err, "those that gave up do not stand in the way")
	leave()
}

func TestAnEndedContextEndsTheWaitAtTheGate(t *testing.T) {
	t.Parallel()
	g, workspace := idempotency.NewGate(), api.NewMinter().ID()
	leave, err := g.Enter(t.Context(), workspace, "k", 0)
	require.NoError(t, err)
	defer leave()
	ctx, cancel := context.WithCancel(t.Context())
	second := later(func() error {
		_, err := g.Enter(ctx, workspace, "k", time.Hour)
		return err
	})
	cancel()
	require.ErrorIs(t, <-second, context.Canceled)
}

func TestOneThatWaitsAtTheGateGetsItsTurn(t *testing.T) {
	t.Parallel()
	g, workspace := idempotency.NewGate(), api.NewMinter().ID()
	leave, err := g.Enter(t.Context(), workspace, "k", 0)
	require.NoError(t, err)
	var left atomic.Bool
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			next, err := g.Enter(t.Context(), workspace, "k", deadline)
			if err == nil {
				defer next()
			}
			if err != nil || !left.Load() {
				t.Errorf("entered before the first had left, or not at all: %v", err)
			}
		})
	}
	left.Store(true)
	leave()
	wg.Wait()
}

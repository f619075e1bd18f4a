package idempotency

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"roost/api"
)

// A gate must not grow with the keys that have passed it, whichever way their
// requests ended.
func TestTheGateKeepsNothingOfWhoHasLeft(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		type visit struct {
			key            int
			wait, stay     time.Duration
			canceledAfter  time.Duration
			arrivesAfterMS int
		}
		visits := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) visit {
			ms := rapid.IntRange(0, 20)
			return visit{
				key:            rapid.IntRange(0, 2).Draw(t, "key"),
				wait:           time.Duration(ms.Draw(t, "wait")) * time.Millisecond,
				stay:           time.Duration(ms.Draw(t, "stay")) * time.Millisecond,
				canceledAfter:  time.Duration(1+ms.Draw(t, "cancel")) * time.Millisecond,
				arrivesAfterMS: ms.Draw(t, "arrives"),
			}
		}), 1, 30).Draw(t, "visits")

		inside := map[int]int{}
		var mu sync.Mutex
		enter := func(key, by int) int {
			mu.Lock()
			defer mu.Unlock()
			inside[key] += by
			return inside[key]
		}
		g, workspace := NewGate(), api.ID{1}
		var wg sync.WaitGroup
		for _, v := range visits {
			wg.Go(func() {
				<-time.After(time.Duration(v.arrivesAfterMS) * time.Millisecond / 10)
				ctx, cancel := context.WithTimeout(context.Background(), v.canceledAfter/10)
				defer cancel()
				leave, err := g.Enter(ctx, workspace, strconv.Itoa(v.key), v.wait/10)
				if err != nil {
					return
				}
				defer leave()
				if n := enter(v.key, 1); n != 1 {
					t.Errorf("%d are inside", n)
				}
				<-time.After(v.stay / 10)
				enter(v.key, -1)
			})
		}
		wg.Wait()
		require.Empty(t, g.doors)
	})
}

// In a bubble, time passes only when everybody waits: what is measured is what
// was asked for, to the nanosecond.
func TestTheGateWaitsAsLongAsItIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := NewGate()
		leave, err := g.Enter(t.Context(), api.ID{1}, "k", 0)
		require.NoError(t, err)
		require.Len(t, g.doors, 1)
		start := time.Now()
		_, err = g.Enter(t.Context(), api.ID{1}, "k", 5*time.Second)
		require.Error(t, err)
		require.Equal(t, 5*time.Second, time.Since(start))

		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err = g.Enter(ctx, api.ID{1}, "k", time.Hour)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 8*time.Second, time.Since(start))

		leave()
		require.Empty(t, g.doors)
	})
}

package client_test

import (
	"context"
	"errors"
	"math"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/client"
)

// pauses is the time between the requests that a bundle has sent.
func (b *bundle) pauses() []time.Duration {
	var all []time.Duration
	requests := b.requests()
	for i := 1; i < len(requests); i++ {
		all = append(all, requests[i].at.Sub(requests[i-1].at))
	}
	return all
}

// unlimited is a policy without a budget that matters.
func unlimited(r client.Retry) client.Retry {
	r.BudgetBurst, r.BudgetPerSecond = math.MaxInt32, 1e9
	return r
}

func TestPausesAreDrawnEvenlyUpToABoundThatDoubles(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const calls, attempts = 400, 9
		policy := unlimited(client.Retry{
			MinBackoff: 100 * time.Millisecond, MaxBackoff: 5 * time.Second, MaxAttempts: attempts, Deadline: -1,
		})
		sum := make([]time.Duration, attempts-1)
		longest := make([]time.Duration, attempts-1)
		for range calls {
			b := setup(t, policy, lost)
			_, err := b.StopCVM(t.Context(), vmID)
			require.ErrorIs(t, err, client.ErrAttempts)
			require.Len(t, b.pauses(), attempts-1)
			for i, p := range b.pauses() {
				sum[i] += p
				longest[i] = max(longest[i], p)
			}
		}
		for i := range sum {
			bound := min(5*time.Second, 100*time.Millisecond<<i)
			require.LessOrEqual(t, longest[i], bound, "pause %d", i)
			require.InDelta(t, bound.Seconds()/2, sum[i].Seconds()/calls, bound.Seconds()*0.12, "the mean of pause %d is half its bound", i)
			require.Greater(t, longest[i], bound*9/10, "pause %d goes up to its bound", i)
		}
	})
}

func TestRetryAfterIsTheLeastPauseUpToItsCap(t *testing.T) {
	t.Parallel()
	const date = "Sat, 21 Nov 2026 17:00:00 GMT"
	for _, c := range []struct {
		name    string
		headers []string
		least   time.Duration
	}{
		{"seconds", []string{"Retry-After: 7"}, 7 * time.Second},
		{"a date by the server's clock", []string{"Date: " + date, "Retry-After: Sat, 21 Nov 2026 17:00:09 GMT"}, 9 * time.Second},
		{"a date that has passed", []string{"Date: " + date, "Retry-After: Sat, 21 Nov 2026 16:00:00 GMT"}, 0},
		{"a date by our clock", []string{"Retry-After: Sat, 01 Jan 2000 00:00:20 GMT"}, 20 * time.Second}, // bubbles begin at 2000
		{"more than the cap", []string{"Retry-After: 86400"}, 30 * time.Second},
		{"nonsense", []string{"Retry-After: soon"}, 0},
		{"negative", []string{"Retry-After: -5"}, 0},
		{"over every limit", []string{"Retry-After: 99999999999999999999"}, 0},
		{"nothing", nil, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, code := range []api.Code{api.CodeUnavailable, api.CodeRateLimited, api.CodeKeyInProgress} {
				synctest.Test(t, func(t *testing.T) {
					b := setup(t, client.Retry{MinBackoff: 100 * time.Millisecond, MaxRetryAfter: 30 * time.Second},
						problem(&api.Error{Code: code}, c.headers...), accepted)
					_, err := b.StopCVM(t.Context(), vmID)
					require.NoError(t, err)
					pause := b.pauses()[0]
					require.GreaterOrEqual(t, pause, c.least)
					require.LessOrEqual(t, pause, c.least+100*time.Millisecond)
				})
			}
		})
	}
}

// TestClientsToldTheSameTimeDoNotComeBackTogether: the pause after a
// Retry-After is spread, too.
func TestClientsToldTheSameTimeDoNotComeBackTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		seen := map[time.Duration]bool{}
		for range 50 {
			b := setup(t, client.Retry{}, problem(api.Errorf(api.CodeRateLimited, ""), "Retry-After: 5"), accepted)
			_, err := b.StopCVM(t.Context(), vmID)
			require.NoError(t, err)
			seen[b.pauses()[0]] = true
		}
		require.Greater(t, len(seen), 40)
	})
}

func TestTheDeadlineEndsACallWithoutWaitingForNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, client.Retry{Deadline: time.Minute}, refusal(api.CodeUnavailable))
		start := time.Now()
		_, err := b.StopCVM(t.Context(), vmID)
		e := fail(t, err)
		require.LessOrEqual(t, time.Since(start), time.Minute)
		require.Equal(t, time.Since(start), b.requests()[e.Attempts-1].at.Sub(start), "it ends with its last attempt")
		require.ErrorIs(t, err, client.ErrDeadline)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Greater(t, e.Attempts, 8)
		require.Equal(t, api.CodeUnavailable, e.Code, "the last answer is on the error")
		require.True(t, e.Retryable)

		// Of what comes too late, it is told at once.
		b = setup(t, client.Retry{Deadline: time.Minute}, problem(api.Errorf(api.CodeUnavailable, ""), "Retry-After: 61"))
		start = time.Now()
		_, err = b.StopCVM(t.Context(), vmID)
		require.ErrorIs(t, err, client.ErrDeadline)
		require.Zero(t, time.Since(start))
		require.Equal(t, 61*time.Second, fail(t, err).RetryAfter)
	})
}

func TestTheDeadlineCutsAnAttemptUnderWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, client.Retry{Deadline: 70 * time.Second, AttemptTimeout: time.Minute}, silent)
		start := time.Now()
		_, err := b.StopCVM(t.Context(), vmID)
		require.ErrorIs(t, err, client.ErrDeadline)
		require.Equal(t, 70*time.Second, time.Since(start))
		require.Equal(t, 2, fail(t, err).Attempts)
	})
}

func TestAnAttemptThatHangsIsGivenUpAndMadeAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, client.Retry{AttemptTimeout: 5 * time.Second}, silent, accepted)
		r, err := b.StopCVM(t.Context(), vmID)
		require.NoError(t, err)
		require.Equal(t, 2, r.Attempts)
		require.InDelta(t, 5, b.pauses()[0].Seconds(), 0.1)

		b = setup(t, client.Retry{AttemptTimeout: 5 * time.Second, MaxAttempts: 1}, silent)
		_, err = b.StopCVM(t.Context(), vmID)
		require.True(t, client.IsUnknown(err))
		require.NotErrorIs(t, err, context.DeadlineExceeded, "nobody's context has ended")
	})
}

func TestTheHTTPClientsOwnTimeoutIsAnAttempts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setupWith(t, client.Config{
			HTTPClient: &http.Client{Timeout: 3 * time.Second}, Retry: client.Retry{MaxAttempts: 2},
		}, silent)
		_, err := b.StopCVM(t.Context(), vmID)
		require.ErrorIs(t, err, client.ErrAttempts)
		require.NotErrorIs(t, err, context.DeadlineExceeded)
		require.InDelta(t, 3, b.pauses()[0].Seconds(), 0.1)
	})
}

func TestACanceledCallReturnsAtOnceWithItsKey(t *testing.T) {
	t.Parallel()
	why := errors.New("the user has left")
	for _, c := range []struct {
		name     string
		answers  []answer
		after    time.Duration
		outcome  client.Outcome
		attempts int
	}{
		{"before it begins", []answer{accepted}, 0, client.OutcomeNotDone, 0},
		{"under way", []answer{silent}, time.Second, client.OutcomeUnknown, 1},
		{"in a pause after a lost answer", []answer{lost, problem(api.Errorf(api.CodeRateLimited, ""), "Retry-After: 50")}, 5 * time.Second, client.OutcomeUnknown, 2},
		{"in a pause after an answer", []answer{problem(api.Errorf(api.CodeRateLimited, ""), "Retry-After: 50")}, time.Second, client.OutcomeNotDone, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := setup(t, client.Retry{}, c.answers...)
				ctx, cancel := context.WithCancelCause(t.Context())
				if c.after == 0 {
					cancel(why)
				}
				time.AfterFunc(c.after, func() { cancel(why) })
				start := time.Now()
				r, err := b.Replicate(ctx, appID, vmID, "")
				e := fail(t, err)
				require.Equal(t, c.after, time.Since(start))
				require.ErrorIs(t, err, context.Canceled)
				require.ErrorIs(t, err, why)
				require.Equal(t, c.outcome, e.Outcome)
				require.Equal(t, c.attempts, e.Attempts)
				require.True(t, e.Retryable)
				require.NotEmpty(t, e.IdempotencyKey)
				require.Equal(t, r.IdempotencyKey, e.IdempotencyKey)
			})
		})
	}
}

// TestADeadServerIsNotHammered: however many calls there are, their repeats
// together stay within the budget in every stretch of time.
func TestADeadServerIsNotHammered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const calls, burst, perSecond = 500, 20, 5
		b := setup(t, client.Retry{BudgetBurst: burst, BudgetPerSecond: perSecond, Deadline: time.Minute, MaxBackoff: time.Second}, lost)
		exhausted := make(chan error, calls)
		var wg sync.WaitGroup
		for range calls {
			wg.Go(func() {
				_, err := b.Replicate(t.Context(), appID, vmID, "")
				exhausted <- err
			})
		}
		wg.Wait()
		close(exhausted)
		refused := 0
		for err := range exhausted {
			if errors.Is(err, client.ErrBudget) {
				refused++
			} else {
				require.ErrorIs(t, err, client.ErrDeadline)
			}
		}
		require.Positive(t, refused)
		requests := b.requests()
		require.LessOrEqual(t, len(requests), calls+burst+perSecond*60+1)
		require.Greater(t, len(requests), calls+burst+perSecond*50, "what the budget allows is used")
		repeats := requests[calls:] // all first attempts are made at once
		for from := range repeats {
			for to := from; to < len(repeats); to++ {
				seconds := repeats[to].at.Sub(repeats[from].at).Seconds()
				if n := to - from + 1; float64(n) > burst+perSecond*seconds+1.001 {
					t.Fatalf("%d repeats in %f s", n, seconds)
				}
			}
		}
	})
}

func TestACallWaitsForItsTurnInTheBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, client.Retry{BudgetBurst: 1, BudgetPerSecond: 0.1, MinBackoff: time.Millisecond}, lost, lost, lost, accepted)
		start := time.Now()
		r, err := b.StopCVM(t.Context(), vmID)
		require.NoError(t, err)
		require.Equal(t, 4, r.Attempts)
		require.InDelta(t, 20, time.Since(start).Seconds(), 0.1)
	})
}

// TestACallThatEndsForWantOfATurnLeavesItToOthers: else a crowd of calls in a
// hurry would starve one that has time.
func TestACallThatEndsForWantOfATurnLeavesItToOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		quick := client.Retry{BudgetBurst: 1, BudgetPerSecond: 0.1, MinBackoff: time.Millisecond, Deadline: -1}
		b := setup(t, quick, lost)
		hurry := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := b.StopCVM(ctx, vmID)
			return err
		}
		for range 20 {
			require.ErrorIs(t, hurry(), client.ErrBudget)
		}
		b.mu.Lock()
		b.answers = append(b.answers, slices.Repeat([]answer{lost}, len(b.sent))...)
		b.answers = append(b.answers, accepted)
		b.mu.Unlock()
		start := time.Now()
		_, err := b.StopCVM(t.Context(), vmID)
		require.NoError(t, err)
		require.Less(t, time.Since(start), 11*time.Second)
	})
}

// TestAPolicyWithoutAnEndIsAsGoodAsAnother: the longest time that there is
// stands for "no limit", and nothing is added to it.
func TestAPolicyWithoutAnEndIsAsGoodAsAnother(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const forever = time.Duration(math.MaxInt64)
		endless := unlimited(client.Retry{
			AttemptTimeout: forever, MaxBackoff: forever, MaxRetryAfter: forever, Deadline: -1, MinBackoff: time.Nanosecond,
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		b := setup(t, endless, held(time.Minute, operation("running", ""), operation("succeeded", "")))
		_, err := b.WaitOperation(ctx, "op_1", nil)
		require.NoError(t, err)

		_, err = setup(t, endless, lost).StopCVM(ctx, vmID)
		require.ErrorIs(t, err, client.ErrDeadline)
		require.Equal(t, 33, fail(t, err).Attempts, "after 32 doublings the bound is MaxBackoff")
	})
}

func TestAPolicyThatMakesNoSenseIsRefused(t *testing.T) {
	t.Parallel()
	for _, r := range []client.Retry{
		{AttemptTimeout: -1}, {MaxAttempts: -1}, {MinBackoff: -1}, {MaxBackoff: -1}, {MaxRetryAfter: -1}, {BudgetBurst: -1}, {BudgetPerSecond: -1},
	} {
		_, err := client.New(client.Config{Endpoint: endpoint, Token: secret, Retry: r})
		require.Error(t, err, "%+v", r)
	}
}

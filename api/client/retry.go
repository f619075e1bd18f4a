package client

import (
	"errors"
	"math/rand/v2"
	"time"
)

// Retry says how often and how long a call is repeated. The zero value is good
// for programs; what is 0 has the default that stands beside it.
type Retry struct {
	AttemptTimeout time.Duration // 30 s: of one attempt, its answer read to the end
	Deadline       time.Duration // 2 min: of a call with all its attempts and pauses; < 0: the context's alone
	MaxAttempts    int           // as many as fit into Deadline; 1: never repeat

	MinBackoff    time.Duration // 100 ms: the longest first pause
	MaxBackoff    time.Duration // 10 s: the longest pause that the SDK chooses
	MaxRetryAfter time.Duration // 1 min: the longest pause that a server's Retry-After gets

	// The budget bounds the repeats of all calls of a Client together: at most
	// BudgetBurst + t·BudgetPerSecond in any time t. A call whose turn comes
	// only after its deadline ends at once.
	BudgetBurst     int     // 100
	BudgetPerSecond float64 // 10
}

// The defaults of Retry.
const (
	defaultAttemptTimeout  = 30 * time.Second
	defaultDeadline        = 2 * time.Minute
	defaultMinBackoff      = 100 * time.Millisecond
	defaultMaxBackoff      = 10 * time.Second
	defaultMaxRetryAfter   = time.Minute
	defaultBudgetBurst     = 100
	defaultBudgetPerSecond = 10
)

func (r Retry) withDefaults() (Retry, error) {
	if r.AttemptTimeout < 0 || r.MaxAttempts < 0 || r.MinBackoff < 0 || r.MaxBackoff < 0 || r.MaxRetryAfter < 0 ||
		r.BudgetBurst < 0 || r.BudgetPerSecond < 0 {
		return Retry{}, errors.New("retry: only Deadline may be negative")
	}
	fill(&r.AttemptTimeout, defaultAttemptTimeout)
	fill(&r.Deadline, defaultDeadline)
	fill(&r.MinBackoff, defaultMinBackoff)
	fill(&r.MaxBackoff, max(defaultMaxBackoff, r.MinBackoff))
	fill(&r.MaxRetryAfter, defaultMaxRetryAfter)
	fill(&r.BudgetBurst, defaultBudgetBurst)
	fill(&r.BudgetPerSecond, defaultBudgetPerSecond)
	return r, nil
}

func fill[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// pause is how long to wait after the attempt-th attempt. It is drawn evenly
// from nothing up to a bound that doubles (full jitter), so that clients which
// failed together do not come back together; a Retry-After is the least.
func (r Retry) pause(attempt int, retryAfter time.Duration) time.Duration {
	bound := r.MaxBackoff
	if shift := attempt - 1; shift < 32 && r.MinBackoff<<shift < bound && r.MinBackoff<<shift > 0 {
		bound = r.MinBackoff << shift
	}
	pause := jitter(bound)
	if retryAfter > 0 {
		pause = max(pause, min(retryAfter, r.MaxRetryAfter)+jitter(r.MinBackoff))
	}
	return pause
}

func jitter(bound time.Duration) time.Duration {
	return rand.N(bound) //nolint:gosec // spreads load; nobody gains from guessing it
}

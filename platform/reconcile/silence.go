package reconcile

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"roost/api/owlapi"
)

const (
	// silentAfter is how many calls in a row without an answer make a silence.
	silentAfter = 3
	// probeEvery is how often each loop tries an Owl that is silent.
	probeEvery = time.Second
)

// silence is whether Owl answers at all. While it does not, due rows are left
// unclaimed, but for one at a time that serves as a probe: they keep their
// place in the queue, so that the oldest go first when Owl is back, and a host
// that is struggling is not met by everybody's repeats. It only saves work.
type silence struct{ calls atomic.Int64 } // in a row that were not answered

// heard is told how each call ended.
func (s *silence) heard(err error) {
	if unanswered(err) {
		s.calls.Add(1)
		return
	}
	s.calls.Store(0)
}

// unanswered reports whether a call ended without an answer, or with one that
// speaks of Owl and not of the request.
func unanswered(err error) bool {
	answer, ok := errors.AsType[*owlapi.StatusError](err)
	if !ok {
		return err != nil
	}
	switch answer.Status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

func (s *silence) holds() bool { return s.calls.Load() >= silentAfter }

// rest waits between two probes and reports whether to go on.
func rest(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

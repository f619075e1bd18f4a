package owlapitest

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// Request is one that reached the fake.
type Request struct {
	Method    string
	Path      string // with its query
	RequestID string
	Body      []byte
	Status    int // what was answered; 0 while under way, and if the answer was dropped
}

// script is how the fake misbehaves.
type script struct {
	mu         sync.Mutex
	held       chan struct{} // closed on release; nil: nobody is held
	delay      time.Duration
	failures   int
	failStatus int
	drops      int
	tears      int
	journal    []*Request
}

// FailNext makes the next n requests answer with the status, nothing done.
func (f *Fake) FailNext(n, status int) {
	f.script.mu.Lock()
	defer f.script.mu.Unlock()
	f.script.failures, f.script.failStatus = n, status
}

// DropNext makes the next n requests do their work and cut the connection
// instead of answering.
func (f *Fake) DropNext(n int) {
	f.script.mu.Lock()
	defer f.script.mu.Unlock()
	f.script.drops = n
}

// TearNext makes the next n requests do their work and send half an answer.
func (f *Fake) TearNext(n int) {
	f.script.mu.Lock()
	defer f.script.mu.Unlock()
	f.script.tears = n
}

// Delay makes every request wait before its work.
func (f *Fake) Delay(d time.Duration) {
	f.script.mu.Lock()
	defer f.script.mu.Unlock()
	f.script.delay = d
}

// Hold keeps requests that arrive from now on before their work, until release
// is called. Their work is done then even if the caller has left: the request
// was on its way.
func (f *Fake) Hold() (release func()) {
	f.releaseHeld() // one gate at a time
	gate := make(chan struct{})
	f.script.mu.Lock()
	defer f.script.mu.Unlock()
	f.script.held = gate
	return func() { f.script.release(gate) }
}

func (f *Fake) releaseHeld() {
	f.script.mu.Lock()
	gate := f.script.held
	f.script.mu.Unlock()
	f.script.release(gate)
}

// release lets go of those whom gate holds. Doing it twice is harmless.
func (s *script) release(gate chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if gate != nil && s.held == gate {
		s.held = nil
		close(gate)
	}
}

// Journal returns the requests so far, oldest first.
func (f *Fake) Journal() []Request {
	f.script.mu.Lock()
	defer f.script.mu.Unlock()
	out := make([]Request, len(f.script.journal))
	for i, r := range f.script.journal {
		out[i] = *r
	}
	return out
}

func (s *script) record(r *Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.journal = append(s.journal, r)
}

func (s *script) answered(r *Request, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Status = status
}

// before does what comes before the work, and returns a status to answer
// instead of working, or 0.
func (s *script) before(ctx context.Context) (status int) {
	s.mu.Lock()
	held, delay := s.held, s.delay
	if s.failures > 0 {
		s.failures--
		status = s.failStatus
	}
	s.mu.Unlock()
	if held != nil {
		<-held
	}
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return status
}

// after cuts the connection, or says that only half the answer is to be sent.
func (s *script) after() (tear bool) {
	s.mu.Lock()
	drop := s.drops > 0
	if drop {
		s.drops--
	} else if tear = s.tears > 0; tear {
		s.tears--
	}
	s.mu.Unlock()
	if drop {
		panic(http.ErrAbortHandler)
	}
	return tear
}

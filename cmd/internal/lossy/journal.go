package lossy

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// maxExchanges bounds the journal's memory; counts go on beyond it.
const maxExchanges = 200_000

// Exchange is what befell one request.
type Exchange struct {
	Number int // of the Request
	Method string
	Path   string
	Key    string // its Idempotency-Key, "" without one
	Fate   string
	At     time.Time // of its arrival

	// Statuses are the upstream's answers, one for each delivery in the order
	// of their ends; 0 where it was delivered and not answered.
	Statuses []int
	// Done: nothing more happens to it, since EndedAt.
	Done    bool
	EndedAt time.Time
}

// journal is what a proxy remembers.
type journal struct {
	mu        sync.Mutex
	arrived   int
	exchanges []Exchange
	counts    map[string]int
	changed   chan struct{} // closed and made anew with every change
}

func newJournal() *journal {
	return &journal{counts: map[string]int{}, changed: make(chan struct{})}
}

// arrive gives a request its number.
func (j *journal) arrive() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.arrived++
	return j.arrived
}

// begin notes what is going to befall a request, before it does.
func (j *journal) begin(r *Request, fate Fate) (at int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.counts[fate.String()]++
	defer j.wake()
	if len(j.exchanges) == maxExchanges {
		return -1
	}
	j.exchanges = append(j.exchanges, Exchange{
		Number: r.Number, Method: r.Method, Path: r.Path, Key: r.Header.Get("Idempotency-Key"),
		Fate: fate.String(), At: time.Now(),
	})
	return len(j.exchanges) - 1
}

func (j *journal) answered(at, status int) {
	j.change(at, func(e *Exchange) { e.Statuses = append(e.Statuses, status) })
}

func (j *journal) end(at int) {
	j.change(at, func(e *Exchange) { e.Done, e.EndedAt = true, time.Now() })
}

func (j *journal) change(at int, f func(*Exchange)) {
	if at < 0 {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	f(&j.exchanges[at])
	j.wake()
}

// wake is called under the lock.
func (j *journal) wake() {
	close(j.changed)
	j.changed = make(chan struct{})
}

// snapshot is a copy, and what is closed when it is outdated.
func (j *journal) snapshot() (exchanges []Exchange, outdated <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	exchanges = slices.Clone(j.exchanges)
	for i := range exchanges {
		exchanges[i].Statuses = slices.Clone(exchanges[i].Statuses)
	}
	return exchanges, j.changed
}

// Exchanges is what befell which request, in order of arrival.
func (p *Proxy) Exchanges() []Exchange {
	exchanges, _ := p.journal.snapshot()
	return exchanges
}

// Count is how many requests met a fate, by its name (Fate.String).
func (p *Proxy) Count(fate string) int {
	p.journal.mu.Lock()
	defer p.journal.mu.Unlock()
	return p.journal.counts[fate]
}

// Await returns when an exchange is as wanted, and which.
func (p *Proxy) Await(ctx context.Context, wanted func(Exchange) bool) (Exchange, error) {
	for {
		exchanges, outdated := p.journal.snapshot()
		if i := slices.IndexFunc(exchanges, wanted); i >= 0 {
			return exchanges[i], nil
		}
		select {
		case <-outdated:
		case <-ctx.Done():
			return Exchange{}, fmt.Errorf("await exchange: %w", context.Cause(ctx))
		}
	}
}

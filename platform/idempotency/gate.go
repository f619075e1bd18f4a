package idempotency

import (
	"context"
	"sync"
	"time"

	"roost/api"
)

// Gate lets one request per (workspace, key) through at a time in this
// process; the others wait in memory instead of on a connection. Correctness
// does not rest on it.
type Gate struct {
	mu    sync.Mutex
	doors map[door]*turn
}

type door struct {
	workspace api.ID
	key       string
}

type turn struct {
	free    chan struct{} // holds one token while nobody is inside
	holders int           // inside or waiting; the last one removes the entry
}

// NewGate makes an open Gate.
func NewGate() *Gate { return &Gate{doors: map[door]*turn{}} }

// Enter waits at most wait for its turn and returns how to leave. It returns
// an *api.Error with CodeKeyInProgress when the turn does not come in time.
func (g *Gate) Enter(ctx context.Context, workspace api.ID, key string, wait time.Duration) (leave func(), err error) {
	d := door{workspace, key}
	t := g.arrive(d)
	leave = func() { t.free <- struct{}{}; g.depart(d, t) }
	select {
	case <-t.free: // a free door opens at once, even with no time to wait
		return leave, nil
	default:
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-t.free:
		return leave, nil
	case <-timer.C:
		err = errInProgress()
	case <-ctx.Done():
		err = ctx.Err()
	}
	g.depart(d, t)
	return nil, err
}

func (g *Gate) arrive(d door) *turn {
	g.mu.Lock()
	defer g.mu.Unlock()
	t, ok := g.doors[d]
	if !ok {
		t = &turn{free: make(chan struct{}, 1)}
		t.free <- struct{}{}
		g.doors[d] = t
	}
	t.holders++
	return t
}

func (g *Gate) depart(d door, t *turn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if t.holders--; t.holders == 0 {
		delete(g.doors, d)
	}
}

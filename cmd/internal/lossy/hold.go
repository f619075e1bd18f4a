package lossy

import "sync"

// Hold keeps requests back. The client hears nothing and leaves when it likes;
// once released, the request is delivered all the same and its answer dropped.
type Hold struct {
	held, released         chan struct{}
	heldOnce, releasedOnce sync.Once
}

// NewHold makes a Hold, for one request or many.
func NewHold() *Hold {
	return &Hold{held: make(chan struct{}), released: make(chan struct{})}
}

// Fate keeps a request until Release.
func (h *Hold) Fate() Fate { return Fate{kind: hold, hold: h} }

// Answer delivers a request at once and keeps its answer until Release; then it
// is dropped. Held is closed when the upstream has answered: whoever waits for
// it can kill a client that has been heard and has heard nothing.
func (h *Hold) Answer() Fate { return Fate{kind: holdAnswer, hold: h} }

// Held is closed when the first request has arrived and is kept.
func (h *Hold) Held() <-chan struct{} { return h.held }

// Release delivers what is kept, and from now on lets through what arrives.
// It may be called again.
func (h *Hold) Release() { h.releasedOnce.Do(func() { close(h.released) }) }

func (h *Hold) arrive() { h.heldOnce.Do(func() { close(h.held) }) }

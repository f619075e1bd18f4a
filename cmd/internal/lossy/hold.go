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

// Held is closed when the first request has arrived and is kept.
func (h *Hold) Held() <-chan struct{} { return h.held }

// Release delivers what is kept, and from now on lets through what arrives.
// It may be called again.
func (h *Hold) Release() { h.releasedOnce.Do(func() { close(h.released) }) }

func (h *Hold) arrive() { h.heldOnce.Do(func() { close(h.held) }) }

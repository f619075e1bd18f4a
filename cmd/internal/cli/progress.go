package cli

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// tick is how often a live line counts on.
const tick = time.Second

// progress is what a wait shows on stderr: one line that is written anew on a
// terminal, a line for each change elsewhere.
type progress struct {
	mu    sync.Mutex
	w     io.Writer
	live  bool
	now   func() time.Time
	begin time.Time
	text  string
	end   chan struct{}
	wg    sync.WaitGroup
}

func (s *session) progress() *progress {
	p := &progress{w: s.env.Err, live: s.env.ErrTerminal && s.env.Getenv("TERM") != "dumb", now: s.env.Now, begin: s.env.Now(), end: make(chan struct{})}
	if s.flags.quiet {
		p.w, p.live = io.Discard, false
	}
	if p.live {
		p.wg.Go(p.count)
	}
	return p
}

// count writes the line anew with every tick, so that one sees it alive.
func (p *progress) count() {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-p.end:
			return
		case <-ticker.C:
			p.mu.Lock()
			p.draw()
			p.mu.Unlock()
		}
	}
}

func (p *progress) set(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text = text
	p.draw()
}

// draw is called under the lock. A terminal that is gone stops nothing.
func (p *progress) draw() {
	elapsed := p.now().Sub(p.begin).Truncate(time.Second)
	switch {
	case p.text == "":
	case p.live:
		_, _ = fmt.Fprintf(p.w, "\r\x1b[K%s (%s)", p.text, elapsed)
	default:
		_, _ = fmt.Fprintln(p.w, p.text)
	}
}

// stop leaves the last line standing.
func (p *progress) stop() {
	close(p.end)
	p.wg.Wait()
	if p.live && p.text != "" {
		_, _ = fmt.Fprintln(p.w)
	}
}

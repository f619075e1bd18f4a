package reconcile

import "sync"

// pace is how many rows a claim takes: what Owl was seen to answer in time. A
// batch whose answer comes too late is work for Owl all the same, and is sent
// again; so many of them at once that none is ever in time would never end.
type pace struct {
	mu   sync.Mutex
	less int // than claimLimit, by so many: the zero value is full speed
	late int // calls that were not answered, ever
}

// rows is how many to claim now.
func (p *pace) rows() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return claimLimit - p.less
}

// heard is told how a call about n rows ended. A batch that was not answered
// cuts the next ones to a quarter.
func (p *pace) heard(n int, err error) {
	if !unanswered(err) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.late++
	if n > 0 {
		p.less = claimLimit - min(claimLimit-p.less, max(n/4, 1))
	}
}

// missed is how many calls were not answered so far.
func (p *pace) missed() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.late
}

// done is told that a claim of n rows was pushed. If it was as large as it might
// have been, and whatever was asked since was answered, the next ones grow by
// half.
func (p *pace) done(n, missedBefore int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if rows := claimLimit - p.less; n >= rows && p.late == missedBefore {
		p.less = claimLimit - min(rows+rows/2+1, claimLimit)
	}
}

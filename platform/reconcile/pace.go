package reconcile

import "sync"

// pace is how many rows a claim takes: what Owl was seen to answer in time. A
// batch whose answer comes too late is work for Owl all the same, and is sent
// again; so many of them at once that none is ever in time would never end.
type pace struct {
	mu   sync.Mutex
	less int // than claimLimit, by so many: the zero value is full speed
}

// rows is how many to claim now.
func (p *pace) rows() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return claimLimit - p.less
}

// heard is told how a batch of n ended. One that was not answered cuts the
// next ones to a quarter; one that was lets them grow by half, if it was as
// large as it might have been.
func (p *pace) heard(n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	rows := claimLimit - p.less
	switch {
	case unanswered(err):
		rows = min(rows, max(n/4, 1))
	case n >= rows:
		rows = min(rows+rows/2+1, claimLimit)
	}
	p.less = claimLimit - rows
}

package reconcile

import (
	"bytes"
	"slices"
	"sync"
	"time"

	"roost/api"
	"roost/api/owlapi"
)

const (
	// watchEvery is how often a CVM that was pushed just now is looked at.
	watchEvery = 50 * time.Millisecond
	// watchSlowest is how often one is looked at that takes long.
	watchSlowest = time.Second
	// watchShare: a CVM under watch for t is looked at every t/watchShare.
	watchShare = 10
	// maxWatched bounds the memory. Who has lost its place is looked at when its
	// reconcile_after passes.
	maxWatched = 20_000
)

// watch is the CVMs whose status this node reads. Losing it is harmless.
type watch struct {
	mu   sync.Mutex
	cvms map[api.ID]*watched
}

// watched is one CVM under watch. Adding the CVM again makes another one, so
// that a look that is under way cannot end or outdate what came after it.
type watched struct {
	id          api.ID
	since, next time.Time
	seen        sighting // written so far; the observing loop's own
}

// sighting is what a row keeps of Owl's record.
type sighting struct {
	generation int64 // observed
	has        int64 // the newest generation that Owl has heard of
	status     api.Status
	gone       bool              // deleted or being deleted: nothing more will be observed
	removed    bool              // and the machine is no more
	failure    api.ResourceError // zero when there is none
}

func sightingOf(c owlapi.CVM) sighting {
	s := sighting{generation: c.ObservedGeneration, has: c.Generation, status: c.Status}
	if c.Status == api.StatusDeleting || c.Status == api.StatusDeleted {
		s.gone, s.removed = true, c.DeletedAt != nil
		s.status, s.failure = api.StatusFailed, deletedBelow() // of a CVM that we want
	} else if c.Error != nil {
		s.failure = *c.Error
	}
	return s
}

func newWatch() *watch { return &watch{cvms: map[api.ID]*watched{}} }

func (w *watch) add(id api.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.cvms[id]; !ok && len(w.cvms) >= maxWatched {
		for any := range w.cvms { // or those that never finish would keep out all others
			delete(w.cvms, any)
			break
		}
	}
	// Also for one that is watched already: what was seen may have been seen
	// while its row took no sighting, and must be written now.
	now := time.Now()
	w.cvms[id] = &watched{id: id, since: now, next: now}
}

// drop ends watches, but not one that was begun since for the same CVM.
func (w *watch) drop(looks ...*watched) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, look := range looks {
		if w.cvms[look.id] == look {
			delete(w.cvms, look.id)
		}
	}
}

// due returns whom to look at now and sets when to look again.
func (w *watch) due(now time.Time) []*watched {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []*watched
	for _, c := range w.cvms {
		if now.Before(c.next) {
			continue
		}
		pause := min(max(now.Sub(c.since)/watchShare, watchEvery), watchSlowest)
		// Half a tick early, or a tick that comes a little soon skips it.
		c.next = now.Add(pause - watchEvery/2)
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b *watched) int { return bytes.Compare(a.id[:], b.id[:]) })
	return out
}

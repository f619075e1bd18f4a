package reconcile

import (
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
	// maxWatched bounds the memory. Who finds no room is looked at when its
	// reconcile_after passes.
	maxWatched = 20_000
)

// watch is the CVMs whose status this node reads. Losing it is harmless.
type watch struct {
	mu   sync.Mutex
	cvms map[api.ID]*watched
}

type watched struct {
	since, next time.Time
	seen        sighting
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
		return
	}
	// Also for one that is watched already: what was seen may have been seen
	// while its row took no sighting, and must be written now.
	now := time.Now()
	w.cvms[id] = &watched{since: now, next: now}
}

func (w *watch) drop(ids ...api.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range ids {
		delete(w.cvms, id)
	}
}

// due returns the IDs to look at now and sets when to look again.
func (w *watch) due(now time.Time) []api.ID {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []api.ID
	for id, c := range w.cvms {
		if now.Before(c.next) {
			continue
		}
		pause := min(max(now.Sub(c.since)/watchShare, watchEvery), watchSlowest)
		// Half a tick early, or a tick that comes a little soon skips it.
		c.next = now.Add(pause - watchEvery/2)
		out = append(out, id)
	}
	slices.SortFunc(out, func(a, b api.ID) int { return slices.Compare(a[:], b[:]) })
	return out
}

// changed keeps only the records that say something new.
func (w *watch) changed(records []owlapi.CVM) []owlapi.CVM {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(records, func(c owlapi.CVM) bool {
		known, ok := w.cvms[c.ID]
		return ok && known.seen == sightingOf(c)
	})
}

// saw remembers what has been written.
func (w *watch) saw(records []owlapi.CVM) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range records {
		if known, ok := w.cvms[c.ID]; ok {
			known.seen = sightingOf(c)
		}
	}
}

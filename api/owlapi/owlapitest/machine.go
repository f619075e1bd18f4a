package owlapitest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"roost/api"
	"roost/api/jsondiff"
	"roost/api/owlapi"
	"roost/api/wire"
)

// cvm is one record and what the fake knows besides.
type cvm struct {
	owlapi.CVM

	digests map[string]string // of the create request
	dead    bool
	readyAt time.Time
}

// PauseMachines stops machines from following what is asked of them, or lets
// them go on.
func (f *Fake) PauseMachines(paused bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.paused = paused
}

// Observe makes a machine's status known at its present generation. It panics
// if the fake has no such CVM.
func (f *Fake) Observe(id api.ID, status api.Status, failure *api.ResourceError) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.mustHave(id)
	c.ObservedGeneration, c.Status, c.Error, c.UpdatedAt = c.Generation, status, failure, f.now()
}

// Record returns the CVM as it is, tombstones too. ok is false if it never was.
func (f *Fake) Record(id api.ID) (record owlapi.CVM, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, ok := f.cvms[id]
	if !ok {
		return owlapi.CVM{}, false
	}
	return f.settle(c).CVM, true
}

// Records returns how many CVMs the fake has, tombstones left out.
func (f *Fake) Records() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, c := range f.cvms {
		if !c.dead {
			n++
		}
	}
	return n
}

// Forget loses a CVM, as a restored database would.
func (f *Fake) Forget(id api.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.cvms, id)
}

// Backup remembers everything as it is; restore takes the fake back to that,
// as a database that comes from an older backup. It may be called again.
func (f *Fake) Backup() (restore func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	cvms, rules := copied(f.cvms), copied(f.rules)
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.cvms, f.rules = copied(cvms), copied(rules)
	}
}

// copied is a map whose records can change without those of the other. What
// they point to never changes.
func copied[T any](records map[api.ID]*T) map[api.ID]*T {
	out := make(map[api.ID]*T, len(records))
	for id, r := range records {
		one := *r
		out[id] = &one
	}
	return out
}

// Rewind sets a CVM's generation, as a restored database would. It panics if
// the fake has no such CVM.
func (f *Fake) Rewind(id api.ID, generation int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.mustHave(id)
	c.Generation, c.ObservedGeneration = generation, min(c.ObservedGeneration, generation)
}

func (f *Fake) mustHave(id api.ID) *cvm {
	c, ok := f.cvms[id]
	if !ok {
		panic(fmt.Sprintf("the fake has no CVM %s", id))
	}
	return c
}

// settle lets a machine get where it was asked to be, if its time has come.
func (f *Fake) settle(c *cvm) *cvm {
	if f.paused || time.Now().Before(c.readyAt) {
		return c
	}
	switch {
	case c.dead && c.DeletedAt == nil:
		at := f.now()
		c.Status, c.DeletedAt, c.UpdatedAt = api.StatusDeleted, &at, at
	case c.dead || c.ObservedGeneration >= c.Generation:
	default:
		c.ObservedGeneration, c.UpdatedAt = c.Generation, f.now()
		c.Status, c.Error = f.settled(c)
	}
	return c
}

func (f *Fake) settled(c *cvm) (api.Status, *api.ResourceError) {
	switch {
	case c.Power == api.PowerStopped:
		return api.StatusStopped, nil
	case f.cfg.Fail != nil && f.cfg.Fail(c.Name):
		return api.StatusFailed, &api.ResourceError{Code: CodeFailed, Message: "the fake was told that it cannot boot"}
	}
	return api.StatusRunning, nil
}

func (f *Fake) createCVM(c *call) (status int, value any, err error) {
	return f.create(c.body, func(into any) error { return c.decode(owlapi.MaxBodyBytes, into) })
}

func (f *Fake) create(raw []byte, decode func(into any) error) (status int, value any, err error) {
	var body owlapi.CreateCVMBody
	if err := decode(&body); err != nil {
		return 0, nil, err
	}
	request := body.Request()
	digests, err := createDigests(request)
	if err != nil {
		return 0, nil, fmt.Errorf("digest %d bytes: %w", len(raw), err)
	}
	if existing, ok := f.cvms[request.ID]; ok {
		if existing.dead {
			return 0, nil, gone(request.ID, existing.DeletedAt, f.settle(existing).CVM)
		}
		if fields := jsondiff.Diff(existing.digests, digests); len(fields) > 0 {
			return 0, nil, conflict(request.ID, fields)
		}
		return http.StatusOK, f.settle(existing).CVM, nil
	}
	made := f.insert(request, digests)
	return http.StatusCreated, made.CVM, nil
}

func (f *Fake) insert(r owlapi.CreateCVM, digests map[string]string) *cvm {
	at := f.now()
	made := &cvm{digests: digests, readyAt: f.ready(), CVM: owlapi.CVM{
		ID: r.ID, AppID: r.AppID, ReplicaOf: r.ReplicaOf, Name: r.Name, Generation: r.Generation,
		Power: r.Power, Restart: r.Restart, Status: api.StatusProvisioning, Spec: r.Spec, CreatedAt: at, UpdatedAt: at,
	}}
	f.cvms[r.ID] = made
	return made
}

func createDigests(request any) (map[string]string, error) {
	doc, err := json.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("encode a create request: %w", err)
	}
	return jsondiff.Digests(doc)
}

func (f *Fake) createCVMs(c *call) (status int, value any, err error) {
	var body owlapi.Batch
	if err := c.decode(owlapi.MaxBatchBytes, &body); err != nil {
		return 0, nil, err
	}
	if body.Items == nil || len(body.Items) > owlapi.MaxBatchItems {
		return 0, nil, api.Invalid("/items", "is required, and at most %d are taken", owlapi.MaxBatchItems)
	}
	items := make([]owlapi.BatchItem, len(body.Items))
	for i, raw := range body.Items {
		status, record, err := f.create(raw, func(into any) error { return decodeItem(raw, into) })
		if err != nil {
			problem, _ := problemOf(c.Context(), err, c.requestID)
			status, record = problem.Status, problem
		}
		items[i] = owlapi.BatchItem{Status: status, Body: encode(record)}
	}
	return http.StatusOK, owlapi.BatchResult{Items: items}, nil
}

func decodeItem(raw []byte, into any) error {
	if len(raw) > owlapi.MaxBodyBytes {
		return api.Errorf(api.CodeBodyTooLarge, "the item is larger than %d bytes.", owlapi.MaxBodyBytes)
	}
	return wire.DecodeBytes(raw, owlapi.MaxJSONDepth, into)
}

// live returns the CVM that the path names, or its 404 or 410.
func (f *Fake) live(id api.ID) (*cvm, error) {
	c, ok := f.cvms[id]
	if !ok {
		return nil, neverSeen(id)
	}
	if f.settle(c).dead {
		return nil, gone(id, c.DeletedAt, c.CVM)
	}
	return c, nil
}

func (f *Fake) putCVM(c *call) (status int, value any, err error) {
	var put owlapi.PutCVM
	if err := c.decode(owlapi.MaxBodyBytes, &put); err != nil {
		return 0, nil, err
	}
	row, err := f.live(c.id)
	if err != nil {
		return 0, nil, err
	}
	if put.Generation > row.Generation {
		row.Status = statusAfter(row, put)
		row.Generation, row.Power, row.Restart, row.Spec = put.Generation, put.Power, put.Restart, put.Spec
		row.Error, row.UpdatedAt, row.readyAt = nil, f.now(), f.ready()
	}
	return http.StatusOK, row.CVM, nil
}

// statusAfter says what a machine is on its way to.
func statusAfter(row *cvm, put owlapi.PutCVM) api.Status {
	failed := row.Status == api.StatusFailed
	switch {
	case row.ObservedGeneration == 0:
		return api.StatusProvisioning
	case put.Power == api.PowerStopped && (row.Power != put.Power || failed):
		return api.StatusStopping
	case put.Power == api.PowerRunning && (row.Power != put.Power || failed):
		return api.StatusStarting
	case put.Power == api.PowerRunning && put.Restart != nil && (row.Restart == nil || *row.Restart != *put.Restart):
		return api.StatusRestarting
	}
	return api.StatusUpdating
}

func (f *Fake) getCVM(c *call) (status int, value any, err error) {
	row, err := f.live(c.id)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, row.CVM, nil
}

func (f *Fake) deleteCVM(c *call) (status int, value any, err error) {
	row, ok := f.cvms[c.id]
	if ok && row.dead {
		return 0, nil, gone(c.id, row.DeletedAt, f.settle(row).CVM)
	}
	at := f.now()
	if !ok {
		row = &cvm{CVM: owlapi.CVM{ID: c.id, Power: api.PowerStopped, Spec: json.RawMessage(`{}`), CreatedAt: at}}
		f.cvms[c.id] = row
	}
	row.dead, row.readyAt = true, f.ready()
	row.Status, row.Error, row.UpdatedAt = api.StatusDeleting, nil, at
	for _, r := range f.rules {
		if r.CVMID == c.id {
			r.bury(at)
		}
	}
	return http.StatusNoContent, nil, nil
}

func (f *Fake) listCVMs(c *call) (status int, value any, err error) {
	rows, omitSpec, err := list(c, f.cvms)
	if err != nil {
		return 0, nil, err
	}
	page := owlapi.Items[owlapi.CVM]{Items: []owlapi.CVM{}}
	for _, row := range rows {
		record := f.settle(row).CVM
		record.Spec = rawOrNull(record.Spec, omitSpec)
		page.Items = append(page.Items, record)
	}
	return http.StatusOK, page, nil
}

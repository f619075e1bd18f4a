package modeltest

import (
	"fmt"
	"net/http"
	"slices"
)

// Request is one that a client may send. Two are the same when all but Key is.
type Request struct {
	Do    string // create, replicate, scale, start, stop, restart, patch or delete
	Key   string // "": none
	App   string // name, of create and scale
	CVM   string // ID, of all others
	Count int    // of scale and replicate; 0 there is one CVM without a count
	VCPU  int    // of create and patch
}

// Answer is what the system said, as far as the model holds it to that.
type Answer struct {
	Status    int
	Code      string // error_code
	Replayed  bool
	Operation string   // ID
	CVMs      []string // IDs in their order
}

// CVM is one as the model knows it.
type CVM struct {
	ID, App    string
	Primary    bool
	Stopped    bool
	Deleting   bool
	VCPU       int
	Generation int
	Newest     string // operation
	create     string // operation
}

// Operation is one as the model knows it.
type Operation struct {
	ID    string
	Open  []string // CVMs whose generation may still be outstanding
	By    []string // operations that may have taken its place, in part or whole
	Ended string   // status, once it was seen to have ended

	does string // of a change: the request's word
	of   string // the CVM that it changes
}

// Model is one workspace. The zero value, with Max set, is an empty one.
type Model struct {
	Max        int    // CVMs that the workspace may have
	CVMs       []*CVM // in order of acceptance
	Operations map[string]*Operation

	keys map[string]*bound
}

type bound struct {
	request Request
	answer  Answer
	expired bool
	anew    bool // it may have been bound again since, by an answer that a replay looks like
}

// outcome is an answer that is allowed, and what it makes true.
type outcome struct {
	Answer // Operation "": a new one

	fresh int // CVMs that nobody has heard of; none: exactly those in CVMs
	apply func(a Answer)
}

// Take holds an answer against what is allowed, and follows it.
func (m *Model) Take(r Request, a Answer) error {
	allowed := m.allowed(r)
	for _, o := range allowed {
		if m.fits(o, a) {
			if o.apply != nil {
				o.apply(a)
			}
			return nil
		}
	}
	return fmt.Errorf("%+v was answered %+v; allowed is %+v", r, a, allowed)
}

// Expire lets a key's time run out.
func (m *Model) Expire(key string) {
	if b, ok := m.keys[key]; ok {
		b.expired, b.anew = true, false
	}
}

// mayLive says that an expired key may still be bound: until its operation has
// ended, or because it was bound anew.
func (b *bound) mayLive(m *Model) bool {
	return b.anew || m.Operations[b.answer.Operation].Ended == ""
}

// Doubtful says that nobody knows whether a key is free: its time has run out,
// and its operation may end at any moment. Requests under it that are sent
// together cannot be put in an order.
func (m *Model) Doubtful(key string) bool {
	b, ok := m.keys[key]
	return ok && b.expired && b.mayLive(m)
}

// Quota is how many CVMs the workspace has used of its quota.
func (m *Model) Quota() int { return len(m.live("")) }

func (m *Model) fits(o outcome, a Answer) bool {
	if o.Status != a.Status || o.Code != a.Code || o.Replayed != a.Replayed {
		return false
	}
	if a.Status >= http.StatusBadRequest {
		return true
	}
	_, known := m.Operations[a.Operation]
	if o.Operation != a.Operation && (o.Operation != "" || known) {
		return false
	}
	if o.fresh == 0 {
		return slices.Equal(o.CVMs, a.CVMs)
	}
	return len(a.CVMs) == o.fresh && !slices.ContainsFunc(a.CVMs, func(id string) bool { return m.find(id) != nil })
}

func (m *Model) allowed(r Request) []outcome {
	same := r
	same.Key = ""
	b, known := m.keys[r.Key]
	if r.Do == "delete" || r.Key == "" {
		return m.decide(same)
	}
	var out []outcome
	if known && (!b.expired || b.mayLive(m)) {
		if b.request == same {
			replay := b.answer
			replay.Replayed = true
			out = append(out, outcome{Answer: replay, apply: func(Answer) { b.anew = b.expired }})
		} else {
			out = append(out, refused(http.StatusConflict, "IDEMPOTENCY_KEY_REUSED"))
		}
	}
	if known && !b.expired {
		return out
	}
	for _, o := range m.decide(same) {
		out = append(out, m.binding(r.Key, same, o))
	}
	return out
}

// binding is the outcome that, where it accepts, binds the key too.
func (m *Model) binding(key string, r Request, o outcome) outcome {
	work := o.apply
	o.apply = func(a Answer) {
		if work != nil {
			work(a)
		}
		if a.Status < http.StatusBadRequest {
			if m.keys == nil {
				m.keys = map[string]*bound{}
			}
			m.keys[key] = &bound{request: r, answer: a}
		}
	}
	return o
}

func refused(status int, code string) outcome {
	return outcome{Answer: Answer{Status: status, Code: code}}
}

func accepted(operation string, cvms ...string) outcome {
	return outcome{Answer: Answer{Status: http.StatusAccepted, Operation: operation, CVMs: cvms}}
}

// live is the app's CVMs that are not being deleted; of all apps with "".
func (m *Model) live(app string) (out []*CVM) {
	for _, c := range m.CVMs {
		if !c.Deleting && (app == "" || c.App == app) {
			out = append(out, c)
		}
	}
	return out
}

func (m *Model) find(id string) *CVM {
	for _, c := range m.CVMs {
		if c.ID == id {
			return c
		}
	}
	return nil
}

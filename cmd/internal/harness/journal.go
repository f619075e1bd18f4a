package harness

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	"roost/api"
)

// Acknowledged is a 2xx to a write: a promise.
type Acknowledged struct {
	Method, Path, Key string
	Workspace         string // the token that was presented
	Status            int
	Replayed          bool
	Body              []byte
}

// Journal is what clients were promised. It is no part of what is tested.
type Journal struct {
	mu           sync.Mutex
	acknowledged []Acknowledged
	statuses     map[int]int
	unanswered   int
}

func newJournal() *Journal { return &Journal{statuses: map[int]int{}} }

// Acknowledged are the promises, in order of their arrival.
func (j *Journal) Acknowledged() []Acknowledged {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.acknowledged)
}

// Count is how many answers of a status came to writes; 0 counts the writes
// that were not answered.
func (j *Journal) Count(status int) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	if status == 0 {
		return j.unanswered
	}
	return j.statuses[status]
}

// Forget drops what was promised under a key, for tests in which it expires.
func (j *Journal) Forget(key string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.acknowledged = slices.DeleteFunc(j.acknowledged, func(a Acknowledged) bool { return a.Key == key })
}

// ForgetAll drops everything that was promised, for tests in which so much
// time passes that it may be forgotten.
func (j *Journal) ForgetAll() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.acknowledged = nil
}

// recorder is a transport that keeps the journal.
type recorder struct {
	journal *Journal
	next    http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := r.next.RoundTrip(req)
	if req.Method == http.MethodGet {
		return resp, err
	}
	if err == nil {
		var body []byte
		body, err = io.ReadAll(resp.Body)
		_ = resp.Body.Close() // it was read
		resp.Body = io.NopCloser(bytes.NewReader(body))
		if err == nil {
			r.journal.record(req, resp, body)
			return resp, nil
		}
	}
	r.journal.mu.Lock()
	defer r.journal.mu.Unlock()
	r.journal.unanswered++
	return nil, err
}

func (j *Journal) record(req *http.Request, resp *http.Response, body []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.statuses[resp.StatusCode]++
	if resp.StatusCode/100 != 2 {
		return
	}
	j.acknowledged = append(j.acknowledged, Acknowledged{
		Method: req.Method, Path: req.URL.Path, Key: req.Header.Get(api.HeaderIdempotencyKey),
		Workspace: req.Header.Get(api.HeaderAPIKey),
		Status:    resp.StatusCode, Replayed: resp.Header.Get(api.HeaderIdempotentReplay) == "true", Body: body,
	})
}

// named is what an answer names, whatever its shape.
type named struct {
	ID        string `json:"id"`
	VMUUID    string `json:"vm_uuid"`
	AppID     string `json:"app_id"`
	Operation struct {
		ID string `json:"id"`
	} `json:"operation"`
	Items []named `json:"items"`
}

// cvms are the CVMs that the answer names.
func (n named) cvms() (ids []string) {
	if n.VMUUID != "" && n.VMUUID == n.ID {
		ids = append(ids, n.VMUUID)
	}
	for _, item := range n.Items {
		ids = append(ids, item.cvms()...)
	}
	return ids
}

// all is every name in the answer, to be compared.
func (n named) all() string {
	names := []string{n.ID, n.VMUUID, n.AppID, n.Operation.ID}
	for _, item := range n.Items {
		names = append(names, item.ID) // an item's operation is its newest
	}
	return strings.Join(names, " ")
}

func (a Acknowledged) named() (n named, err error) {
	if len(a.Body) == 0 {
		return n, nil
	}
	if err := json.Unmarshal(a.Body, &n); err != nil {
		return n, fmt.Errorf("read the answer to %s %s: %w", a.Method, a.Path, err)
	}
	return n, nil
}

// contradictions are answers to one key that name different things. An echo
// repeats every byte.
func (j *Journal) contradictions() (out []string) {
	first := map[string]Acknowledged{}
	for _, a := range j.Acknowledged() {
		if a.Key == "" {
			continue
		}
		id := a.Workspace + " " + a.Key
		before, ok := first[id]
		if !ok {
			first[id] = a
			continue
		}
		one, err := before.named()
		other, otherErr := a.named()
		switch {
		case err != nil || otherErr != nil || one.all() != other.all():
			out = append(out, fmt.Sprintf("key %s names %q, and %q", a.Key, one.all(), other.all()))
		case a.Status != http.StatusAccepted && !bytes.Equal(a.Body, before.Body):
			out = append(out, fmt.Sprintf("key %s echoes %q, and %q", a.Key, before.Body, a.Body))
		}
	}
	return out
}

package owlapitest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"roost/api"
	"roost/api/owlapi"
	"roost/api/wire"
)

// CodeFailed is the error of CVMs that Config.Fail names.
const CodeFailed = "SIM_FAILED"

// Config says how the fake's machines behave.
type Config struct {
	Token string                 // empty lets everyone in
	Boot  time.Duration          // from a change to its observation; 0: the next read sees it
	Fail  func(name string) bool // CVMs that never boot; nil: none
}

// Fake is an Owl in memory. It is an http.Handler.
type Fake struct {
	cfg    Config
	mint   *api.Minter
	script script

	mu     sync.Mutex
	cvms   map[api.ID]*cvm
	rules  map[api.ID]*rule
	paused bool
}

// New makes a Fake.
func New(cfg Config) *Fake {
	return &Fake{cfg: cfg, mint: api.NewMinter(), cvms: map[api.ID]*cvm{}, rules: map[api.ID]*rule{}}
}

// Start serves a Fake until the test ends and returns its URL.
func Start(tb testing.TB, cfg Config) (fake *Fake, url string) {
	tb.Helper()
	fake = New(cfg)
	server := httptest.NewServer(fake)
	tb.Cleanup(server.Close)
	tb.Cleanup(fake.releaseHeld) // comes first: Close waits for requests under way
	return fake, server.URL
}

// call is one request being answered.
type call struct {
	*http.Request

	id        api.ID // in the path
	requestID string // the caller's or ours
	body      []byte
}

// ServeHTTP implements http.Handler.
func (f *Fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := r.Header.Get(api.HeaderRequestID)
	if !api.ValidRequestID(id) {
		id = f.mint.RequestID()
	}
	w.Header().Set(api.HeaderRequestID, id)
	if r.URL.Path == "/healthz" || r.URL.Path == "/readyz" {
		_, _ = io.WriteString(w, "ok\n")
		return
	}
	body, readErr := io.ReadAll(io.LimitReader(r.Body, owlapi.MaxBatchBytes+1))
	entry := &Request{Method: r.Method, Path: r.URL.RequestURI(), RequestID: id, Body: body}
	f.script.record(entry)
	status, answer, header := f.answer(r.Context(), w, &call{Request: r, requestID: id, body: body}, readErr)
	tear := f.script.after()
	f.script.answered(entry, status)
	maps.Copy(w.Header(), header)
	w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
	w.WriteHeader(status)
	if tear {
		_, _ = w.Write(answer[:len(answer)/2])
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(answer)
}

// answer is what the request is to be told, work included.
func (f *Fake) answer(ctx context.Context, w http.ResponseWriter, c *call, err error) (int, []byte, http.Header) {
	failed := f.script.before(ctx)
	var status int
	var value any
	switch {
	case failed != 0:
		err = scripted(failed)
	case err == nil:
		status, value, err = f.route(w, c)
	}
	if err != nil {
		problem, seconds := problemOf(ctx, err, w.Header().Get(api.HeaderRequestID))
		if failed != 0 {
			problem.Status = failed
		}
		return problem.Status, encode(problem), http.Header{
			"Content-Type": {api.ProblemContentType}, "Retry-After": retryAfter(seconds),
		}
	}
	if value == nil {
		return status, nil, nil
	}
	return status, encode(value), http.Header{"Content-Type": {"application/json"}}
}

// scripted is the error for a status that FailNext asked for.
func scripted(status int) error {
	for _, code := range api.Codes() {
		if code.Status() == status {
			return api.Errorf(code, "the fake was told to answer %d", status)
		}
	}
	return api.Errorf(api.CodeInternal, "the fake was told to answer %d", status)
}

func problemOf(ctx context.Context, err error, requestID string) (problem api.Problem, retrySeconds int) {
	problem, retrySeconds = wire.ProblemOf(ctx, err)
	problem.RequestID = requestID
	return problem, retrySeconds
}

func retryAfter(seconds int) []string {
	if seconds == 0 {
		return nil
	}
	return []string{strconv.Itoa(seconds)}
}

func encode(v any) []byte {
	body, err := wire.Encode(v)
	if err != nil {
		panic(fmt.Sprintf("encode a fake's answer: %v", err))
	}
	return body
}

type handler func(c *call) (status int, value any, err error)

func (f *Fake) routes() map[string]map[string]handler {
	return map[string]map[string]handler{
		owlapi.PathCVMs:          {http.MethodPost: f.createCVM, http.MethodGet: f.listCVMs},
		owlapi.PathCVMsBatch:     {http.MethodPost: f.createCVMs},
		owlapi.PathCVM:           {http.MethodGet: f.getCVM, http.MethodPut: f.putCVM, http.MethodDelete: f.deleteCVM},
		owlapi.PathFirewallRules: {http.MethodPost: f.createRule, http.MethodGet: f.listRules},
		owlapi.PathFirewallRule:  {http.MethodGet: f.getRule, http.MethodDelete: f.deleteRule},
	}
}

func (f *Fake) route(w http.ResponseWriter, c *call) (status int, value any, err error) {
	methods, id, known := f.match(c)
	if !known {
		return 0, nil, api.Errorf(api.CodeNotFound, "nothing lives at this path.")
	}
	handle, ok := methods[c.Method]
	if !ok {
		w.Header().Set("Allow", strings.Join(slices.Sorted(maps.Keys(methods)), ", "))
		return 0, nil, api.Errorf(api.CodeMethodNotAllowed, "%s is not allowed here.", c.Method)
	}
	if f.cfg.Token != "" && c.Header.Get("Authorization") != "Bearer "+f.cfg.Token {
		w.Header().Set("WWW-Authenticate", "Bearer")
		return 0, nil, api.Errorf(api.CodeUnauthenticated, "send Authorization: Bearer and Owl's token.")
	}
	if id != "" {
		if c.id, err = api.ParseID(id); err != nil {
			return 0, nil, api.Errorf(api.CodeNotFound, "id in the path is not a UUID, so it names nothing.")
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return handle(c)
}

// match finds the path's methods, and what stands for {id} in it. A literal
// path wins over one with {id}, unless it lacks the method.
func (f *Fake) match(c *call) (methods map[string]handler, id string, known bool) {
	routes := f.routes()
	if methods, known = routes[c.URL.Path]; known && methods[c.Method] != nil {
		return methods, "", true
	}
	for _, pattern := range []string{owlapi.PathCVM, owlapi.PathFirewallRule} {
		id, ok := strings.CutPrefix(c.URL.Path, strings.TrimSuffix(pattern, "{id}"))
		if ok && id != "" && !strings.Contains(id, "/") {
			return routes[pattern], id, true
		}
	}
	return methods, "", known
}

// decode is the real Owl's strictness. A batch leaves depth to its items.
func (c *call) decode(limit int, into any) error {
	depth := owlapi.MaxJSONDepth
	if limit == owlapi.MaxBatchBytes {
		depth = owlapi.MaxBatchJSONDepth
	}
	if len(c.body) > limit {
		return api.Errorf(api.CodeBodyTooLarge, "the body is larger than %d bytes.", limit)
	}
	if len(c.body) == 0 {
		return wire.DecodeBytes([]byte("{}"), depth, into)
	}
	if given, _, err := mime.ParseMediaType(c.Header.Get("Content-Type")); err != nil || given != "application/json" {
		return api.Errorf(api.CodeUnsupportedMediaType, "the body must have Content-Type: application/json.")
	}
	return wire.DecodeBytes(c.body, depth, into)
}

// list picks records as the query says: by ID, or a page.
func list[T any](c *call, all map[api.ID]T) (records []T, omitSpec bool, err error) {
	q := c.URL.Query()
	if omitSpec, err = omit(q.Get("spec")); err != nil {
		return nil, false, err
	}
	wanted, err := pageOf(c, slices.SortedFunc(maps.Keys(all), func(a, b api.ID) int { return slices.Compare(a[:], b[:]) }))
	if err != nil {
		return nil, false, err
	}
	records = []T{}
	for _, id := range wanted {
		if r, ok := all[id]; ok {
			records = append(records, r)
		}
	}
	return records, omitSpec, nil
}

func omit(spec string) (bool, error) {
	if spec != "" && spec != "true" && spec != "false" {
		return false, api.Invalid("spec", "must be true or false")
	}
	return spec == "false", nil
}

// pageOf returns the IDs that the query asks for, of those there are, ascending.
func pageOf(c *call, sorted []api.ID) ([]api.ID, error) {
	q := c.URL.Query()
	if q.Has("ids") {
		return idsOf(q.Get("ids"), sorted)
	}
	from, limit := 0, 100
	if after := q.Get("after"); after != "" {
		id, err := api.ParseID(after)
		if err != nil {
			return nil, api.Invalid("after", "must be a UUID")
		}
		from = slices.IndexFunc(sorted, func(x api.ID) bool { return slices.Compare(x[:], id[:]) > 0 })
		if from < 0 {
			return nil, nil
		}
	}
	if text := q.Get("limit"); text != "" {
		var err error
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > owlapi.MaxBatchItems {
			return nil, api.Invalid("limit", "must be from 1 to %d", owlapi.MaxBatchItems)
		}
	}
	return sorted[from:min(from+limit, len(sorted))], nil
}

func idsOf(text string, sorted []api.ID) ([]api.ID, error) {
	if text == "" {
		return nil, nil
	}
	parts := strings.Split(text, ",")
	if len(parts) > owlapi.MaxBatchItems {
		return nil, api.Invalid("ids", "holds %d IDs; at most %d are taken", len(parts), owlapi.MaxBatchItems)
	}
	wanted := map[api.ID]bool{}
	for _, part := range parts {
		id, err := api.ParseID(part)
		if err != nil {
			return nil, api.Invalid("ids", "must be UUIDs separated by commas")
		}
		wanted[id] = true
	}
	return slices.DeleteFunc(sorted, func(id api.ID) bool { return !wanted[id] }), nil
}

// conflict is the 409 that names what differs.
func conflict(id api.ID, pointers []string) error {
	e := api.Errorf(api.CodeIDConflict, "%s was created by a request with other members.", id)
	for _, p := range pointers {
		e.Fields = append(e.Fields, api.FieldError{Field: p, Message: "differs from the request that created it"})
	}
	return e
}

func gone(id api.ID, at *api.Time, record any) error {
	e := api.Errorf(api.CodeGone, "%s was deleted, for good.", id)
	e.DeletedAt, e.Record = at, encode(record)
	return e
}

func neverSeen(id api.ID) error {
	return api.Errorf(api.CodeNotFound, "there is no %s and never was.", id)
}

func (f *Fake) now() api.Time { return api.NewTime(time.Now()) }

// ready is when a change that is made now will be observed.
func (f *Fake) ready() time.Time { return time.Now().Add(f.cfg.Boot) }

func rawOrNull(raw json.RawMessage, omitted bool) json.RawMessage {
	if omitted {
		return nil
	}
	return raw
}

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/cmd/internal/stack"
)

const (
	canaryToken = "canary-token-9d1f"
	canaryEnv   = "ca9a7ye9c0de"
)

// testBundle is the command line in this process, with streams in memory.
type testBundle struct {
	t    *testing.T
	env  Env
	vars map[string]string
	out  *bytes.Buffer
	err  *bytes.Buffer
}

func setup(t *testing.T) *testBundle {
	t.Helper()
	b := &testBundle{t: t, vars: map[string]string{}, out: &bytes.Buffer{}, err: &bytes.Buffer{}}
	b.env = Env{
		Program: "roost", In: strings.NewReader(""), Out: b.out, Err: b.err, Now: time.Now,
		Getenv:    func(name string) string { return b.vars[name] },
		ConfigDir: t.TempDir(), CacheDir: t.TempDir(),
	}
	return b
}

// at sends commands to an endpoint, by the environment.
func (b *testBundle) at(endpoint, token string) *testBundle {
	b.vars["ROOST_ENDPOINT"], b.vars["ROOST_TOKEN"] = endpoint, token
	return b
}

func (b *testBundle) runContext(ctx context.Context, args ...string) int {
	b.out.Reset()
	b.err.Reset()
	return Run(ctx, b.env, args)
}

func (b *testBundle) run(args ...string) int { return b.runContext(b.t.Context(), args...) }

// must runs a command that has to succeed and returns its data.
func (b *testBundle) must(args ...string) string {
	b.t.Helper()
	require.Equal(b.t, exitOK, b.run(args...), "%q: %s", args, b.err)
	return b.out.String()
}

// server answers as handlers say, one after the other, the last for ever, and
// keeps what it was sent.
type server struct {
	*httptest.Server

	mu       sync.Mutex
	received []*http.Request
	bodies   []string
}

func serve(t *testing.T, handlers ...http.HandlerFunc) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		s.received, s.bodies = append(s.received, r), append(s.bodies, string(body))
		answer := handlers[min(len(s.received), len(handlers))-1]
		s.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// seen is what has been received so far.
func (s *server) seen() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.received)
}

// sent is the bodies of what has been received so far.
func (s *server) sent() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.bodies)
}

const requestID = "01J00000000000000000000000"

func answer(status int, value any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set(api.HeaderRequestID, requestID)
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(value)
	}
}

func refuse(err *api.Error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", api.ProblemContentType)
		w.Header().Set(api.HeaderRequestID, requestID)
		w.WriteHeader(err.Code.Status())
		_ = json.NewEncoder(w).Encode(err.Problem(requestID))
	}
}

func lose(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

var someID = api.ID{0: 1, 6: 0x70, 8: 0x80, 15: 1}

func someCVM(status api.Status, operation api.OperationStatus) api.CVM {
	return api.CVM{
		VMUUID: someID, ID: someID, AppID: someID, Name: "web", Status: status, InstanceType: "tdx.small",
		Operation: &api.OperationRef{ID: "op_1", Kind: api.KindCVMCreate, Status: operation},
	}
}

func createArgs(t *testing.T, more ...string) []string {
	t.Helper()
	return append([]string{"cvm", "create", "web", "--instance-type", "tdx.small", "--compose", composeFile(t)}, more...)
}

func composeFile(t *testing.T) string {
	t.Helper()
	path := t.TempDir() + "/docker-compose.yml"
	require.NoError(t, writePrivate(path, []byte("services: {web: {image: nginx}}")))
	return path
}

// TestEveryVerbAgainstTheServices goes once through all that there is.
func TestEveryVerbAgainstTheServices(t *testing.T) {
	t.Parallel()
	s := stack.Start(t, stack.Options{})
	b := setup(t).at(s.Platforms[0].URL, s.Token)
	id := strings.TrimSpace(b.must(createArgs(t, "--wait", "-q")...))
	require.Contains(t, b.must("cvm", "get", "web", "--wait"), "running")
	require.Contains(t, b.must("cvm", "list"), id)
	require.Contains(t, b.must("cvm", "stop", "web", "--wait"), "stopped")
	require.Contains(t, b.must("cvm", "start", "web", "--wait"), "running")
	require.Contains(t, b.must("cvm", "restart", id, "--wait"), "running")
	require.Contains(t, b.must("cvm", "update", "web", "--instance-type", "tdx.medium", "--wait"), "tdx.medium")
	require.Contains(t, b.must("cvm", "get", "web"), "2 vCPU, 4096 MB, disk 20 GB")

	require.Equal(t, 2, strings.Count(b.must("app", "scale", "web", "--replicas", "3", "--wait"), "running"), "the new ones")
	require.Empty(t, b.must("app", "scale", "web", "--replicas", "3", "--wait", "-q"))
	require.Equal(t, 1, strings.Count(b.must("app", "scale", "web", "--replicas", "2", "--wait"), "deleted"))
	require.Contains(t, b.must("app", "scale", "web", "--replicas", "3", "--wait", "-o", "json"), `"items": [`)
	require.Contains(t, b.must("app", "scale", "web", "--replicas", "3", "-o", "json"), `"items": []`)
	require.Contains(t, b.err.String(), "it was asked for already; nothing was started")
	copied := strings.TrimSpace(b.must("replica", "create", "web", "--name", "web-copy", "--wait", "-q"))
	require.Equal(t, 2, strings.Count(b.must("replica", "create", "web", "--count", "2", "--wait"), "running"))
	require.Equal(t, 5, strings.Count(b.must("replica", "list", "web", "-q"), "\n"))
	require.Contains(t, b.must("replica", "get", "web-copy"), copied)
	require.Contains(t, b.must("op", "get", "web-copy"), "cvm.replicate", "a CVM's name does too")
	require.Contains(t, b.must("replica", "delete", "web-copy", "--wait"), "deleted")
	require.Contains(t, b.must("cvm", "start", "web", "--wait"), "running")
	require.Contains(t, b.err.String(), "start CVM web: it was asked for already; nothing was started")
	require.Contains(t, b.must("app", "list"), "web")
	require.Contains(t, b.must("app", "get", "web", "--wait"), id)
	require.Contains(t, b.must("cvm", "get", "web", "-o", "json"), `"vm_uuid": "`+id+`"`, "of five of that name the one that is no copy")
	app := strings.TrimSpace(b.must("app", "get", "web", "-q"))

	rule := strings.TrimSpace(b.must("firewall", "create", id, "--cidr", "10.0.0.0/8", "--port", "443", "-q"))
	require.Contains(t, b.must("firewall", "list", id), "10.0.0.0/8")
	require.Contains(t, b.must("firewall", "get", id, rule), "443")
	b.must("firewall", "delete", id, rule)
	b.must("firewall", "delete", id, rule)
	require.Contains(t, b.err.String(), "nothing left to do")

	require.Contains(t, b.must("op", "list"), "app.scale")
	require.Contains(t, b.must("op", "get", "web", "--wait"), "succeeded")
	b.must("app", "create", "empty", "--idempotency-key", "k-empty")
	require.Contains(t, b.must("key", "show", "k-empty"), "It has happened")
	b.must("app", "create", "empty", "--idempotency-key", "k-empty")
	require.Contains(t, b.err.String(), "Replay")
	require.Contains(t, b.must("whoami"), "acme")

	require.Equal(t, 5, strings.Count(b.must("app", "delete", "web", "--wait"), "deleted"))
	require.Contains(t, b.err.String(), "Accepted: delete app web.\n")
	for _, again := range [][]string{{"cvm", "delete", id}, {"replica", "delete", copied}, {"firewall", "delete", id, rule}, {"app", "delete", app}} {
		require.Equal(t, exitOK, b.run(again...), "gone by ID: %v", again)
		require.Contains(t, b.err.String(), "nothing left to do")
	}
	require.Equal(t, exitNotFound, b.run("cvm", "delete", "web"), "gone by name")
}

package harness

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"roost/api"
	"roost/api/apitest"
	"roost/cmd/internal/lossy"
	"roost/models/migrations"
	"roost/models/pg"
	"roost/models/pgtest"
)

// The times that the processes of a test run with, short so that a lease ends
// and a boot is over while one watches.
const (
	Lease      = time.Second
	BackoffMax = 500 * time.Millisecond
	Boot       = 50 * time.Millisecond
	stop       = 20 * time.Millisecond
)

// retryAfter is how soon Insist repeats what could not be answered; a real
// client would wait as long as Retry-After says.
const retryAfter = 50 * time.Millisecond

// Options adjust a Stack. The zero value is one node of each.
type Options struct {
	Platforms, Owls int // default 1

	// PlatformEnv and OwlEnv are "NAME=value", over the harness' own.
	PlatformEnv, OwlEnv []string
	// PlatformURL and OwlURL are the databases; "": private ones of pgtest.
	PlatformURL, OwlURL string
	// PlatformVia and OwlVia make of a database's URL the one that the
	// processes use, such as a proxy's. nil: the same.
	PlatformVia, OwlVia func(direct string) string
	// NotStarted leaves it to the test to start the processes.
	NotStarted bool
}

// Stack is both services as processes, over databases of their own.
type Stack struct {
	T          testing.TB
	Platforms  []*Platform
	Owls       []*Node
	PlatformDB *gorm.DB // the test's own way to the databases
	OwlDB      *gorm.DB
	SimDir     string
	OwlToken   string
	Token      string // of the workspace "acme"
	Journal    *Journal
	// KeysExpire says that keys are forgotten in this test, so that one may
	// name two things, and a thing no key.
	KeysExpire bool

	platformURL, owlURL string
	http                *http.Client
	ended               time.Time     // of the last fault
	startup             time.Duration // how long the processes took to be ready
}

// Platform is a node of the public service and the proxies on its hops.
type Platform struct {
	*Node

	Front *lossy.Proxy // clients → this Platform
	Back  *lossy.Proxy // this Platform → its Owl
	owl   atomic.Pointer[Node]
}

// Start starts a Stack, which ends with the test.
func Start(tb testing.TB, o Options) *Stack {
	tb.Helper()
	s := &Stack{
		T: tb, SimDir: filepath.Join(tb.TempDir(), "sim"), OwlToken: rand.Text(), Journal: newJournal(),
		platformURL: o.PlatformURL, owlURL: o.OwlURL,
	}
	// Each call is a connection of its own: http.Transport repeats what was
	// lost on one that it had kept, and a test would not see the loss.
	s.http = &http.Client{Transport: &recorder{journal: s.Journal, next: &http.Transport{DisableKeepAlives: true}}}
	s.openDatabases()
	for i := range max(o.Owls, 1) {
		s.addOwl(i, o)
	}
	for i := range max(o.Platforms, 1) {
		s.addPlatform(i, o)
	}
	s.Token = s.NewToken("acme")
	if !o.NotStarted {
		began := time.Now()
		s.Each(func(n *Node) { n.Launch() })
		s.Each(func(n *Node) { n.AwaitReady() })
		s.startup = time.Since(began)
	}
	s.FaultsEnded()
	return s
}

func (s *Stack) openDatabases() {
	s.T.Helper()
	if s.platformURL == "" {
		s.platformURL = pgtest.URL(s.T, migrations.Platform())
	}
	if s.owlURL == "" {
		s.owlURL = pgtest.URL(s.T, migrations.Owl())
	}
	s.PlatformDB, s.OwlDB = s.open(s.platformURL), s.open(s.owlURL)
}

func (s *Stack) open(url string) *gorm.DB {
	s.T.Helper()
	var db *gorm.DB
	config := pg.Config{URL: url, MaxConns: 4, AppName: "roost-harness"}
	err := poll(s.T.Context(), func(ctx context.Context) (bool, error) {
		var err error
		db, err = pg.Open(ctx, config, slog.New(slog.DiscardHandler))
		return err == nil, nil // on a busy machine a handshake can time out
	})
	if err != nil {
		s.T.Fatalf("harness: open database: %v", err)
	}
	s.T.Cleanup(func() { _ = pg.Close(db) }) // the database may have been swapped away
	return db
}

// via applies a route to a database, if there is one.
func via(route func(string) string, direct string) string {
	if route == nil {
		return direct
	}
	return route(direct)
}

func (s *Stack) addOwl(i int, o Options) {
	s.T.Helper()
	env := append([]string{
		"OWL_ADDR=127.0.0.1:0", "OWL_DATABASE_URL=" + via(o.OwlVia, s.owlURL), "OWL_AUTH_TOKEN=" + s.OwlToken,
		"OWL_SIM_DIR=" + s.SimDir, "OWL_SIM_BOOT=" + Boot.String(), "OWL_SIM_STOP=" + stop.String(), "OWL_LEASE=" + Lease.String(),
	}, o.OwlEnv...)
	s.Owls = append(s.Owls, newNode(s.T, fmt.Sprint("owl ", i+1), binary(s.T, "owl"), env))
}

func (s *Stack) addPlatform(i int, o Options) {
	s.T.Helper()
	p := &Platform{Front: lossy.Start(s.T, nowhere, nil), Back: lossy.Start(s.T, nowhere, nil)}
	env := append([]string{
		"PLATFORM_ADDR=127.0.0.1:0", "PLATFORM_DATABASE_URL=" + via(o.PlatformVia, s.platformURL),
		"PLATFORM_OWL_URL=" + p.Back.URL(), "PLATFORM_OWL_TOKEN=" + s.OwlToken, "PLATFORM_RATE_LIMIT=0",
		"PLATFORM_RECONCILE_LEASE=" + Lease.String(), "PLATFORM_RECONCILE_BACKOFF_MAX=" + BackoffMax.String(),
	}, o.PlatformEnv...)
	p.Node = newNode(s.T, fmt.Sprint("platform ", i+1), binary(s.T, "platform"), env)
	p.moved = func(url string) { s.lead(p.Front, url) }
	owl := s.Owls[i%len(s.Owls)]
	p.owl.Store(owl)
	for _, each := range s.Owls {
		each.alsoMoves(func(url string) {
			if p.owl.Load() == each {
				s.lead(p.Back, url)
			}
		})
	}
	s.Platforms = append(s.Platforms, p)
}

// Use sends what this Platform pushes to another Owl.
func (p *Platform) Use(owl *Node) {
	p.tb.Helper()
	p.owl.Store(owl)
	if err := p.Back.SetUpstream(owl.URL()); err != nil {
		p.tb.Fatalf("harness: %v", err)
	}
}

// alsoMoves adds somebody who hears of the node's addresses. It is called
// before the node's first start.
func (n *Node) alsoMoves(hear func(url string)) {
	before := n.moved
	n.moved = func(url string) { before(url); hear(url) }
}

func (s *Stack) lead(proxy *lossy.Proxy, url string) {
	if err := proxy.SetUpstream(url); err != nil {
		s.T.Errorf("harness: %v", err)
	}
}

// Each does something to every node, Owls first.
func (s *Stack) Each(do func(n *Node)) {
	s.T.Helper()
	for _, owl := range s.Owls {
		do(owl)
	}
	for _, platform := range s.Platforms {
		do(platform.Node)
	}
}

// NewToken makes a workspace's write token, as an operator does.
func (s *Stack) NewToken(workspace string) string {
	s.T.Helper()
	return strings.TrimSpace(s.Command("token", "create", "--workspace", workspace))
}

// Command runs the platform binary on Platform's database and returns what it
// prints. It must exit with 0.
func (s *Stack) Command(args ...string) string {
	s.T.Helper()
	cmd := exec.CommandContext(s.T.Context(), binary(s.T, "platform"), args...) //nolint:gosec // ours
	cmd.Env = append(append(cleanEnviron(), s.Platforms[0].environ...), "PLATFORM_DATABASE_URL="+s.platformURL)
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		s.T.Fatalf("platform %s: %v: %s", strings.Join(args, " "), err, complaint.String())
	}
	return string(out)
}

// Client talks to the first Platform through its Front, one connection a call.
// Its answers are in the Journal.
func (s *Stack) Client() apitest.Client { return s.ClientOf(0) }

// ClientOf talks to the i-th Platform.
func (s *Stack) ClientOf(i int) apitest.Client {
	return apitest.Client{T: s.T, URL: s.Platforms[i].Front.URL(), Token: s.Token, HTTP: s.http}
}

// Insist sends a call until it is answered by what no repetition changes, as
// an honest client does: not after a cut connection, a 5xx, a 429 or a 409
// that says retryable.
func (s *Stack) Insist(call *apitest.Call) *apitest.Reply {
	s.T.Helper()
	var final *apitest.Reply
	ticker := time.NewTicker(retryAfter)
	defer ticker.Stop()
	for deadline := time.Now().Add(Patience); time.Now().Before(deadline); <-ticker.C {
		reply, err := call.Try()
		if err == nil && !Transient(reply) {
			final = reply
			break
		}
	}
	if final == nil {
		s.T.Fatalf("%s was never answered", call.Path())
	}
	return final
}

// Transient reports whether an answer asks for the same request again.
func Transient(r *apitest.Reply) bool {
	switch r.Status {
	case http.StatusServiceUnavailable, http.StatusTooManyRequests, http.StatusInternalServerError:
		return true
	case http.StatusConflict:
		return apitest.Decode[api.Problem](r).Retryable
	}
	return false
}

// Wait holds until the operation has ended, and returns it.
func (s *Stack) Wait(operation string) api.Operation {
	s.T.Helper()
	var op api.Operation
	err := poll(s.T.Context(), func(ctx context.Context) (bool, error) {
		reply, err := s.Client().Request(http.MethodGet, "/operations/"+operation+"?wait=1s", "").Until(ctx)
		if err != nil || reply.Status != http.StatusOK {
			return false, nil //nolint:nilerr // it is asked again
		}
		op = reply.Operation()
		return op.Status.Ended(), nil
	})
	if err != nil {
		s.T.Fatalf("operation %s does not end: %v", operation, err)
	}
	return op
}

// Await waits until a state is reached.
func (s *Stack) Await(what string, reached func() bool) {
	s.T.Helper()
	if err := poll(s.T.Context(), func(context.Context) (bool, error) { return reached(), nil }); err != nil {
		s.T.Fatalf("%s: %v", what, err)
	}
}

// AwaitExchange waits until something has befallen a request at a proxy.
func (s *Stack) AwaitExchange(proxy *lossy.Proxy, wanted func(lossy.Exchange) bool) lossy.Exchange {
	s.T.Helper()
	ctx, cancel := context.WithTimeout(s.T.Context(), Patience)
	defer cancel()
	exchange, err := proxy.Await(ctx, wanted)
	if err != nil {
		s.T.Fatalf("harness: %v", err)
	}
	return exchange
}

// FaultsEnded starts the clock that AtRest reads.
func (s *Stack) FaultsEnded() { s.FaultsEndedAt(time.Now()) }

// FaultsEndedAt starts it at a moment that has passed.
func (s *Stack) FaultsEndedAt(at time.Time) { s.ended = at }

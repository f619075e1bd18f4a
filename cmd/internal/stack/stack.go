// Package stack runs both services in one process for tests: real HTTP on
// loopback, real Postgres, the sim driver. cmd is the only place that knows
// both, so tests over both hops live here.
//
// It promises that a node which was stopped can be started again at the same
// address over the same data, and that nothing outlives its test. It is no way
// to run Roost: `roost dev` is.
package stack

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"roost/api"
	"roost/api/apitest"
	"roost/api/openapitest"
	"roost/models/migrations"
	"roost/models/pg"
	"roost/models/pgtest"
	"roost/owl"
	"roost/owl/driver/sim"
	"roost/platform"
	"roost/platform/token"
)

// OwlToken is what Platform shows Owl in these tests.
const OwlToken = "stack"

// Options adjust a Stack. The zero value is one node of each.
type Options struct {
	Platforms int // default 1
	Owls      int // default 1; all behind the first one's address but for that
	Boot      time.Duration
	Fail      string // regexp on names whose boot fails
	Log       io.Writer
	Platform  func(*platform.Config)
}

// Stack is both services over databases of their own.
type Stack struct {
	T          testing.TB
	PlatformDB *gorm.DB
	PlatformAt string // the URL of PlatformDB
	OwlDB      *gorm.DB
	SimDir     string
	Platforms  []*Node
	Owls       []*Node
	Token      string // of the workspace "acme"
	Logger     *slog.Logger
}

// Start starts a Stack, which ends with the test.
func Start(tb testing.TB, o Options) *Stack {
	tb.Helper()
	s := &Stack{
		T: tb, OwlDB: pgtest.Owl(tb), SimDir: tb.TempDir(),
		Logger: slog.New(slog.DiscardHandler),
	}
	s.PlatformAt = pgtest.URL(tb, migrations.Platform())
	var err error
	s.PlatformDB, err = pg.Open(tb.Context(), pg.Config{URL: s.PlatformAt, AppName: "roost-test"}, s.Logger)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, pg.Close(s.PlatformDB)) })
	if o.Log != nil {
		s.Logger = slog.New(slog.NewTextHandler(o.Log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	for range max(o.Owls, 1) {
		s.Owls = append(s.Owls, s.startOwl(o))
	}
	for range max(o.Platforms, 1) {
		s.Platforms = append(s.Platforms, s.startPlatform(o))
	}
	s.Token = s.NewToken("acme", token.ScopeWrite)
	return s
}

// Client talks to the first Platform.
func (s *Stack) Client() apitest.Client {
	return apitest.Client{T: s.T, URL: s.Platforms[0].URL, Token: s.Token}
}

// NewToken makes a token of a workspace.
func (s *Stack) NewToken(workspace, scope string) string {
	s.T.Helper()
	secret, _, err := token.Create(s.T.Context(), s.PlatformDB, api.NewMinter(), token.Params{Workspace: workspace, Scope: scope})
	require.NoError(s.T, err)
	return secret
}

// Wait holds until the operation has ended.
func (s *Stack) Wait(id string) api.Operation {
	s.T.Helper()
	op := s.Client().Get("/operations/" + id + "?wait=30s").Expect(http.StatusOK).Operation()
	require.True(s.T, op.Status.Ended(), "operation %s is still %s", op.ID, op.Status)
	return op
}

func (s *Stack) startOwl(o Options) *Node {
	boot := o.Boot
	if boot == 0 {
		boot = 50 * time.Millisecond
	}
	config := sim.Config{Dir: s.SimDir, Boot: boot, Stop: boot / 3}
	if o.Fail != "" {
		config.Fail = regexp.MustCompile(o.Fail)
	}
	return startNode(s.T, func() (service, func()) {
		driver, err := sim.New(config)
		require.NoError(s.T, err)
		svc, err := owl.New(owl.Config{
			DB: s.OwlDB, Driver: driver, Token: OwlToken, Logger: s.Logger, Registry: prometheus.NewRegistry(),
			Lease: 2 * time.Second,
		})
		require.NoError(s.T, err)
		return svc, func() { require.NoError(s.T, driver.Close()) }
	})
}

func (s *Stack) startPlatform(o Options) *Node {
	cfg := platform.Config{
		DB: s.PlatformDB, Logger: s.Logger, OwlURL: s.Owls[0].URL, OwlToken: OwlToken,
		OwlHTTP: openapitest.OwlClient(s.T), // what Platform sends is held against Owl's document

		KeyTTL: 24 * time.Hour, KeyWait: 5 * time.Second, ProvisionTTL: time.Hour, MaxCVMs: 1000,
		ReconcileLease: 2 * time.Second, ReconcileBackoffMax: time.Second,
	}
	if o.Platform != nil {
		o.Platform(&cfg)
	}
	return startNode(s.T, func() (service, func()) {
		cfg := cfg
		cfg.Registry = prometheus.NewRegistry()
		svc, err := platform.New(cfg)
		require.NoError(s.T, err)
		return svc, func() {}
	})
}

type service interface {
	Handler() http.Handler
	Run(ctx context.Context) error
}

// Node is one process, as far as one process can hold several.
type Node struct {
	URL string

	t     testing.TB
	addr  string
	build func() (service, func())
	stop  func()
}

func startNode(tb testing.TB, build func() (service, func())) *Node {
	tb.Helper()
	n := &Node{t: tb, addr: "127.0.0.1:0", build: build}
	n.Start()
	tb.Cleanup(func() { n.Stop() })
	return n
}

// Start starts the node, again at the same address if it was stopped.
func (n *Node) Start() {
	n.t.Helper()
	listener, err := new(net.ListenConfig).Listen(n.t.Context(), "tcp", n.addr)
	require.NoError(n.t, err)
	n.addr, n.URL = listener.Addr().String(), "http://"+listener.Addr().String()

	svc, release := n.build()
	server := &http.Server{Handler: svc.Handler(), ReadHeaderTimeout: time.Second}
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	parts.Go(func() { _ = server.Serve(listener) })
	parts.Go(func() { _ = svc.Run(ctx) })
	n.stop = sync.OnceFunc(func() {
		_ = server.Close() // cuts what is under way: a stop here is as rude as one process allows
		cancel()
		parts.Wait()
		release()
	})
}

// Stop cuts every connection and ends the background work.
func (n *Node) Stop() { n.stop() }

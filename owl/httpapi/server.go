package httpapi

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"roost/api"
	"roost/api/owlapi"
	"roost/api/wire"
	"roost/owl/registry"
)

// workTimeout bounds one registry call. It is longer than any statement may
// take, so that the database's own limits speak first.
const workTimeout = 15 * time.Second

// Config is what the edge stands on.
type Config struct {
	Resources *registry.Registry
	Minter    *api.Minter // of request IDs; resources' come from callers
	Logger    *slog.Logger
	Registry  *prometheus.Registry

	// Token is what callers must present; empty lets everyone in.
	Token string
	// Ready returns why the service cannot serve now, or nil.
	Ready func(ctx context.Context) error
}

type server struct {
	cfg       Config
	resources *registry.Registry
	token     [sha256.Size]byte
	inserts   *prometheus.CounterVec
}

// New returns the handler of the private API.
func New(cfg Config) http.Handler {
	s := &server{
		cfg: cfg, resources: cfg.Resources,
		token: sha256.Sum256([]byte(cfg.Token)), inserts: newInserts(cfg.Registry),
	}
	engine := wire.NewEngine(wire.Config{
		Logger: cfg.Logger, RequestID: cfg.Minter.RequestID, TrustRequestID: true, Observe: newObserver(cfg.Registry),
		Repeatable: true, // the ID is the key
	})
	engine.GET("/healthz", func(c *gin.Context) { c.String(http.StatusOK, "ok\n") })
	engine.GET("/readyz", wire.Handle(s.ready))
	engine.GET("/metrics", gin.WrapH(promhttp.HandlerFor(cfg.Registry, promhttp.HandlerOpts{})))
	engine.GET(wire.PathProblem, wire.Handle(wire.Problem))
	for _, r := range s.routes() {
		engine.Handle(r.method, ginPath(r.path), wire.Handle(s.authenticate), wire.Handle(r.handler))
	}
	return engine
}

type route struct {
	method, path string
	handler      func(c *gin.Context) error
}

func (s *server) routes() []route {
	return []route{
		{http.MethodPost, owlapi.PathCVMs, s.createCVM},
		{http.MethodGet, owlapi.PathCVMs, s.listCVMs},
		{http.MethodPost, owlapi.PathCVMsBatch, s.createCVMs},
		{http.MethodGet, owlapi.PathCVM, s.getCVM},
		{http.MethodPut, owlapi.PathCVM, s.putCVM},
		{http.MethodDelete, owlapi.PathCVM, s.deleteCVM},
		{http.MethodPost, owlapi.PathFirewallRules, s.createFirewallRule},
		{http.MethodGet, owlapi.PathFirewallRules, s.listFirewallRules},
		{http.MethodGet, owlapi.PathFirewallRule, s.getFirewallRule},
		{http.MethodDelete, owlapi.PathFirewallRule, s.deleteFirewallRule},
	}
}

// ginPath turns the contract's {name} into gin's :name.
func ginPath(pattern string) string {
	return strings.NewReplacer("{", ":", "}", "").Replace(pattern)
}

// authenticate compares digests: of equal length, whatever was presented.
func (s *server) authenticate(c *gin.Context) error {
	if s.cfg.Token == "" {
		return nil
	}
	scheme, presented, _ := strings.Cut(c.GetHeader("Authorization"), " ")
	digest := sha256.Sum256([]byte(presented))
	if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(digest[:], s.token[:]) != 1 {
		c.Header("WWW-Authenticate", "Bearer")
		return api.Errorf(api.CodeUnauthenticated, "send Authorization: Bearer and Owl's token. Nothing was done.")
	}
	return nil
}

func (s *server) ready(c *gin.Context) error {
	if err := s.cfg.Ready(c.Request.Context()); err != nil {
		return &api.Error{Code: api.CodeUnavailable, Err: err, Detail: "not ready: the log says why, with this request ID."}
	}
	c.String(http.StatusOK, "ready\n")
	return nil
}

// work is the context of a registry call: a caller that leaves cancels
// nothing, but nothing goes on for ever.
func work(c *gin.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(c.Request.Context()), workTimeout)
}

package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"roost/api"
	"roost/api/wire"
	"roost/platform/fleet"
	"roost/platform/token"
)

// Config is what the edge stands on.
type Config struct {
	Fleet    *fleet.Fleet
	Minter   *api.Minter
	Logger   *slog.Logger
	Registry *prometheus.Registry

	// Authenticate says who holds a token, or returns CodeUnauthenticated.
	Authenticate func(ctx context.Context, secret string) (token.Caller, error)
	// Transient reports whether an error says only that the database is away.
	Transient func(error) bool
	// Ready returns why the service cannot serve now, or nil.
	Ready func(ctx context.Context) error
	// RateLimit is per token and process; 0 is no limit.
	RateLimit rate.Limit
}

type server struct {
	cfg    Config
	fleet  *fleet.Fleet
	limits *limits
}

// New returns the handler of the public API.
func New(cfg Config) http.Handler {
	s := &server{cfg: cfg, fleet: cfg.Fleet, limits: newLimits(cfg.RateLimit)}
	engine := wire.NewEngine(wire.Config{
		Logger: cfg.Logger, RequestID: cfg.Minter.RequestID, Observe: newObserver(cfg.Registry), Transient: cfg.Transient,
	})
	get := methods(http.MethodGet)
	engine.Match(get, "/healthz", s.health)
	engine.Match(get, "/readyz", wire.Handle(s.ready))
	engine.Match(get, "/metrics", gin.WrapH(metricsHandler(cfg.Registry)))
	engine.Match(get, wire.PathProblem, wire.Handle(wire.Problem))
	engine.Match(get, "/openapi.yaml", s.openAPI)
	engine.Match(get, "/docs", wire.Handle(newDocsPage()))

	v1 := engine.Group("/api/v1", wire.Handle(s.authenticate))
	for _, r := range s.routes() {
		v1.Match(methods(r.method), ginPath(r.path), wire.Handle(r.handler))
	}
	return engine
}

// methods is a route's own and, with GET, HEAD (RFC 9110 section 9.1): the
// same answer, of which net/http leaves the body out.
func methods(method string) []string {
	if method == http.MethodGet {
		return []string{method, http.MethodHead}
	}
	return []string{method}
}

type route struct {
	method, path string
	handler      func(c *gin.Context) error
}

func (s *server) routes() []route {
	return []route{
		{http.MethodPost, "/apps", s.createApp},
		{http.MethodGet, "/apps", s.listApps},
		{http.MethodGet, "/apps/{app_id}", s.getApp},
		{http.MethodGet, "/apps/{app_id}/cvms", s.listAppCVMs},
		{http.MethodPost, "/apps/{app_id}/cvms/{vm_uuid}/replicas", s.createReplicas},
		{http.MethodPut, "/apps/{app_id}/replicas", s.scaleApp},
		{http.MethodPost, "/cvms/provision", s.provision},
		{http.MethodPost, "/cvms", s.createCVM},
		{http.MethodGet, "/cvms", s.listCVMs},
		{http.MethodGet, "/cvms/{vm_uuid}", s.getCVM},
		{http.MethodGet, "/cvms/{vm_uuid}/docker-compose.yml", s.getDockerCompose},
		{http.MethodPost, "/cvms/{vm_uuid}/start", s.startCVM},
		{http.MethodPost, "/cvms/{vm_uuid}/stop", s.stopCVM},
		{http.MethodPost, "/cvms/{vm_uuid}/restart", s.restartCVM},
		{http.MethodPatch, "/cvms/{vm_uuid}", s.patchCVM},
		{http.MethodDelete, "/cvms/{vm_uuid}", s.deleteCVM},
		{http.MethodPost, "/cvms/{vm_uuid}/firewall-rules", s.createFirewallRule},
		{http.MethodGet, "/cvms/{vm_uuid}/firewall-rules", s.listFirewallRules},
		{http.MethodGet, "/cvms/{vm_uuid}/firewall-rules/{id}", s.getFirewallRule},
		{http.MethodDelete, "/cvms/{vm_uuid}/firewall-rules/{id}", s.deleteFirewallRule},
		{http.MethodGet, "/operations", s.listOperations},
		{http.MethodGet, "/operations/{id}", s.getOperation},
		{http.MethodGet, "/idempotency-keys/{key}", s.getKey},
		{http.MethodGet, "/instance-types", s.listInstanceTypes},

		// What only clients of the Phala API call.
		{http.MethodPatch, "/cvms/{vm_uuid}/resources", s.resizeApp},
		{http.MethodPatch, "/cvms/{vm_uuid}/os-image", s.changeOSImage},
		{http.MethodPatch, "/cvms/{vm_uuid}/docker-compose", s.changeDockerCompose},
		{http.MethodPatch, "/cvms/{vm_uuid}/pre-launch-script", s.changePreLaunchScript},
		{http.MethodGet, "/cvms/{vm_uuid}/pre-launch-script", s.getPreLaunchScript},
		{http.MethodPatch, "/cvms/{vm_uuid}/envs", s.changeEnvs},
		{http.MethodPost, "/cvms/{vm_uuid}/compose_file/provision", s.provisionComposeFile},
		{http.MethodPatch, "/cvms/{vm_uuid}/compose_file", s.commitComposeFile},
		{http.MethodGet, "/auth/me", s.getAccount},
		{http.MethodGet, "/apps/filter-options", s.getFilterOptions},
		{http.MethodGet, "/teepods/available", s.listAvailableNodes},
	}
}

// ginPath turns the contract's {name} into gin's :name.
func ginPath(pattern string) string {
	return strings.NewReplacer("{", ":", "}", "").Replace(pattern)
}

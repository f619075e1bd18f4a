package httpapi

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"roost/api/wire"
	"roost/owl/registry"
)

// newObserver counts requests. Routes are patterns, so the number of series is
// bounded.
func newObserver(reg prometheus.Registerer) func(wire.Observation) {
	f := promauto.With(reg)
	requests := f.NewCounterVec(prometheus.CounterOpts{
		Name: "owl_http_requests_total", Help: "Requests by route and status.",
	}, []string{"route", "method", "status"})
	seconds := f.NewHistogramVec(prometheus.HistogramOpts{
		Name: "owl_http_request_seconds", Help: "Time to answer, by route.",
		Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 15},
	}, []string{"route", "method"})
	return func(o wire.Observation) {
		requests.WithLabelValues(o.Route, o.Method, strconv.Itoa(o.Status)).Inc()
		seconds.WithLabelValues(o.Route, o.Method).Observe(o.Duration.Seconds())
	}
}

// newInserts counts what became of creates. Every series is there from the
// start: "none" and "not counted" look different.
func newInserts(reg prometheus.Registerer) *prometheus.CounterVec {
	inserts := promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
		Name: "owl_inserts_total", Help: "Creates, those in batches too, by what became of them.",
	}, []string{"kind", "outcome"})
	for _, kind := range []string{"cvm", "firewall_rule"} {
		for _, outcome := range []registry.Outcome{registry.Created, registry.Existing, registry.Conflict, registry.Gone} {
			inserts.WithLabelValues(kind, string(outcome))
		}
	}
	return inserts
}

// count leaves out what never came as far as the ID: a rule without its CVM.
func (s *server) count(kind string, outcome registry.Outcome) {
	if outcome != "" {
		s.inserts.WithLabelValues(kind, string(outcome)).Inc()
	}
}

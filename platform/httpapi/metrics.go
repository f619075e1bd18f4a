package httpapi

import (
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"roost/api/wire"
)

// newObserver counts requests by route and outcome. Routes are patterns and
// outcomes words of a fixed set, so the number of series is bounded.
func newObserver(reg prometheus.Registerer) func(wire.Observation) {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "roost_http_requests_total",
		Help: "Requests by route, status and outcome (executed, replayed, in_progress, mismatch, refused, unavailable, error).",
	}, []string{"method", "route", "status", "outcome"})
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "roost_http_request_seconds", Help: "Time to answer, by route.",
		Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30, 60},
	}, []string{"method", "route"})
	reg.MustRegister(requests, seconds)
	return func(o wire.Observation) {
		requests.WithLabelValues(o.Method, o.Route, strconv.Itoa(o.Status), o.Outcome).Inc()
		seconds.WithLabelValues(o.Method, o.Route).Observe(o.Duration.Seconds())
	}
}

// metricsHandler serves what can be gathered. The gauges that ask the database
// are missing while it is away; the others are wanted most just then, and an
// error in their place would show where the database is.
func metricsHandler(reg *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}

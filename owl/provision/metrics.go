package provision

import (
	"context"
	"errors"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"roost/owl/driver"
)

type metrics struct {
	calls       *prometheus.CounterVec
	results     *prometheus.CounterVec
	differences *prometheus.CounterVec
	unknown     prometheus.Gauge
	backlog     prometheus.Gauge
	oldest      prometheus.Gauge
}

func newMetrics(registry prometheus.Registerer) *metrics {
	f := promauto.With(registry)
	return &metrics{
		calls: f.NewCounterVec(prometheus.CounterOpts{
			Name: "owl_driver_calls_total", Help: "Driver calls by call and outcome: ok, failure, stale, removed, canceled or error.",
		}, []string{"call", "outcome"}),
		results: f.NewCounterVec(prometheus.CounterOpts{
			Name: "owl_provision_results_total", Help: "Results of claimed work: written, refused (claimed by another since), called_off or lost.",
		}, []string{"kind", "outcome"}),
		differences: f.NewCounterVec(prometheus.CounterOpts{
			Name: "owl_compare_differences_total", Help: "Differences between driver and registry, by what was done: applied_again or removed.",
		}, []string{"action"}),
		unknown: f.NewGauge(prometheus.GaugeOpts{
			Name: "owl_unknown_machines", Help: "Machines that the registry does not know, at the last comparison.",
		}),
		backlog: f.NewGauge(prometheus.GaugeOpts{
			Name: "owl_provision_backlog", Help: "CVMs and firewall rules that are not yet what they should be.",
		}),
		oldest: f.NewGauge(prometheus.GaugeOpts{
			Name: "owl_provision_oldest_seconds", Help: "Age of the oldest change that is not yet done, in seconds.",
		}),
	}
}

func outcomeOf(err error) string {
	var failure *driver.Failure
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &failure):
		return "failure"
	case errors.Is(err, driver.ErrStale):
		return "stale"
	case errors.Is(err, driver.ErrRemoved):
		return "removed"
	case errors.Is(err, context.Canceled):
		return "canceled"
	}
	return "error"
}

// waiting is the backlog at one moment.
type waiting struct {
	Rows   float64
	Oldest float64 // seconds
}

// sample measures the backlog.
func (p *Provisioner) sample(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, resultTimeout)
	defer cancel()
	var now waiting
	err := p.cfg.DB.WithContext(ctx).Raw(`SELECT count(*) AS rows,
			coalesce(extract(epoch FROM clock_timestamp() - min(updated_at)), 0) AS oldest
		FROM (SELECT updated_at FROM cvms WHERE due_at IS NOT NULL
			UNION ALL SELECT updated_at FROM firewall_rules WHERE due_at IS NOT NULL) due`).Find(&now).Error
	if err != nil {
		if ctx.Err() == nil {
			p.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "cannot measure the backlog", slog.Any("error", err))
		}
		return
	}
	p.metrics.backlog.Set(now.Rows)
	p.metrics.oldest.Set(now.Oldest)
}

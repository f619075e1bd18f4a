package maintenance

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"gorm.io/gorm"

	"roost/models"
)

// scrapeTimeout bounds the query behind the gauge of orphans.
const scrapeTimeout = time.Second

type metrics struct {
	reaped   *prometheus.CounterVec
	failures *prometheus.CounterVec
	sweeps   *prometheus.CounterVec
	due      *prometheus.CounterVec
	swept    prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer, db *gorm.DB) *metrics {
	m := &metrics{
		reaped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "roost_maintenance_reaped_total", Help: "Rows removed because nobody needs them any more, by kind.",
		}, []string{"kind"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "roost_maintenance_failures_total", Help: "Maintenance that did not get to its end, by what it was.",
		}, []string{"task"}),
		sweeps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "roost_sweeps_total", Help: "Comparisons of everything with Owl that got to their end, by what caused them.",
		}, []string{"cause"}),
		due: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "roost_sweep_due_total", Help: "Rows at rest that differed from Owl's and were made due, by kind.",
		}, []string{"kind"}),
		swept: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "roost_sweep_completed_timestamp_seconds", Help: "When this node last got to the end of a sweep.",
		}),
	}
	reg.MustRegister(m.reaped, m.failures, m.sweeps, m.due, m.swept, &orphanGauge{
		db:   db,
		desc: prometheus.NewDesc("roost_orphans", "What Owl has and Platform has never heard of, by kind.", []string{"kind"}, nil),
	})
	return m
}

// orphanGauge asks the database when it is scraped: every node shows the same.
type orphanGauge struct {
	db   *gorm.DB
	desc *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (g *orphanGauge) Describe(ch chan<- *prometheus.Desc) { ch <- g.desc }

// Collect implements prometheus.Collector.
func (g *orphanGauge) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	var counts []struct {
		Kind models.OrphanKind
		N    float64
	}
	err := g.db.WithContext(ctx).Raw(`SELECT kind, count(*) AS n FROM orphans GROUP BY kind`).Find(&counts).Error
	if err != nil {
		ch <- prometheus.NewInvalidMetric(g.desc, err)
		return
	}
	byKind := map[models.OrphanKind]float64{models.OrphanCVM: 0, models.OrphanFirewallRule: 0}
	for _, c := range counts {
		byKind[c.Kind] = c.N
	}
	for kind, n := range byKind {
		ch <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, n, string(kind))
	}
}

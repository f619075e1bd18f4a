package reconcile

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"gorm.io/gorm"
)

// scrapeTimeout bounds the query behind the backlog gauges.
const scrapeTimeout = time.Second

type metrics struct {
	pushes *prometheus.CounterVec
	stale  prometheus.Counter
	lost   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, db *gorm.DB) *metrics {
	m := &metrics{
		pushes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "roost_reconcile_pushes_total", Help: "Pushes to Owl, by verb and by what the answer meant.",
		}, []string{"verb", "outcome"}),
		stale: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "roost_reconcile_stale_results_total", Help: "Results refused because another worker had claimed the row since.",
		}),
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "roost_reconcile_lost_total", Help: "CVMs that Owl had confirmed and no longer knew.",
		}),
	}
	reg.MustRegister(m.pushes, m.stale, m.lost, &backlog{
		db:     db,
		rows:   prometheus.NewDesc("roost_reconcile_backlog", "CVMs that are not at rest.", nil, nil),
		oldest: prometheus.NewDesc("roost_reconcile_oldest_seconds", "How long the one of these that moved longest ago has stood still.", nil, nil),
	})
	return m
}

// backlog asks the database when it is scraped: the rows are the queue.
type backlog struct {
	db           *gorm.DB
	rows, oldest *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (b *backlog) Describe(ch chan<- *prometheus.Desc) { ch <- b.rows; ch <- b.oldest }

// waiting is the backlog at one moment.
type waiting struct {
	Rows   float64
	Oldest float64
}

// Collect implements prometheus.Collector.
func (b *backlog) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	var now waiting
	err := b.db.WithContext(ctx).Raw(`SELECT count(*) AS rows,
		COALESCE(EXTRACT(EPOCH FROM clock_timestamp() - min(updated_at)), 0)::float8 AS oldest
		FROM cvms WHERE reconcile_after IS NOT NULL`).Find(&now).Error
	if err != nil {
		ch <- prometheus.NewInvalidMetric(b.rows, err)
		return
	}
	ch <- prometheus.MustNewConstMetric(b.rows, prometheus.GaugeValue, now.Rows)
	ch <- prometheus.MustNewConstMetric(b.oldest, prometheus.GaugeValue, now.Oldest)
}

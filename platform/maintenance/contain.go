package maintenance

import (
	"context"
	"log/slog"
)

// contain runs one piece of work. What it cannot finish it does another time,
// and so does what panics: a fault in here must not take the service down.
func (m *Maintenance) contain(ctx context.Context, task string, work func() error) {
	err := m.hold.Run(task, work)
	if err == nil || ctx.Err() != nil {
		return
	}
	m.metrics.failures.WithLabelValues(task).Inc()
	m.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "maintenance failed; it is tried again",
		slog.String("task", task), slog.Any("error", err))
}

package pg

import (
	"context"
	"log/slog"
	"time"

	"gorm.io/gorm/logger"
)

// slowStatement is what gets a line in the log.
const slowStatement = time.Second

// quietLogger is gorm's way out to slog. Errors are returned to callers, who
// log them once; here are only slow statements, with placeholders.
type quietLogger struct{ log *slog.Logger }

func newQuietLogger(log *slog.Logger) logger.Interface {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return quietLogger{log: log}
}

// LogMode implements logger.Interface. The level is slog's business.
func (l quietLogger) LogMode(logger.LogLevel) logger.Interface { return l }

// Info implements logger.Interface and drops what it gets.
func (l quietLogger) Info(context.Context, string, ...any) {}

// Warn logs gorm's message without what it would put into it: those are values.
func (l quietLogger) Warn(ctx context.Context, message string, _ ...any) { l.complain(ctx, message) }

// Error is like Warn.
func (l quietLogger) Error(ctx context.Context, message string, _ ...any) { l.complain(ctx, message) }

func (l quietLogger) complain(ctx context.Context, message string) {
	l.log.LogAttrs(ctx, slog.LevelWarn, "gorm complains", slog.String("message_template", message))
}

// Trace logs a statement that took longer than slowStatement.
func (l quietLogger) Trace(ctx context.Context, begin time.Time, statement func() (string, int64), _ error) {
	took := time.Since(begin)
	if took < slowStatement || !l.log.Enabled(ctx, slog.LevelWarn) {
		return
	}
	sql, rows := statement()
	l.log.LogAttrs(ctx, slog.LevelWarn, "slow statement",
		slog.String("sql", sql), slog.Int64("rows", rows), slog.Int64("took_ms", took.Milliseconds()))
}

// ParamsFilter implements gorm.ParamsFilter: whatever gorm prints, it prints
// with placeholders.
func (l quietLogger) ParamsFilter(_ context.Context, sql string, _ ...any) (string, []any) {
	return sql, nil
}

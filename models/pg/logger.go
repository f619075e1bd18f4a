package pg

import (
	"context"
	"log/slog"
	"path/filepath"
	"time"

	"gorm.io/gorm/logger"
	"gorm.io/gorm/utils"
)

// slowStatement is what gets a line in the log.
const slowStatement = time.Second

// quietLogger is gorm's way out to slog. Errors are returned to callers, who
// log them once; here are only slow statements, by the line that sent them.
//
// Never by their text: gorm's Scan hands over a statement with its values in
// it, whatever ParamsFilter says, and specs hold ciphertexts.
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

// Trace logs where a statement was sent from that took longer than
// slowStatement.
func (l quietLogger) Trace(ctx context.Context, begin time.Time, _ func() (string, int64), _ error) {
	took := time.Since(begin)
	if took < slowStatement || !l.log.Enabled(ctx, slog.LevelWarn) {
		return
	}
	l.log.LogAttrs(ctx, slog.LevelWarn, "slow statement",
		slog.String("sent_from", filepath.Base(utils.FileWithLineNum())), slog.Int64("took_ms", took.Milliseconds()))
}

// ParamsFilter implements gorm.ParamsFilter: whatever else of gorm prints a
// statement prints it with placeholders.
func (l quietLogger) ParamsFilter(_ context.Context, sql string, _ ...any) (string, []any) {
	return sql, nil
}

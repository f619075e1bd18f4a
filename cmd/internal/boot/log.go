package boot

import (
	"io"
	"log/slog"
	"os"
)

// NewLogger writes JSON lines, or text where a person is watching.
func NewLogger(w io.Writer, service string) *slog.Logger {
	var handler slog.Handler = slog.NewJSONHandler(w, nil)
	if isTerminal(w) {
		handler = slog.NewTextHandler(w, nil)
	}
	return slog.New(handler).With(slog.String("service", service))
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

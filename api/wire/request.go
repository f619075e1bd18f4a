package wire

import (
	"context"
	"log/slog"
	"sync"
)

// request is what one request gathers on its way, for its log line.
type request struct {
	id         string
	transient  func(error) bool // see Config
	repeatable bool             // whatever became of it

	mu      sync.Mutex
	outcome string
	attrs   []slog.Attr
}

type requestKey struct{}

func withRequest(ctx context.Context, r *request) context.Context {
	return context.WithValue(ctx, requestKey{}, r)
}

func fromContext(ctx context.Context) *request {
	r, _ := ctx.Value(requestKey{}).(*request)
	return r
}

// RequestID is the ID of the request that ctx belongs to, or "".
func RequestID(ctx context.Context) string {
	if r := fromContext(ctx); r != nil {
		return r.id
	}
	return ""
}

// Note adds attributes to the request's log line. They must hold no secret:
// no token, no body, no spec.
func Note(ctx context.Context, attrs ...slog.Attr) {
	if r := fromContext(ctx); r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.attrs = append(r.attrs, attrs...)
	}
}

// SetOutcome labels the request in the log line and in the metrics, with a
// word from a small fixed set (executed, replayed, in_progress, mismatch, …).
func SetOutcome(ctx context.Context, outcome string) {
	if r := fromContext(ctx); r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.outcome = outcome
	}
}

func (r *request) finish() (outcome string, attrs []slog.Attr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.outcome, r.attrs
}

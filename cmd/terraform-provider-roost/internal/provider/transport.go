package provider

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/hashicorp/terraform-plugin-log/tflog"
)

// oneMeansOne makes a client send a request once. http.Transport sends one that
// carries an Idempotency-Key again by itself when a connection that it had kept
// turns out to be closed; with a connection for each request there is none.
func oneMeansOne(c *http.Client) {
	if t, ok := c.Transport.(*http.Transport); ok {
		t.DisableKeepAlives = true
	}
}

// logHandler hands the SDK's lines to Terraform's log (TF_LOG_PROVIDER=debug).
type logHandler struct{}

func (logHandler) Enabled(context.Context, slog.Level) bool { return true } // tflog decides

func (logHandler) Handle(ctx context.Context, r slog.Record) error {
	fields := make(map[string]any, r.NumAttrs())
	r.Attrs(func(a slog.Attr) bool {
		fields[a.Key] = a.Value.String()
		return true
	})
	tflog.Debug(ctx, r.Message, fields)
	return nil
}

func (h logHandler) WithAttrs([]slog.Attr) slog.Handler { return h } // the SDK has none
func (h logHandler) WithGroup(string) slog.Handler      { return h }

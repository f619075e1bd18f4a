package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"roost/api"
	"roost/api/client"
)

// redacted stands where a secret stood.
const redacted = "[redacted]"

// maxTracedBytes bounds what is shown of one body.
const maxTracedBytes = 16 << 10

// tracer shows exchanges on stderr as curl -v does: > what is sent, < what
// comes back, * what happens between. It shows copies; what is sent it leaves
// alone.
type tracer struct {
	env   Env
	token string
	http  *http.Client

	mu   sync.Mutex
	last time.Time // of the end of the exchange before
}

func newTracer(env Env, token string) *tracer {
	t := &tracer{env: env, token: token, http: client.NewHTTPClient()}
	t.http.Transport = &tracedTransport{tracer: t, next: t.http.Transport}
	return t
}

func (t *tracer) client() *http.Client { return t.http }

// logger receives the SDK's line for each attempt, which has its number and
// what was decided about it.
func (t *tracer) logger() *slog.Logger { return slog.New(attemptHandler{t}) }

// print writes whole lines. The token is looked for once more in all of it:
// some server may send back what it was sent.
func (t *tracer) print(mark, text string) {
	text = strings.ReplaceAll(text, t.token, redacted)
	for line := range strings.Lines(text) {
		_, _ = fmt.Fprintf(t.env.Err, "%s %s\n", mark, strings.TrimRight(line, "\r\n")) // nobody is left to tell
	}
}

// tracedTransport is the transport with the tracer before it.
type tracedTransport struct {
	tracer *tracer
	next   http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (t *tracedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	tr := t.tracer
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.request(req)
	begin := tr.env.Now()
	resp, err := t.next.RoundTrip(req)
	tr.last = tr.env.Now()
	if err != nil {
		tr.print("*", fmt.Sprintf("no answer after %s: %v", tr.last.Sub(begin).Round(time.Millisecond), err))
		return nil, err //nolint:wrapcheck // a transport's errors are the caller's to wrap
	}
	tr.response(resp, begin)
	return resp, nil
}

func (t *tracer) request(req *http.Request) {
	if !t.last.IsZero() {
		t.print("*", fmt.Sprintf("waited %s", t.env.Now().Sub(t.last).Round(time.Millisecond)))
	}
	t.print(">", req.Method+" "+req.URL.String())
	t.header(">", req.Header)
	if req.GetBody == nil {
		return
	}
	body, err := req.GetBody()
	if err != nil {
		return
	}
	content, _ := io.ReadAll(body) // bytes in memory
	t.body(">", content)
}

// response reads the body, shows it, and puts it back.
func (t *tracer) response(resp *http.Response, begin time.Time) {
	content, err := io.ReadAll(io.LimitReader(resp.Body, client.MaxAnswerBytes+1))
	_ = resp.Body.Close() // it was read, or cannot be
	t.last = t.env.Now()
	t.print("<", fmt.Sprintf("%s %s (%s)", resp.Proto, resp.Status, t.last.Sub(begin).Round(time.Millisecond)))
	t.header("<", resp.Header)
	t.body("<", content)
	resp.Body = io.NopCloser(bytes.NewReader(content))
	if err != nil {
		t.print("*", "the answer broke off: "+err.Error())
		resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader(content), brokenReader{err}))
	}
}

// brokenReader repeats the error that ended a body, for the SDK to judge.
type brokenReader struct{ err error }

func (r brokenReader) Read([]byte) (int, error) { return 0, r.err }

func (t *tracer) header(mark string, h http.Header) {
	for _, name := range slices.Sorted(maps.Keys(h)) {
		value := strings.Join(h[name], ", ")
		switch name {
		case "Authorization", http.CanonicalHeaderKey(api.HeaderAPIKey), "Cookie", "Set-Cookie", "Proxy-Authorization":
			value = redacted
		}
		t.print(mark, name+": "+value)
	}
}

// body shows JSON without its secrets. What is no JSON is only counted: there
// is no telling what is in it.
func (t *tracer) body(mark string, content []byte) {
	if len(content) == 0 {
		return
	}
	text, err := redact(content)
	if err != nil {
		text = fmt.Sprintf("[%d bytes that are no JSON]", len(content))
	}
	if len(text) > maxTracedBytes {
		text = text[:maxTracedBytes] + fmt.Sprintf("… [%d bytes in all]", len(content))
	}
	t.print(mark, text)
}

// redact replaces encrypted_env wherever it stands. Numbers keep their digits.
func redact(content []byte) (string, error) {
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return "", fmt.Errorf("read JSON: %w", err)
	}
	var out bytes.Buffer
	if err := writeJSON(&out, withoutSecrets(value)); err != nil {
		return "", err
	}
	return out.String(), nil
}

func withoutSecrets(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for name, member := range v {
			if strings.EqualFold(name, "encrypted_env") && member != nil {
				v[name] = redacted
			} else {
				v[name] = withoutSecrets(member)
			}
		}
	case []any:
		for i := range v {
			v[i] = withoutSecrets(v[i])
		}
	}
	return value
}

// attemptNotes says that an attempt was not answered, while the SDK goes on to
// the next one: silence would look like a machine that hangs.
type attemptNotes struct{ tool *tool }

// Enabled implements slog.Handler.
func (attemptNotes) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (h attemptNotes) Handle(_ context.Context, r slog.Record) error {
	seen := map[string]string{}
	r.Attrs(func(a slog.Attr) bool {
		seen[a.Key] = a.Value.String()
		return true
	})
	if seen["method"] == http.MethodGet || seen["verdict"] != "again" {
		return nil // reads have no outcome to worry about, and waits have a line of their own
	}
	what := "was not answered"
	if seen["error"] == "" {
		what = "was answered " + seen["status"]
	}
	h.tool.notef("Attempt %s %s.", seen["attempt"], what)
	return nil
}

// WithAttrs implements slog.Handler; the SDK adds none.
func (h attemptNotes) WithAttrs([]slog.Attr) slog.Handler { return h }

// WithGroup implements slog.Handler; the SDK makes none.
func (h attemptNotes) WithGroup(string) slog.Handler { return h }

// attemptHandler shows the SDK's line for each attempt.
type attemptHandler struct{ tracer *tracer }

// Enabled implements slog.Handler.
func (attemptHandler) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (h attemptHandler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(r.Message)
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %s=%s", a.Key, a.Value)
		return true
	})
	h.tracer.print("*", b.String())
	return nil
}

// WithAttrs implements slog.Handler; the SDK adds none.
func (h attemptHandler) WithAttrs([]slog.Attr) slog.Handler { return h }

// WithGroup implements slog.Handler; the SDK makes none.
func (h attemptHandler) WithGroup(string) slog.Handler { return h }

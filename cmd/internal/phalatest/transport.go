package phalatest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// What the provider does by itself.
const (
	version       = "2026-01-21"
	maxRetries    = 30
	longestWait   = 20 * time.Second
	clientTimeout = 30 * time.Second
	maxAnswer     = 16 << 20 // bytes
)

// ErrKilled is all that a killed client returns.
var ErrKilled = errors.New("the client was killed")

// Config is what a client is given: the provider's api_prefix and api_key.
type Config struct {
	Prefix string // ends in /api/v1
	Key    string
	// Pace is by what the provider's waits are multiplied. 1 is its own pace.
	Pace float64
	// Watch may look at every exchange. It must change nothing. May be nil.
	Watch func(http.RoundTripper) http.RoundTripper
}

// Client sends requests. It is safe for one goroutine at a time.
type Client struct {
	cfg  Config
	http *http.Client
	wire *http.Transport

	mu        sync.Mutex
	writes    []string // "METHOD route" of each write, in order, repeats included
	killAfter int      // writes; 0: never
	dead      bool
}

// New makes a client. It makes no call.
func New(cfg Config) *Client {
	wire := &http.Transport{}
	c := &Client{cfg: cfg, wire: wire, http: &http.Client{Timeout: clientTimeout, Transport: wire}}
	if cfg.Watch != nil {
		c.http.Transport = cfg.Watch(wire)
	}
	return c
}

// Close ends its connections.
func (c *Client) Close() { c.wire.CloseIdleConnections() }

// KillAfter kills the client right after its n-th write from now on was answered.
func (c *Client) KillAfter(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.killAfter = len(c.writes) + n
}

// Writes is the writes that were sent, as "POST /cvms/{}/start".
func (c *Client) Writes() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.writes)
}

// StatusError is an answer that is not 2xx, in the words that a user sees.
type StatusError struct {
	Status     int
	Text       string
	retryAfter time.Duration
}

// Error implements error.
func (e *StatusError) Error() string {
	return fmt.Sprintf("%d %s: %s", e.Status, http.StatusText(e.Status), e.Text)
}

func statusOf(err error) int {
	if e, ok := errors.AsType[*StatusError](err); ok {
		return e.Status
	}
	return 0
}

// call is one request of the provider.
type call struct {
	method string
	path   string // below /api/v1, escaped
	media  string // of body
	body   []byte
	// typed calls strip /api/v1 from the prefix and put it back.
	typed bool
	// strict answers must decode as the provider's VM when the status is 200.
	strict bool
}

func get(path string) call { return call{method: http.MethodGet, path: path} }

func (k call) json(v any) call {
	k.media = "application/json"
	k.body, _ = json.Marshal(v) //nolint:errchkjson // maps of plain values always encode
	return k
}

func (k call) text(media, body string) call { k.media, k.body = media, []byte(body); return k }
func (k call) viaTyped() call               { k.typed = true; return k }

// retried says which calls the provider repeats.
func (k call) retried() bool {
	switch k.method {
	case http.MethodPatch, http.MethodDelete:
		return true
	case http.MethodPost:
		return strings.HasSuffix(k.path, "/provision") || strings.HasSuffix(k.path, "/start") || strings.HasSuffix(k.path, "/stop")
	}
	return false
}

// do sends the call, and sends it again where the provider does.
func (c *Client) do(ctx context.Context, k call) ([]byte, error) {
	wait := time.Second
	for n := 0; ; n++ {
		body, err := c.once(ctx, k)
		pause, again := c.again(k, err, wait)
		if !again || n == maxRetries {
			return body, err
		}
		if err := c.pause(ctx, pause); err != nil {
			return nil, err
		}
		wait = min(2*wait, longestWait)
	}
}

// again decides whether a call is repeated, and after what wait.
func (*Client) again(k call, err error, wait time.Duration) (time.Duration, bool) {
	e, ok := errors.AsType[*StatusError](err)
	if !ok || !k.retried() {
		return 0, false
	}
	incompatible := e.Status == http.StatusBadRequest && strings.HasSuffix(k.path, "/provision") &&
		strings.Contains(e.Text, "configuration parameters are not compatible")
	if !transient(e.Status) && !incompatible {
		return 0, false
	}
	if e.retryAfter > 0 {
		return e.retryAfter, true
	}
	return wait, true
}

func transient(status int) bool {
	return status == http.StatusConflict || status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable
}

// pause waits in the client's pace.
func (c *Client) pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(time.Duration(float64(d) * c.cfg.Pace))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait: %w", context.Cause(ctx))
	}
}

func (c *Client) url(k call) string {
	prefix := strings.TrimRight(c.cfg.Prefix, "/")
	if k.typed {
		prefix = strings.TrimSuffix(prefix, "/api/v1") + "/api/v1"
	}
	return prefix + k.path
}

func (c *Client) once(ctx context.Context, k call) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, k.method, c.url(k), bytes.NewReader(k.body))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("X-API-Key", c.cfg.Key)
	req.Header.Set("X-Phala-Version", version)
	req.Header.Set("Accept", "*/*")
	if k.media != "" {
		req.Header.Set("Content-Type", k.media)
	}
	if err := c.alive(k); err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err := c.survive(k); err != nil {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", k.method, k.path, err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("%s %s: read answer: %w", k.method, k.path, err)
	}
	return body, k.judge(resp, body)
}

// alive counts a write, before it is sent.
func (c *Client) alive(k call) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return ErrKilled
	}
	if k.method != http.MethodGet {
		c.writes = append(c.writes, k.method+" "+route(k.path))
	}
	return nil
}

// survive kills the client when this was its last write.
func (c *Client) survive(k call) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.killAfter > 0 && k.method != http.MethodGet && len(c.writes) >= c.killAfter {
		c.dead = true
		return ErrKilled
	}
	return nil
}

// route is a path without its IDs.
func route(path string) string {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		if strings.Count(p, "-") == 4 { // a UUID
			parts[i] = "{}"
		}
	}
	return strings.Join(parts, "/")
}

// judge is what the provider makes of an answer, whatever it reads of it.
func (k call) judge(resp *http.Response, body []byte) error {
	if resp.StatusCode/100 != 2 {
		return &StatusError{Status: resp.StatusCode, Text: errorText(resp.StatusCode, body), retryAfter: retryAfter(resp.Header)}
	}
	if k.strict && resp.StatusCode == http.StatusOK && len(body) > 0 {
		var vm struct {
			ID        *int       `json:"id"`
			DiskSize  *int       `json:"disk_size"`
			Memory    *int       `json:"memory"`
			VCPU      *int       `json:"vcpu"`
			TeepodID  *int       `json:"teepod_id"`
			UserID    *int       `json:"user_id"`
			CreatedAt *time.Time `json:"created_at"`
		}
		if err := json.Unmarshal(body, &vm); err != nil {
			return fmt.Errorf("decode VM: %w", err)
		}
	}
	return nil
}

// errorText is what a user is shown of an error's body.
func errorText(status int, body []byte) string {
	var problem struct{ Message, Detail *string }
	if json.Unmarshal(body, &problem) != nil {
		return string(body)
	}
	switch {
	case problem.Message != nil && *problem.Message != "":
		return *problem.Message
	case problem.Detail != nil && *problem.Detail != "":
		return *problem.Detail
	}
	return fmt.Sprintf("%d %s", status, http.StatusText(status))
}

func retryAfter(h http.Header) time.Duration {
	raw := h.Get("Retry-After")
	if secs, err := strconv.Atoi(raw); err == nil {
		return time.Duration(secs) * time.Second
	}
	if at, err := http.ParseTime(raw); err == nil {
		return max(time.Until(at), 0)
	}
	return 0
}

func cvmPath(id string, more ...string) string {
	return "/cvms/" + url.PathEscape(id) + suffix(more)
}

// appPath leaves out a leading app_, as the provider does.
func appPath(id string, more ...string) string {
	return "/apps/" + url.PathEscape(strings.TrimPrefix(id, "app_")) + suffix(more)
}

func suffix(more []string) string {
	var b strings.Builder
	for _, m := range more {
		b.WriteString("/" + m)
	}
	return b.String()
}

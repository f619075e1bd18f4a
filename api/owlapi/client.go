package owlapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"roost/api"
)

// MaxResponseBytes bounds what the client reads of one answer: a full page of
// the largest records.
const MaxResponseBytes = (MaxBatchItems + 1) * MaxBodyBytes

// ErrUnknown marks an error after which nobody knows whether Owl did the work:
// no answer, a broken one, or one that is not what the contract says. The way
// out is to send the same request again.
var ErrUnknown = errors.New("outcome unknown")

// StatusError is an answer of Owl that is not 2xx. Whether it is final is the
// caller's to judge.
type StatusError struct {
	Status     int
	Problem    api.Problem   // zero but for Status if the body was no problem document
	RetryAfter time.Duration // 0: not given
}

// Error implements error.
func (e *StatusError) Error() string {
	return fmt.Sprintf("owl answered %d %s: %s", e.Status, e.Problem.ErrorCode, e.Problem.Detail)
}

// Config names an Owl.
type Config struct {
	BaseURL string       // such as http://127.0.0.1:8081
	Token   string       // empty: none is sent
	HTTP    *http.Client // nil: http.DefaultClient; gives the timeout and TLS
}

// Client calls Owl. Every method makes exactly one request and never repeats
// it, nor follows a redirect. (Go's transport may repeat a GET, once, on a
// reused connection that was dropped; that is harmless.) A method returns a
// *StatusError, or an error that is ErrUnknown.
type Client struct {
	base  string
	token string
	http  *http.Client
}

// New makes a Client. It copies cfg.HTTP.
func New(cfg Config) *Client {
	plain := http.Client{}
	if cfg.HTTP != nil {
		plain = *cfg.HTTP
	}
	plain.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{base: strings.TrimSuffix(cfg.BaseURL, "/"), token: cfg.Token, http: &plain}
}

type requestIDKey struct{}

// WithRequestID makes calls under ctx carry the Request-Id.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}

// CreateCVM posts a create. created is false if the ID existed.
func (c *Client) CreateCVM(ctx context.Context, create CreateCVM) (record CVM, created bool, err error) {
	status, err := c.call(ctx, request{http.MethodPost, PathCVMs, nil, create}, &record)
	return record, status == http.StatusCreated, err
}

// CreateCVMs posts a batch; both slices have the same order. The caller keeps
// to MaxBatchItems and MaxBatchBytes. Items are already encoded, so that the
// caller can measure them.
func (c *Client) CreateCVMs(ctx context.Context, items []json.RawMessage) ([]BatchItem, error) {
	var result BatchResult
	if _, err := c.call(ctx, request{http.MethodPost, PathCVMsBatch, nil, Batch{Items: items}}, &result); err != nil {
		return nil, err
	}
	if len(result.Items) != len(items) {
		return nil, fmt.Errorf("owl answered %d of %d items: %w", len(result.Items), len(items), ErrUnknown)
	}
	return result.Items, nil
}

// Decode returns what CreateCVM would have returned for the item.
func (i BatchItem) Decode() (record CVM, created bool, err error) {
	if i.Status/100 != 2 {
		return record, false, statusError(i.Status, nil, i.Body)
	}
	if err := json.Unmarshal(i.Body, &record); err != nil {
		return record, false, fmt.Errorf("decode a batch item: %w: %w", ErrUnknown, err)
	}
	return record, i.Status == http.StatusCreated, nil
}

// PutCVM puts a desired state and returns the record, applied or not.
func (c *Client) PutCVM(ctx context.Context, id api.ID, put PutCVM) (record CVM, err error) {
	_, err = c.call(ctx, request{http.MethodPut, item(PathCVM, id), nil, put}, &record)
	return record, err
}

// DeleteCVM deletes; a 410 is a *StatusError like any other.
func (c *Client) DeleteCVM(ctx context.Context, id api.ID) error {
	_, err := c.call(ctx, request{method: http.MethodDelete, path: item(PathCVM, id)}, nil)
	return err
}

// GetCVM reads one record.
func (c *Client) GetCVM(ctx context.Context, id api.ID) (record CVM, err error) {
	_, err = c.call(ctx, request{method: http.MethodGet, path: item(PathCVM, id)}, &record)
	return record, err
}

// List says which records a list call returns.
type List struct {
	IDs      []api.ID // these, at most MaxBatchItems, if not nil; otherwise
	After    *api.ID  // those after it (nil: from the first on),
	Limit    int      // so many (0: Owl's default)
	OmitSpec bool     // specs are left null
}

func (l List) query() url.Values {
	q := url.Values{}
	if l.IDs != nil {
		ids := make([]string, len(l.IDs))
		for i, id := range l.IDs {
			ids[i] = id.String()
		}
		q.Set("ids", strings.Join(ids, ","))
	}
	if l.After != nil {
		q.Set("after", l.After.String())
	}
	if l.Limit > 0 {
		q.Set("limit", strconv.Itoa(l.Limit))
	}
	if l.OmitSpec {
		q.Set("spec", "false")
	}
	return q
}

// CVMs reads records by ascending ID, tombstones included.
func (c *Client) CVMs(ctx context.Context, list List) ([]CVM, error) {
	return page[CVM](ctx, c, PathCVMs, list)
}

// page reads what a list call returns. To take an answer without items for an
// empty list would be to take everything for lost.
func page[T any](ctx context.Context, c *Client, path string, list List) ([]T, error) {
	var answer Items[T]
	_, err := c.call(ctx, request{http.MethodGet, path, list.query(), nil}, &answer)
	if err == nil && answer.Items == nil {
		err = fmt.Errorf("GET %s: an answer without items: %w", path, ErrUnknown)
	}
	return answer.Items, err
}

// CVMsByID reads how far the given CVMs are, without their specs. IDs that Owl
// does not know are missing from the answer.
func (c *Client) CVMsByID(ctx context.Context, ids []api.ID) ([]CVM, error) {
	return c.CVMs(ctx, List{IDs: ids, OmitSpec: true})
}

// CreateFirewallRule posts a create. created is false if the ID existed.
func (c *Client) CreateFirewallRule(
	ctx context.Context, create CreateFirewallRule,
) (record FirewallRule, created bool, err error) {
	status, err := c.call(ctx, request{http.MethodPost, PathFirewallRules, nil, create}, &record)
	return record, status == http.StatusCreated, err
}

// DeleteFirewallRule deletes; a 410 is a *StatusError like any other.
func (c *Client) DeleteFirewallRule(ctx context.Context, id api.ID) error {
	_, err := c.call(ctx, request{method: http.MethodDelete, path: item(PathFirewallRule, id)}, nil)
	return err
}

// GetFirewallRule reads one record.
func (c *Client) GetFirewallRule(ctx context.Context, id api.ID) (record FirewallRule, err error) {
	_, err = c.call(ctx, request{method: http.MethodGet, path: item(PathFirewallRule, id)}, &record)
	return record, err
}

// FirewallRules reads records by ascending ID, tombstones included.
func (c *Client) FirewallRules(ctx context.Context, list List) ([]FirewallRule, error) {
	return page[FirewallRule](ctx, c, PathFirewallRules, list)
}

func item(pattern string, id api.ID) string { return strings.Replace(pattern, "{id}", id.String(), 1) }

// request is one call. A nil body sends none.
type request struct {
	method, path string
	query        url.Values
	body         any
}

// call sends one request and decodes its answer into a value, if there is one.
func (c *Client) call(ctx context.Context, r request, into any) (status int, err error) {
	req, err := c.encode(ctx, r)
	if err != nil {
		return 0, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, fmt.Errorf("%s %s: %w: %w", r.method, r.path, ErrUnknown, err)
	}
	defer resp.Body.Close() //nolint:errcheck // the body was read
	body, err := io.ReadAll(io.LimitReader(resp.Body, MaxResponseBytes+1))
	if err != nil || len(body) > MaxResponseBytes {
		return 0, fmt.Errorf("%s %s: read the answer (%d bytes): %w: %w", r.method, r.path, len(body), ErrUnknown, err)
	}
	if resp.StatusCode/100 != 2 {
		return resp.StatusCode, statusError(resp.StatusCode, resp.Header, body)
	}
	if into != nil {
		if err := json.Unmarshal(body, into); err != nil {
			return 0, fmt.Errorf("%s %s: decode the answer: %w: %w", r.method, r.path, ErrUnknown, err)
		}
	}
	return resp.StatusCode, nil
}

func (c *Client) encode(ctx context.Context, r request) (*http.Request, error) {
	target := c.base + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	var body io.Reader
	if r.body != nil {
		data, err := encodeJSON(r.body)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.GetBody = nil // without it the transport cannot send a body twice
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if id, ok := ctx.Value(requestIDKey{}).(string); ok {
		req.Header.Set(api.HeaderRequestID, id)
	}
	return req, nil
}

// encodeJSON leaves <, > and & alone: they are as long as their senders think.
func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

func statusError(status int, header http.Header, body []byte) error {
	e := &StatusError{Status: status}
	mediaType, _, _ := mime.ParseMediaType(header.Get("Content-Type"))
	if header == nil || mediaType == api.ProblemContentType {
		if err := json.Unmarshal(body, &e.Problem); err != nil {
			e.Problem = api.Problem{}
		}
	}
	e.Problem.Status = status
	if seconds, err := strconv.Atoi(header.Get("Retry-After")); err == nil && seconds > 0 {
		e.RetryAfter = time.Duration(seconds) * time.Second
	}
	return e
}

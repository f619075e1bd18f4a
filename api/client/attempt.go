package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"mime"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"roost/api"
)

// MaxAnswerBytes bounds what is read of one answer. The largest honest one is
// an app's CVMs, which come without pages: about 1 KB each.
const MaxAnswerBytes = 64 << 20

// verdict says what to do about an attempt.
type verdict string

const (
	done  verdict = "done"  // a whole 2xx answer
	again verdict = "again" // no answer, or one that asks to come back
	final verdict = "final" // an answer that stays as it is
)

// exchange is one attempt and what came of it.
type exchange struct {
	attempt    int // from 1; 0: there was none
	verdict    verdict
	notDone    bool // this attempt has certainly changed nothing
	status     int
	header     http.Header
	problem    api.Problem
	requestID  string
	retryAfter time.Duration
	err        error // why there is no whole answer
}

// attempt sends the call once.
func (c *Client) attempt(ctx context.Context, cl call, n int) exchange {
	start := time.Now()
	attemptCtx, cancel := context.WithTimeout(ctx, min(cl.retry.AttemptTimeout, math.MaxInt64-cl.wait)+cl.wait)
	defer cancel()
	var wire wireTrace
	x := exchange{attempt: n}
	body, err := c.roundTrip(httptrace.WithClientTrace(attemptCtx, wire.hooks()), cl, &x)
	if err == nil && x.status/100 == 2 && cl.decode != nil {
		if err = cl.decode(body); err != nil {
			err = fmt.Errorf("%w: %w", ErrAnswer, err)
		}
	}
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		err = errAttemptTimeout // not wrapped: a DeadlineExceeded in the chain is the caller's or ErrDeadline
	}
	x.err = err
	x.judge(body, wire.nothingSent())
	c.logAttempt(ctx, cl, x, time.Since(start))
	return x
}

var errAttemptTimeout = errors.New("no whole answer within the attempt's time")

// roundTrip makes the request and reads its answer to the end.
func (c *Client) roundTrip(ctx context.Context, cl call, x *exchange) ([]byte, error) {
	req, err := c.request(ctx, cl)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnsendable, err)
	}
	resp, err := c.http.Do(req)
	if named, ok := errors.AsType[*url.Error](err); ok {
		err = named.Err // an Error names method and path already
	}
	if err != nil {
		return nil, err //nolint:wrapcheck // by Error
	}
	defer resp.Body.Close() //nolint:errcheck // the body was read
	x.status, x.header = resp.StatusCode, resp.Header
	x.requestID = resp.Header.Get(api.HeaderRequestID)
	x.retryAfter = retryAfter(resp.Header)
	body, err := io.ReadAll(io.LimitReader(resp.Body, MaxAnswerBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if len(body) > MaxAnswerBytes {
		return nil, fmt.Errorf("%w: %w", ErrAnswer, errTooLarge)
	}
	return body, nil
}

var errUnsendable = errors.New("make request")

var errTooLarge = fmt.Errorf("it is larger than %d bytes", MaxAnswerBytes)

func (c *Client) request(ctx context.Context, cl call) (*http.Request, error) {
	target := c.base + cl.path
	if len(cl.query) > 0 {
		target += "?" + cl.query.Encode()
	}
	var body io.Reader
	if cl.body != nil {
		body = bytes.NewReader(cl.body) // the transport can send it twice: it knows how to begin again
	}
	req, err := http.NewRequestWithContext(ctx, cl.method, target, body)
	if err != nil {
		return nil, err //nolint:wrapcheck // by the caller
	}
	req.Header.Set("Authorization", c.bearer())
	req.Header.Set("User-Agent", c.userAgent)
	req.Header.Set("Accept", "application/json, application/problem+json;q=0.9, */*;q=0.1")
	if cl.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if cl.key != "" {
		req.Header.Set(api.HeaderIdempotencyKey, api.FormatIdempotencyKey(cl.key))
	}
	return req, nil
}

// keyExpiresAt is until when the server knows the key.
func (x exchange) keyExpiresAt() *time.Time {
	at, err := time.Parse(time.RFC3339Nano, x.header.Get(api.HeaderIdempotencyKeyExpiresAt))
	if err != nil {
		return nil
	}
	return &at
}

// judge reads a problem document, if there is one, and decides.
func (x *exchange) judge(body []byte, nothingSent bool) {
	if x.err != nil {
		x.verdict, x.notDone = again, nothingSent || errors.Is(x.err, errUnsendable)
		if hopeless(x.err) {
			x.verdict = final
		}
		return
	}
	if x.status/100 == 2 {
		x.verdict = done
		return
	}
	said := x.readProblem(body)
	x.verdict = final
	if said == nil && retryableStatus(x.status) || said != nil && *said {
		x.verdict = again
	}
	x.notDone = refuses(x.status, x.verdict)
}

// readProblem returns what the document says about repeating, if anything.
func (x *exchange) readProblem(body []byte) (retryable *bool) {
	var p struct {
		api.Problem

		Retryable *bool `json:"retryable"`
	}
	mediaType, _, _ := mime.ParseMediaType(x.header.Get("Content-Type"))
	if mediaType != api.ProblemContentType || json.Unmarshal(body, &p) != nil {
		x.problem.Detail = x.stranger()
		return nil
	}
	x.problem = p.Problem
	if x.requestID == "" {
		x.requestID = p.RequestID
	}
	return p.Retryable
}

// stranger is the detail of an answer that is no problem document: somebody on
// the way gave it, and its status is all there is.
func (x *exchange) stranger() string {
	if to := x.header.Get("Location"); to != "" && x.status/100 == 3 {
		return "the endpoint redirects to " + to + ", and redirects are not followed: if that is the right one, use it as the endpoint"
	}
	return "the answer is not Roost's own"
}

// refuses reports whether the status says that the request was not and will
// not be carried out: a 4xx, but for those which say that it may be under way.
func refuses(status int, v verdict) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly:
		return false
	case http.StatusConflict:
		return v == final // else another request holds the key: perhaps an earlier attempt
	}
	return status/100 == 4
}

// retryableStatus judges answers that are no problem documents: gateways and
// proxies have their own.
func retryableStatus(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return status >= http.StatusInternalServerError
}

// hopeless reports whether an error comes back however often one tries.
func hopeless(err error) bool {
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	_, notTLS := errors.AsType[tls.RecordHeaderError](err)
	return untrusted || notTLS || errors.Is(err, http.ErrSchemeMismatch) ||
		errors.Is(err, errTooLarge) || errors.Is(err, errUnsendable)
}

// retryAfter reads both forms of the header (RFC 9110 section 10.2.3). It is 0
// for none, for nonsense and for an instant that has passed.
func retryAfter(h http.Header) time.Duration {
	value := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	now := time.Now()
	if sent, err := http.ParseTime(h.Get("Date")); err == nil {
		now = sent // the server's own clock: ours may differ
	}
	return max(0, at.Sub(now))
}

// wireTrace notes whether a request had a connection to go out on. Only
// http.Transport reports it; of any other one must assume that it sent.
type wireTrace struct{ asked, got atomic.Bool }

func (w *wireTrace) hooks() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn: func(string) { w.asked.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { w.got.Store(true) },
	}
}

func (w *wireTrace) nothingSent() bool { return w.asked.Load() && !w.got.Load() }

// logAttempt writes the one line. It knows neither the token nor any body.
func (c *Client) logAttempt(ctx context.Context, cl call, x exchange, took time.Duration) {
	if !c.log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	attrs := []slog.Attr{
		slog.String("method", cl.method), slog.String("path", cl.path), slog.Int("attempt", x.attempt),
		slog.Int("status", x.status), slog.String("verdict", string(x.verdict)),
		slog.Int64("duration_ms", took.Milliseconds()),
	}
	var failure string
	if x.err != nil {
		failure = x.err.Error()
	}
	for _, a := range []slog.Attr{
		slog.String("request_id", x.requestID), slog.String("idempotency_key", cl.key),
		slog.String("error_code", string(x.problem.ErrorCode)), slog.String("error", failure),
	} {
		if a.Value.String() != "" {
			attrs = append(attrs, a)
		}
	}
	c.log.LogAttrs(ctx, slog.LevelDebug, "roost: attempt", attrs...)
}

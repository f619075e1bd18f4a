package openapitest

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"testing"
)

// Transport checks every exchange that passes through it, and reports what
// Check returns. Requests without an answer, and answers that break off, pass
// unseen: they are what some tests are about.
func (d *Document) Transport(base http.RoundTripper, report func(error)) http.RoundTripper {
	return transport{document: d, base: base, report: report}
}

// OwlClient is an HTTP client for calls to Owl that fails the test where one
// is not as the document says. In benchmarks, which it would slow down, it is
// an ordinary one.
func OwlClient(tb testing.TB) *http.Client {
	tb.Helper()
	if _, measuring := tb.(*testing.B); measuring {
		return http.DefaultClient
	}
	document, err := Owl()
	if err != nil {
		tb.Fatal(err)
	}
	return &http.Client{Transport: document.Transport(http.DefaultTransport, func(err error) { tb.Errorf("%v", err) })}
}

type transport struct {
	document *Document
	base     http.RoundTripper
	report   func(error)
}

// RoundTrip implements http.RoundTripper.
func (t transport) RoundTrip(req *http.Request) (*http.Response, error) {
	sent, err := copyOf(req)
	if err != nil {
		return nil, err
	}
	resp, err := t.base.RoundTrip(req)
	if err != nil {
		return nil, err //nolint:wrapcheck // a transport adds nothing
	}
	answer, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close() // what was read is all there is
	if err != nil {
		resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader(answer), broken{err}))
		return resp, nil //nolint:nilerr // the reader of the answer meets it
	}
	resp.Body = io.NopCloser(bytes.NewReader(answer))
	x := Exchange{
		Method: req.Method, URL: req.URL.String(), Header: req.Header, Body: sent,
		Status: resp.StatusCode, AnswerHeader: resp.Header, Answer: answer,
	}
	if err := t.document.Check(req.Context(), x); err != nil {
		t.report(err)
	}
	return resp, nil
}

// copyOf reads a request's body and puts it back.
func copyOf(req *http.Request) ([]byte, error) {
	if req.Body == nil {
		return nil, nil
	}
	body, err := io.ReadAll(req.Body)
	_ = req.Body.Close() // what was read is all there is
	if err != nil {
		return nil, fmt.Errorf("read request body: %w", err)
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	return body, nil
}

// broken is the rest of an answer that broke off.
type broken struct{ err error }

// Read implements io.Reader.
func (b broken) Read([]byte) (int, error) { return 0, b.err }

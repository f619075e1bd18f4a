package lossy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of a proxy: it is for tests, whose requests are small.
const (
	maxBodyBytes   = 16 << 20 // of a request, and of an answer
	headerTimeout  = 10 * time.Second
	deliverTimeout = 2 * time.Minute // of one delivery, the longest poll included
)

// Proxy is a running proxy.
type Proxy struct {
	upstream atomic.Pointer[url.URL]
	policy   atomic.Pointer[Policy]
	journal  *journal

	listener  net.Listener
	server    *http.Server
	transport *http.Transport
	ctx       context.Context //nolint:containedctx // the proxy's life, which requests outlive their clients in
	cancel    context.CancelFunc
	wg        sync.WaitGroup
	entering  sync.Mutex // nothing begins once Close has
}

// TB is what Start needs of a testing.TB.
type TB interface {
	Helper()
	Cleanup(f func())
	Fatalf(format string, args ...any)
}

// Start is New for a test, with whose end the proxy ends.
func Start(tb TB, upstream string, policy Policy) *Proxy {
	tb.Helper()
	p, err := New(upstream, policy)
	if err != nil {
		tb.Fatalf("lossy: %v", err)
	}
	tb.Cleanup(p.Close)
	return p
}

// New starts a proxy in front of a base URL such as http://127.0.0.1:8081. A
// policy of nil lets everything pass.
func New(upstream string, policy Policy) (*Proxy, error) {
	p := &Proxy{journal: newJournal()}
	if err := p.SetUpstream(upstream); err != nil {
		return nil, err
	}
	p.SetPolicy(policy)
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it listens until Close
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	p.listener = listener
	p.ctx, p.cancel = context.WithCancel(context.Background())
	// A connection for each delivery: http.Transport sends a request again when
	// one that it had kept turns out to be closed.
	p.transport = &http.Transport{DisableKeepAlives: true, DisableCompression: true}
	p.server = &http.Server{
		Handler: http.HandlerFunc(p.serve), ReadHeaderTimeout: headerTimeout, ErrorLog: log.New(io.Discard, "", 0),
	}
	p.wg.Go(func() { _ = p.server.Serve(listener) }) // it ends with Close
	return p, nil
}

// URL is where clients send their requests.
func (p *Proxy) URL() string { return "http://" + p.listener.Addr().String() }

// SetUpstream sends later deliveries elsewhere.
func (p *Proxy) SetUpstream(upstream string) error {
	u, err := url.Parse(upstream)
	if err != nil {
		return fmt.Errorf("parse upstream: %w", err)
	}
	if u.Scheme != "http" || u.Host == "" {
		return errors.New("parse upstream: it must be http://HOST:PORT")
	}
	p.upstream.Store(u)
	return nil
}

// SetPolicy decides about later requests. nil lets everything pass.
func (p *Proxy) SetPolicy(policy Policy) {
	if policy == nil {
		policy = func(*Request) Fate { return Pass() }
	}
	p.policy.Store(&policy)
}

// Close cuts every connection, drops what is held, and returns when nothing
// runs any more.
func (p *Proxy) Close() {
	p.entering.Lock()
	p.cancel()
	p.entering.Unlock()
	_ = p.server.Close() // ends Serve, which reports nothing that matters
	p.wg.Wait()
}

// enter reports whether a request may begin.
func (p *Proxy) enter() bool {
	p.entering.Lock()
	defer p.entering.Unlock()
	if p.ctx.Err() != nil {
		return false
	}
	p.wg.Add(1)
	return true
}

// serve reads one request whole and lets its fate befall it.
func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	if !p.enter() {
		return
	}
	defer p.wg.Done()
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBodyBytes+1))
	if err != nil || len(body) > maxBodyBytes {
		cut(w)
		return
	}
	req := &Request{Number: p.journal.arrive(), Method: r.Method, Path: r.URL.RequestURI(), Header: r.Header, Body: body}
	fate := (*p.policy.Load())(req)
	c := &call{proxy: p, request: req, host: r.Host, at: p.journal.begin(req, fate), w: w, left: r.Context().Done()}
	defer p.journal.end(c.at)
	c.meet(fate) //nolint:contextcheck // what was accepted for delivery does not end with its client
}

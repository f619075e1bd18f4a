package lossy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"sync"
	"time"
)

// call is one request on its way through the proxy.
type call struct {
	proxy   *Proxy
	request *Request
	host    string
	at      int // in the journal
	w       http.ResponseWriter
	left    <-chan struct{} // closed when the client has left
}

// answer is the upstream's, read to its end.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// meet lets the fate befall the request. Deliveries go on without the client.
func (c *call) meet(fate Fate) {
	switch fate.kind {
	case pass:
		c.reply(c.deliver())
	case refuse:
		cut(c.w)
	case dropAnswer:
		_, _ = c.deliver() // what it says is what is lost
		cut(c.w)
	case tearAnswer:
		c.tear(fate.bytes)
	case duplicate:
		_, _ = c.deliver() // the second counts
		c.reply(c.deliver())
	case duplicateAtOnce:
		c.twice()
	case delay:
		if c.pause(fate.pause) {
			c.reply(c.deliver())
		}
	case hold:
		c.keep(fate.hold)
	case holdAnswer:
		_, _ = c.deliver() // what it says is what is lost
		c.await(fate.hold)
		cut(c.w)
	case blackhole:
		select {
		case <-c.left:
		case <-c.proxy.ctx.Done():
		}
		cut(c.w)
	}
}

// deliver sends the request to the upstream, once.
func (c *call) deliver() (*answer, error) {
	a, err := c.exchange()
	status := 0
	if err == nil {
		status = a.status
	}
	c.proxy.journal.answered(c.at, status)
	return a, err
}

func (c *call) exchange() (*answer, error) {
	ctx, cancel := context.WithTimeout(c.proxy.ctx, deliverTimeout)
	defer cancel()
	url := c.proxy.upstream.Load().Scheme + "://" + c.proxy.upstream.Load().Host + c.request.Path
	req, err := http.NewRequestWithContext(ctx, c.request.Method, url, bytes.NewReader(c.request.Body))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.Host, req.Header = c.host, c.request.Header.Clone()
	req.Header.Del("Connection") // says how this hop is used, not the next
	req.Header.Del("Expect")     // its body is here already
	if _, ok := req.Header["User-Agent"]; !ok {
		req.Header.Set("User-Agent", "") // or the transport would name itself
	}
	resp, err := c.proxy.transport.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("deliver: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBodyBytes))
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	return &answer{status: resp.StatusCode, header: resp.Header, body: body}, nil
}

// reply hands the answer on. Without one the client's connection is cut.
func (c *call) reply(a *answer, err error) {
	if err != nil {
		cut(c.w)
		return
	}
	header := c.w.Header()
	maps.Copy(header, a.header)
	header.Del("Connection")
	c.w.WriteHeader(a.status)
	_, _ = c.w.Write(a.body)                    // the client may have left,
	_ = http.NewResponseController(c.w).Flush() // and must not wait for what else happens
}

func (c *call) tear(n int) {
	a, err := c.deliver()
	if err != nil {
		cut(c.w)
		return
	}
	var whole bytes.Buffer
	resp := &http.Response{
		StatusCode: a.status, ProtoMajor: 1, ProtoMinor: 1, Header: a.header, Request: &http.Request{Method: c.request.Method},
		ContentLength: int64(len(a.body)), Body: io.NopCloser(bytes.NewReader(a.body)),
	}
	_ = resp.Write(&whole) // a buffer takes everything
	conn, _, err := http.NewResponseController(c.w).Hijack()
	if err != nil {
		return
	}
	_, _ = conn.Write(whole.Bytes()[:min(n, whole.Len())]) // the client may have left
	_ = conn.Close()                                       // not a reset: that could overtake what was written
}

// twice delivers the request two times at once.
func (c *call) twice() {
	var first sync.Once
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			a, err := c.deliver()
			if err == nil {
				first.Do(func() { c.reply(a, nil) })
			}
		})
	}
	wg.Wait()
	first.Do(func() { cut(c.w) })
}

// keep delivers the request when it is released, and drops the answer.
func (c *call) keep(h *Hold) {
	if c.await(h) {
		_, _ = c.deliver() // nobody waits for it
	}
	cut(c.w)
}

// await reports false when the proxy was closed before the release.
func (c *call) await(h *Hold) bool {
	h.arrive()
	select {
	case <-h.released:
		return true
	case <-c.proxy.ctx.Done():
		return false
	}
}

// pause reports false when the proxy was closed meanwhile.
func (c *call) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.proxy.ctx.Done():
		cut(c.w)
		return false
	}
}

// cut resets the client's connection.
func cut(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return // it is gone already
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // then Close sends a reset
	}
	_ = conn.Close()
}

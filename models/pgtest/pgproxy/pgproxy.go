// Package pgproxy stands between a client and Postgres and does to COMMIT what
// networks do: it loses the reply, or the request, or lets something happen in
// between; or it cuts all connections at once, or lets them die in silence. It
// is for tests.
//
// It promises that a Fate befalls a COMMIT and nothing else, and that a lost
// reply was produced: Postgres has committed, or is still at it.
package pgproxy

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
)

// Fate is what becomes of a COMMIT.
type Fate func() (deliver, reply bool)

// Pass lets a COMMIT through, and its reply.
func Pass() (deliver, reply bool) { return true, true }

// LoseReply lets Postgres commit and loses the answer.
func LoseReply() (deliver, reply bool) { return true, false }

// LoseRequest breaks the connection before Postgres hears of the COMMIT.
func LoseRequest() (deliver, reply bool) { return false, false }

// Proxy is a running proxy.
type Proxy struct {
	// URL is the database's URL, through the proxy.
	URL string

	upstream string
	wg       sync.WaitGroup

	mu      sync.Mutex
	fates   []Fate // of the next COMMITs; then they pass
	commits int
	refuse  int                       // of the next connections
	clients map[net.Conn]*atomic.Bool // whether it has died in silence
	cut     bool                      // once: requests to cancel are lost with the connections
}

// Start puts a proxy in front of the database. It ends with the test.
func Start(tb testing.TB, databaseURL string) *Proxy {
	tb.Helper()
	target, err := url.Parse(databaseURL)
	if err != nil {
		tb.Fatalf("parse database URL: %v", err)
	}
	listener, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("listen: %v", err)
	}
	p := &Proxy{upstream: target.Host, clients: map[net.Conn]*atomic.Bool{}}
	target.Host = listener.Addr().String()
	p.URL = target.String()
	p.wg.Go(func() { p.accept(listener) })
	tb.Cleanup(func() { _ = listener.Close(); p.Cut(); p.wg.Wait() })
	return p
}

// Next sets the fates of the next COMMITs, in order. Later ones pass.
func (p *Proxy) Next(fates ...Fate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fates = fates
}

// Refuse cuts the next n connections before they reach Postgres, as a server
// does that restarts.
func (p *Proxy) Refuse(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = n
}

// Cut cuts every client's connection at once. Postgres hears of it only when
// it next speaks to that client: a statement or a COMMIT that it is at goes on
// to its end. From then on requests to cancel are lost too, which a client sends
// on a connection of their own when one breaks.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	for client := range p.clients {
		_ = client.Close() // ends its relays
	}
}

// Strand makes every connection die in silence: it stays open, and nothing
// comes through any more, as when the other side's host is gone. New ones pass.
func (p *Proxy) Strand() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, dead := range p.clients {
		dead.Store(true)
	}
}

// wire is one end of a connection, until that dies in silence.
type wire struct {
	net.Conn

	dead *atomic.Bool
}

// Write implements io.Writer.
func (w wire) Write(b []byte) (int, error) {
	if w.dead.Load() {
		return len(b), nil
	}
	return w.Conn.Write(b)
}

// losesCancel reports whether the packet asks to cancel what another
// connection is at, and is to be lost.
func (p *Proxy) losesCancel(packet []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	const length, code = 16, 80877102 // of a CancelRequest
	return p.cut && len(packet) == length && binary.BigEndian.Uint32(packet[4:]) == code
}

// track remembers a client's connection, and forgets it when it ends.
func (p *Proxy) track(client net.Conn) (dead *atomic.Bool, forget func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	dead = &atomic.Bool{}
	p.clients[client] = dead
	return dead, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.clients, client)
	}
}

func (p *Proxy) refuses() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse == 0 {
		return false
	}
	p.refuse--
	return true
}

// Commits is how many COMMITs the proxy has seen.
func (p *Proxy) Commits() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.commits
}

func (p *Proxy) fate() Fate {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.commits++
	if len(p.fates) == 0 {
		return Pass
	}
	next := p.fates[0]
	p.fates = p.fates[1:]
	return next
}

func (p *Proxy) accept(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() {
			if err := p.serve(client); err != nil {
				_ = client.Close()
			}
		})
	}
}

// serve copies both ways until one side closes or a COMMIT is lost.
func (p *Proxy) serve(client net.Conn) error {
	defer client.Close() //nolint:errcheck // ends the other direction
	dead, forget := p.track(client)
	defer forget()
	if p.refuses() {
		return nil
	}
	server, err := new(net.Dialer).DialContext(context.Background(), "tcp", p.upstream)
	if err != nil {
		return fmt.Errorf("dial upstream: %w", err)
	}
	defer server.Close() //nolint:errcheck // ends the other direction
	var deaf atomic.Bool // set once replies are lost
	var replies sync.WaitGroup
	replies.Go(func() {
		defer client.Close() //nolint:errcheck // ends the other direction
		relay(wire{client, dead}, server, func([]byte) bool { return !deaf.Load() })
	})
	defer replies.Wait()
	relay(wire{server, dead}, client, func(request []byte) bool {
		if p.losesCancel(request) {
			return false
		}
		if !bytes.Contains(bytes.ToLower(request), []byte("commit\x00")) {
			return true
		}
		deliver, reply := p.fate()()
		if !reply {
			deaf.Store(true)
		}
		return deliver
	})
	return server.Close()
}

// relay copies chunks while pass says so.
func relay(to, from net.Conn, pass func([]byte) bool) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 && !pass(buffer[:n]) {
			return
		}
		if _, writeErr := to.Write(buffer[:n]); err != nil || writeErr != nil {
			return
		}
	}
}

package pg_test

import (
	"bytes"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"roost/models/pg"
)

// What the proxy does when the client sends COMMIT.
const (
	passCommit   = iota
	dropReply    // Postgres commits, and the answer is lost
	dropRequest  // the connection breaks before Postgres hears of it
	killSessions // an operator ends the session first
)

// commitProxy sits between a client and Postgres.
type commitProxy struct {
	upstream string
	mode     atomic.Int32
	onKill   func()
	wg       sync.WaitGroup
}

// startProxy returns a proxy and the bundle's URL through it.
func startProxy(t *testing.T, b *testBundle) (*commitProxy, string) {
	t.Helper()
	target, err := url.Parse(b.url)
	require.NoError(t, err)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &commitProxy{upstream: target.Host}
	p.wg.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(client) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		p.wg.Wait()
	})
	target.Host = listener.Addr().String()
	return p, target.String()
}

func (p *commitProxy) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", p.upstream)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	var replies sync.WaitGroup
	var deaf atomic.Bool
	replies.Go(func() {
		defer func() { _ = client.Close() }()
		copyUntil(client, server, func([]byte) bool { return deaf.Load() })
	})
	copyUntil(server, client, func(request []byte) bool {
		if !bytes.Contains(bytes.ToLower(request), []byte("commit\x00")) {
			return false
		}
		switch p.mode.Load() {
		case dropReply:
			deaf.Store(true)
		case dropRequest:
			return true
		case killSessions:
			p.onKill()
		}
		return false
	})
	_ = server.Close()
	replies.Wait()
}

// copyUntil copies until stop says so of what was read, before it is passed on.
func copyUntil(to, from net.Conn, stop func([]byte) bool) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 && stop(buffer[:n]) {
			return
		}
		if _, writeErr := to.Write(buffer[:n]); err != nil || writeErr != nil {
			return
		}
	}
}

func TestCommitWhoseReplyIsLostIsUnknown(t *testing.T) {
	t.Parallel()
	b := setup(t)
	proxy, address := startProxy(t, b)
	db := b.open(t, pg.Config{URL: address})
	proxy.mode.Store(dropReply)
	err := pg.InTx(t.Context(), db, func(tx *gorm.DB) error { return insert(tx, 1, "one") })
	require.ErrorIs(t, err, pg.ErrCommitUnknown)
	require.True(t, pg.IsTransient(err))
	require.Equal(t, 1, b.count(t), "the row is there")

	// The way out: the same again, now with an answer.
	proxy.mode.Store(passCommit)
	err = pg.InTx(t.Context(), db, func(tx *gorm.DB) error { return insert(tx, 1, "one") })
	require.True(t, pg.IsDuplicate(err))
}

func TestCommitThatNeverArrivedIsUnknown(t *testing.T) {
	t.Parallel()
	b := setup(t)
	proxy, address := startProxy(t, b)
	db := b.open(t, pg.Config{URL: address})
	proxy.mode.Store(dropRequest)
	err := pg.InTx(t.Context(), db, func(tx *gorm.DB) error { return insert(tx, 1, "one") })
	require.ErrorIs(t, err, pg.ErrCommitUnknown)
	require.Zero(t, b.count(t))
}

// TestFatalAnswerToCommitIsUnknown: 57P01 says that the session ended, not what
// became of the transaction.
func TestFatalAnswerToCommitIsUnknown(t *testing.T) {
	t.Parallel()
	b := setup(t)
	proxy, address := startProxy(t, b)
	db := b.open(t, pg.Config{URL: address, AppName: "victim"})
	proxy.onKill = func() {
		if err := b.db.Exec("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'victim'").Error; err != nil {
			t.Errorf("terminate: %v", err)
		}
	}
	proxy.mode.Store(killSessions)
	err := pg.InTx(t.Context(), db, func(tx *gorm.DB) error { return insert(tx, 1, "one") })
	require.ErrorIs(t, err, pg.ErrCommitUnknown)
	require.True(t, pg.IsTransient(err))
	require.Zero(t, b.count(t))
}

// TestCommitThatPostgresRefusesIsKnown: a deferred constraint speaks at COMMIT.
func TestCommitThatPostgresRefusesIsKnown(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, b.db.Exec("CREATE TABLE late (n int, CONSTRAINT late_n UNIQUE (n) DEFERRABLE INITIALLY DEFERRED)").Error)
	err := pg.InTx(t.Context(), b.db, func(tx *gorm.DB) error {
		return tx.Exec("INSERT INTO late VALUES (1), (1)").Error
	})
	require.NotErrorIs(t, err, pg.ErrCommitUnknown)
	require.True(t, pg.IsDuplicate(err))
	require.Equal(t, "late_n", pg.Constraint(err))
}

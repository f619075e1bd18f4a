package boot_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"roost/cmd/internal/boot"
)

// testDeadline bounds every wait of these tests.
const testDeadline = 20 * time.Second

type serverBundle struct {
	addr string
	stop context.CancelFunc
	done chan error
}

func startServer(t *testing.T, service boot.Service) *serverBundle {
	t.Helper()
	listener, err := boot.Listen(t.Context(), "TEST_ADDR", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	service.Listener = listener
	service.Logger = slog.New(slog.DiscardHandler)
	if service.Run == nil {
		service.Run = func(ctx context.Context) error { <-ctx.Done(); return nil }
	}
	ctx, stop := context.WithCancel(t.Context())
	b := &serverBundle{addr: listener.Addr().String(), stop: stop, done: make(chan error, 1)}
	go func() { b.done <- boot.Serve(ctx, service) }()
	t.Cleanup(stop)
	return b
}

func (b *serverBundle) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-b.done:
		return err
	case <-time.After(testDeadline):
		t.Fatal("Serve did not return")
		return nil
	}
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(testDeadline)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestSlowHeaderIsCutOff(t *testing.T) {
	t.Parallel()
	b := startServer(t, boot.Service{Handler: http.NotFoundHandler()})
	conn := dial(t, b.addr)
	begin := time.Now()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "); err != nil {
		t.Fatal(err)
	}
	_, err := io.Copy(io.Discard, conn)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatal("the server kept a connection that never finished its header")
	}
	if took := time.Since(begin); took < boot.ReadHeaderTimeout/2 || took > 2*boot.ReadHeaderTimeout {
		t.Errorf("cut off after %s, want about %s", took, boot.ReadHeaderTimeout)
	}
}

func TestLargeHeaderIsRefused(t *testing.T) {
	t.Parallel()
	b := startServer(t, boot.Service{Handler: http.NotFoundHandler()})
	conn := dial(t, b.addr)
	go func() {
		// The server may close before it has read all of it.
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nX-Large: "+strings.Repeat("a", 2*boot.MaxHeaderBytes)+"\r\n\r\n")
	}()
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("status %d, want 431", response.StatusCode)
	}
}

func TestServeFinishesRequestsThenLoops(t *testing.T) {
	t.Parallel()
	arrived, finish := make(chan struct{}), make(chan struct{})
	answered, loopSawAnswer := make(chan struct{}), make(chan bool, 1)
	b := startServer(t, boot.Service{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			close(arrived)
			<-finish
			w.WriteHeader(http.StatusAccepted)
			close(answered)
		}),
		Run: func(ctx context.Context) error {
			<-ctx.Done()
			select {
			case <-answered:
				loopSawAnswer <- true
			default:
				loopSawAnswer <- false
			}
			return ctx.Err()
		},
	})
	conn := dial(t, b.addr)
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-arrived
	b.stop()
	awaitRefused(t, b.addr)
	close(finish)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("a request under way was cut off: %v", err)
	}
	_ = response.Body.Close()
	if err := b.wait(t); err != nil {
		t.Errorf("Serve: %v", err)
	}
	if !<-loopSawAnswer {
		t.Error("the loops were stopped before the last request was answered")
	}
}

// awaitRefused waits until nobody listens any more.
func awaitRefused(t *testing.T, addr string) {
	t.Helper()
	for deadline := time.Now().Add(testDeadline); time.Now().Before(deadline); {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
		if err != nil {
			return
		}
		_ = conn.Close()
	}
	t.Fatal("the server still accepts")
}

func TestServeEndsWithItsLoops(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	b := startServer(t, boot.Service{
		Handler: http.NotFoundHandler(),
		Run:     func(context.Context) error { return broken },
	})
	if err := b.wait(t); !errors.Is(err, broken) {
		t.Errorf("Serve returned %v, want the loops' error", err)
	}
}

func TestListenNamesTheVariable(t *testing.T) {
	t.Parallel()
	first, err := boot.Listen(t.Context(), "TEST_ADDR", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = first.Close() }()
	_, err = boot.Listen(t.Context(), "TEST_ADDR", first.Addr().String())
	if err == nil || !strings.Contains(err.Error(), "TEST_ADDR") {
		t.Errorf("error %v, want one that names TEST_ADDR", err)
	}
}

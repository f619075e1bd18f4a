package client_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/client"
)

// listening starts a real server and a client of it with the SDK's own
// transport: these are the laws that need sockets.
func listening(t *testing.T, retry client.Retry, h http.HandlerFunc) (*client.Client, *httptest.Server) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	c, err := client.New(client.Config{Endpoint: s.URL, Token: secret, Retry: retry})
	require.NoError(t, err)
	t.Cleanup(c.CloseIdleConnections)
	return c, s
}

func say(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

// TestTheTransportItselfRepeatsARequestWithAKey: Go's http.Transport sends a
// POST again, unasked, when a connection that it had kept is dropped, and says
// nothing of it. With the key on it that is harmless.
func TestTheTransportItselfRepeatsARequestWithAKey(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var seen []string
	c, _ := listening(t, client.Retry{MaxAttempts: 1}, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		seen = append(seen, r.Header.Get(api.HeaderIdempotencyKey)+string(body))
		n := len(seen)
		mu.Unlock()
		if n == 2 {
			panic(http.ErrAbortHandler) // done, and the answer lost
		}
		say(w, http.StatusAccepted, cvmBody)
	})
	_, err := c.StopCVM(t.Context(), vmID) // leaves a connection to be kept
	require.NoError(t, err)
	r, err := c.Replicate(t.Context(), appID, vmID, "copy")
	require.NoError(t, err)
	require.Equal(t, 1, r.Attempts, "as far as the SDK knows")
	require.Len(t, seen, 3)
	require.Equal(t, r.IdempotencyKey+`{"name":"copy"}`, seen[1])
	require.Equal(t, seen[1], seen[2])
}

// TestTheTransportDoesNotRepeatADelete, which carries no key: the SDK does, and
// takes its own success for one.
func TestTheTransportDoesNotRepeatADelete(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	deletes := 0
	c, _ := listening(t, client.Retry{MinBackoff: time.Millisecond}, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case r.Method == http.MethodGet:
			say(w, http.StatusOK, cvmBody)
		case deletes == 0:
			deletes++
			panic(http.ErrAbortHandler)
		default:
			deletes++
			w.Header().Set("Content-Type", api.ProblemContentType)
			w.WriteHeader(http.StatusGone)
			_, _ = io.WriteString(w, `{"status":410,"error_code":"RESOURCE_DELETED","retryable":false}`)
		}
	})
	_, err := c.CVM(t.Context(), vmID)
	require.NoError(t, err)
	r, err := c.DeleteCVM(t.Context(), vmID)
	require.NoError(t, err)
	require.Equal(t, 2, r.Attempts)
	require.Equal(t, 2, deletes)
}

func TestWhatNeverLeftIsNotDone(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close()) // now nobody listens there
	c, err := client.New(client.Config{
		Endpoint: "http://" + listener.Addr().String(), Token: secret, Retry: client.Retry{MaxAttempts: 3, MinBackoff: time.Millisecond},
	})
	require.NoError(t, err)
	_, err = c.Replicate(t.Context(), appID, vmID, "")
	e := fail(t, err)
	require.Equal(t, client.OutcomeNotDone, e.Outcome)
	require.Equal(t, 3, e.Attempts)
	require.True(t, e.Retryable)
	var refused *net.OpError
	require.ErrorAs(t, err, &refused, "the network's error is in the chain")
	require.True(t, client.IsUnavailable(err))
}

// TestADialErrorAfterASilentRepeatIsUnknown: the transport sent the request on
// a kept connection, lost it, and found nobody when it tried again. Its error
// is that of the dial; the request was sent all the same.
func TestADialErrorAfterASilentRepeatIsUnknown(t *testing.T) {
	t.Parallel()
	var s *httptest.Server
	var once sync.Once
	c, s := listening(t, client.Retry{MaxAttempts: 1}, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			say(w, http.StatusOK, cvmBody)
			return
		}
		once.Do(func() { _ = s.Listener.Close() })
		panic(http.ErrAbortHandler)
	})
	_, err := c.CVM(t.Context(), vmID)
	require.NoError(t, err)
	_, err = c.Replicate(t.Context(), appID, vmID, "")
	require.ErrorContains(t, err, "connection refused")
	require.True(t, client.IsUnknown(err))
}

// cable is a connection that can be cut without either end being told.
type cable struct {
	net.Conn

	cut *atomic.Bool
}

func (c cable) Write(b []byte) (int, error) {
	if c.cut.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b) //nolint:wrapcheck // stands in for it
}

// pipes is a listener whom one reaches by dial alone.
type pipes struct {
	net.Listener

	ends chan net.Conn
}

func (p pipes) Accept() (net.Conn, error) {
	if end, ok := <-p.ends; ok {
		return end, nil
	}
	return nil, net.ErrClosed
}

func (p pipes) Close() error {
	err := p.Listener.Close() // the first time alone it is nil
	if err == nil {
		close(p.ends)
	}
	return err //nolint:wrapcheck // stands in for it
}

// TestADeadConnectionOfHTTP2IsLeftWithinAnAttempt: all calls share it, and it
// outlives their timeouts, so that without a ping each repeat would die on it.
func TestADeadConnectionOfHTTP2IsLeftWithinAnAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			assert.Equal(t, 2, r.ProtoMajor)
			say(w, http.StatusAccepted, cvmBody)
		}))
		network := pipes{Listener: s.Listener, ends: make(chan net.Conn, 9)}
		s.Listener, s.EnableHTTP2 = network, true
		s.StartTLS()
		defer s.Close()

		var dialed []cable
		hc := client.NewHTTPClient()
		transport, _ := hc.Transport.(*http.Transport)
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		transport.TLSClientConfig.RootCAs.AddCert(s.Certificate())
		transport.DialContext = func(context.Context, string, string) (net.Conn, error) {
			here, there := net.Pipe()
			network.ends <- there
			dialed = append(dialed, cable{here, new(atomic.Bool)})
			return dialed[len(dialed)-1], nil
		}
		c, err := client.New(client.Config{Endpoint: "https://example.com", Token: secret, HTTPClient: hc})
		require.NoError(t, err)
		_, err = c.CVM(t.Context(), vmID)
		require.NoError(t, err)

		dialed[0].cut.Store(true)
		start := time.Now()
		_, err = c.StopCVM(t.Context(), vmID)
		require.NoError(t, err)
		require.Less(t, time.Since(start), 20*time.Second)
		require.Len(t, dialed, 2)
		for _, d := range dialed {
			require.NoError(t, d.Close())
		}
	})
}

func TestAWrongEndpointIsNotTriedForMinutes(t *testing.T) {
	t.Parallel()
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { say(w, 200, cvmBody) }))
	t.Cleanup(plain.Close)
	secure := httptest.NewUnstartedServer(plain.Config.Handler)
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo) // it complains about us
	secure.StartTLS()
	t.Cleanup(secure.Close)
	for _, wrong := range []string{strings.Replace(plain.URL, "http:", "https:", 1), secure.URL} {
		c, err := client.New(client.Config{Endpoint: wrong, Token: secret, Retry: client.Retry{Deadline: 5 * time.Second}})
		require.NoError(t, err)
		_, err = c.StopCVM(t.Context(), vmID)
		e := fail(t, err)
		require.Equal(t, 1, e.Attempts, "%v", err)
		require.Equal(t, client.OutcomeNotDone, e.Outcome)
		require.False(t, e.Retryable)
	}
}

func TestARedirectIsNotFollowedAndTheTokenIsShownToNobodyElse(t *testing.T) {
	t.Parallel()
	visited := make(chan http.Header, 10)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		visited <- r.Header
		say(w, 200, cvmBody)
	}))
	t.Cleanup(elsewhere.Close)
	c, _ := listening(t, client.Retry{Deadline: 5 * time.Second}, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
	})
	_, err := c.StopCVM(t.Context(), vmID)
	require.Equal(t, http.StatusTemporaryRedirect, fail(t, err).Status)
	require.ErrorContains(t, err, elsewhere.URL, "where to is said, for whoever set the endpoint")
	_, err = c.CVM(t.Context(), vmID)
	require.Equal(t, http.StatusTemporaryRedirect, fail(t, err).Status)
	require.Empty(t, visited)
}

func TestAnAnswerOverTheLimitIsNotReadOn(t *testing.T) {
	t.Parallel()
	c, _ := listening(t, client.Retry{Deadline: 10 * time.Second}, func(w http.ResponseWriter, _ *http.Request) {
		chunk := bytes.Repeat([]byte(" "), 1<<20)
		for {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	})
	_, err := c.StopCVM(t.Context(), vmID)
	require.ErrorIs(t, err, client.ErrAnswer)
	e := fail(t, err)
	require.Equal(t, 1, e.Attempts)
	require.True(t, client.IsUnknown(err))
}

// TestEveryAttemptIsOneDebugLineWithoutSecrets also looks at what %+v and slog
// make of a client and of its configuration.
func TestEveryAttemptIsOneDebugLineWithoutSecrets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		cfg := client.Config{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
		b := setupWith(t, cfg, lost, refusal(api.CodeUnavailable), torn(accepted), accepted)
		r, err := b.CreateCVM(t.Context(), spec())
		require.NoError(t, err)
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		require.Len(t, lines, 4)
		for i, line := range lines {
			require.Contains(t, line, "level=DEBUG")
			require.Contains(t, line, fmt.Sprint("attempt=", i+1))
			require.Contains(t, line, "idempotency_key="+r.IdempotencyKey)
		}
		require.Contains(t, lines[0], errNetwork.Error())
		require.Contains(t, lines[1], "error_code=UNAVAILABLE")

		_, err = setup(t, client.Retry{MaxAttempts: 1}, lost).CreateCVM(t.Context(), spec())
		cfg.Token = secret
		fmt.Fprintf(&log, "%+v %#v %v %+v", b.Client, b.Client, err, fail(t, err))
		slog.New(slog.NewTextHandler(&log, nil)).LogAttrs(t.Context(), slog.LevelInfo, "", slog.Any("config", cfg))
		require.NotContains(t, log.String(), secret)
		require.NotContains(t, log.String(), env)
	})
}

// TestWithoutDebugNothingIsLogged keeps a quiet program quiet.
func TestWithoutDebugNothingIsLogged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		b := setupWith(t, client.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}, lost, accepted)
		_, err := b.StopCVM(t.Context(), vmID)
		require.NoError(t, err)
		require.Empty(t, log.String())
	})
}

func TestEndpointsAreTakenAsPeopleWriteThem(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"http://127.0.0.1:8080":             "http://127.0.0.1:8080/api/v1",
		"http://127.0.0.1:8080/":            "http://127.0.0.1:8080/api/v1",
		"http://127.0.0.1:8080/api/v1":      "http://127.0.0.1:8080/api/v1",
		"http://127.0.0.1:8080/api/v1/":     "http://127.0.0.1:8080/api/v1",
		"https://roost.test/behind/a/proxy": "https://roost.test/behind/a/proxy/api/v1",
		"https://[::1]:443/api/v1//":        "https://[::1]:443/api/v1",
		"http://[fe80::1%25eth0]:8080/":     "http://[fe80::1%25eth0]:8080/api/v1",
	} {
		c, err := client.New(client.Config{Endpoint: given, Token: secret})
		require.NoError(t, err, given)
		require.Equal(t, want, c.Endpoint(), given)
	}
	for _, bad := range []string{
		"", "roost.test", "127.0.0.1:8080", "ftp://roost.test", "http://", "http://:8080", "http://:password@roost.test", "http://u:" + secret + "@h\x7f",
		"http://roost.test?x=1", "http://roost.test#x", "http://roost.test/%zz",
	} {
		_, err := client.New(client.Config{Endpoint: bad, Token: secret})
		require.Error(t, err, bad)
		require.NotContains(t, err.Error(), secret)
		require.NotContains(t, err.Error(), "password@")
	}
	for _, bad := range []string{"", "two words", "line\n" + secret, "é"} {
		_, err := client.New(client.Config{Endpoint: endpoint, Token: bad})
		require.Error(t, err, bad)
		require.NotContains(t, err.Error(), secret)
	}
	_, err := client.New(client.Config{Endpoint: endpoint, Token: secret, UserAgent: "a\r\nb"})
	require.Error(t, err)
}

func TestTheCallersHTTPClientIsLeftAsItIs(t *testing.T) {
	t.Parallel()
	given := &http.Client{Transport: http.DefaultTransport}
	_, err := client.New(client.Config{Endpoint: endpoint, Token: secret, HTTPClient: given})
	require.NoError(t, err)
	require.Nil(t, given.CheckRedirect)
}

func TestTheUserAgentNamesBoth(t *testing.T) {
	t.Parallel()
	b := setupWith(t, client.Config{UserAgent: "terraform-provider-roost/1.2"}, accepted)
	_, err := b.StopCVM(t.Context(), vmID)
	require.NoError(t, err)
	require.Regexp(t, `^terraform-provider-roost/1\.2 roost-go/\d`, b.requests()[0].header.Get("User-Agent"))
}

func TestManyCallsAtOnceShareAClient(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	times := map[string]int{}
	c, _ := listening(t, client.Retry{MinBackoff: time.Millisecond, BudgetBurst: 1000}, func(w http.ResponseWriter, r *http.Request) {
		key := r.Header.Get(api.HeaderIdempotencyKey)
		mu.Lock()
		times[key]++
		first := times[key] == 1
		mu.Unlock()
		if first {
			panic(http.ErrAbortHandler)
		}
		say(w, http.StatusAccepted, cvmBody)
	})
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			if _, err := c.Replicate(ctx, appID, vmID, ""); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.Len(t, times, 100)
}

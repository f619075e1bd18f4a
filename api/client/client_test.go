package client_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/client"
)

// server answers as its handlers say, one after the other, the last of them
// for ever, and keeps what it was sent.
type server struct {
	*httptest.Server

	mu       sync.Mutex
	received []received
	handlers []http.HandlerFunc
}

type received struct {
	method, path, body string
	header             http.Header
}

func newServer(t *testing.T, handlers ...http.HandlerFunc) *server {
	t.Helper()
	s := &server{handlers: handlers}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.received = append(s.received, received{r.Method, r.RequestURI, string(body), r.Header})
	h := s.handlers[min(len(s.received), len(s.handlers))-1]
	s.mu.Unlock()
	h(w, r)
}

func lose(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func accept(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set(api.HeaderRequestID, "01J00000000000000000000000")
	w.WriteHeader(http.StatusAccepted)
	_, _ = io.WriteString(w, `{"vm_uuid":"0198c0de-1234-7abc-8def-0123456789ab","id":"0198c0de-1234-7abc-8def-0123456789ab","status":"provisioning","new":1}`)
}

func TestACallWhoseAnswerIsLostIsMadeAgainUnderItsKey(t *testing.T) {
	t.Parallel()
	s := newServer(t, lose, lose, accept)
	c, err := client.New(client.Config{Endpoint: s.URL, Token: "t", Retry: client.Retry{MinBackoff: time.Millisecond}})
	require.NoError(t, err)
	r, err := c.CreateCVM(t.Context(), api.Spec{Name: "web", InstanceType: "tdx.small"})
	require.NoError(t, err)
	require.Equal(t, 3, r.Attempts)
	require.Len(t, s.received, 3)
	for _, sent := range s.received {
		require.Equal(t, r.IdempotencyKey, sent.header.Get("Idempotency-Key"))
		require.Equal(t, s.received[0].body, sent.body)
		require.Equal(t, "/api/v1/cvms", sent.path)
	}
}

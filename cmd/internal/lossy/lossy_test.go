package lossy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"roost/cmd/internal/lossy"
)

// bundle is a proxy in front of an upstream that counts and echoes.
type bundle struct {
	*lossy.Proxy

	t        *testing.T
	upstream *httptest.Server
	seen     atomic.Int64
	last     atomic.Pointer[http.Request]
}

func setup(t *testing.T, policy lossy.Policy) *bundle {
	t.Helper()
	b := &bundle{t: t}
	b.upstream = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		b.last.Store(r.Clone(context.WithoutCancel(r.Context())))
		w.Header().Set("X-Twice", "1")
		w.Header().Add("X-Twice", "2")
		w.WriteHeader(http.StatusAccepted)
		_, _ = fmt.Fprintf(w, "%d %s", b.seen.Add(1), body)
	}))
	t.Cleanup(b.upstream.Close)
	b.Proxy = lossy.Start(t, b.upstream.URL, policy)
	return b
}

// post returns the body of the answer.
func (b *bundle) post(ctx context.Context, path, body string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.URL()+path, strings.NewReader(body))
	require.NoError(b.t, err)
	req.Header.Set("Idempotency-Key", "k")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // it would send again by itself
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	answer, err := io.ReadAll(resp.Body)
	return string(answer), err
}

// ended waits until the first exchange is over.
func (b *bundle) ended() lossy.Exchange {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	e, err := b.Await(ctx, func(e lossy.Exchange) bool { return e.Done })
	require.NoError(b.t, err)
	return e
}

// endedAt is ended for the exchange of a path.
func (b *bundle) endedAt(path string) lossy.Exchange {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	e, err := b.Await(ctx, func(e lossy.Exchange) bool { return e.Path == path && e.Done })
	require.NoError(b.t, err)
	return e
}

func TestPassChangesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, b.URL()+"/a%2Fb/c?x=%20y", strings.NewReader("body"))
	require.NoError(t, err)
	req.Header["X-Key"] = []string{"one", "two"}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close() //nolint:errcheck // it was read
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, "1 body", string(answer))
	require.Equal(t, http.StatusAccepted, resp.StatusCode)
	require.Equal(t, []string{"1", "2"}, resp.Header["X-Twice"])
	got := b.last.Load()
	require.Equal(t, "/a%2Fb/c?x=%20y", got.RequestURI)
	require.Equal(t, []string{"one", "two"}, got.Header["X-Key"])
	require.Equal(t, b.URL(), "http://"+got.Host)
	e := b.ended()
	require.Equal(t, lossy.Exchange{
		Number: 1, Method: "PUT", Path: "/a%2Fb/c?x=%20y", Fate: "pass", At: e.At, Statuses: []int{http.StatusAccepted}, Done: true, EndedAt: e.EndedAt,
	}, e)
}

func TestEachFate(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		fate       lossy.Fate
		deliveries int
		answer     string // "": none
		err        error
	}{
		{fate: lossy.Pass(), deliveries: 1, answer: "1 x"},
		{fate: lossy.Refuse(), err: syscall.ECONNRESET},
		{fate: lossy.DropAnswer(), deliveries: 1, err: syscall.ECONNRESET},
		{fate: lossy.TearAnswer(20), deliveries: 1, err: io.ErrUnexpectedEOF},
		{fate: lossy.Duplicate(), deliveries: 2, answer: "2 x"},
		{fate: lossy.DuplicateAtOnce(), deliveries: 2, answer: " x"},
		{fate: lossy.Delay(time.Millisecond), deliveries: 1, answer: "1 x"},
	} {
		t.Run(tc.fate.String(), func(t *testing.T) {
			t.Parallel()
			b := setup(t, lossy.Always(lossy.Writes, tc.fate))
			answer, err := b.post(t.Context(), "/", "x")
			require.ErrorIs(t, err, tc.err)
			require.True(t, strings.HasSuffix(answer, tc.answer), answer)
			e := b.ended()
			require.Len(t, e.Statuses, tc.deliveries)
			require.Equal(t, "k", e.Key)
			require.EqualValues(t, tc.deliveries, b.seen.Load())
			require.Equal(t, 1, b.Count(tc.fate.String()))
		})
	}
}

func TestATornAnswerArrivesUpToTheTear(t *testing.T) {
	t.Parallel()
	whole := setup(t, lossy.Always(lossy.Any, lossy.TearAnswer(10_000)))
	answer, err := whole.post(t.Context(), "/", "0123456789")
	require.NoError(t, err, "all of it is no tear")
	require.Equal(t, "1 0123456789", answer)

	head := len("HTTP/1.1 202 Accepted\r\nContent-Length: 12\r\nContent-Type: text/plain; charset=utf-8\r\n" +
		"Date: Sat, 21 Nov 2026 23:00:00 GMT\r\nX-Twice: 1\r\nX-Twice: 2\r\n\r\n")
	torn := setup(t, lossy.Always(lossy.Any, lossy.TearAnswer(head+5)))
	answer, err = torn.post(t.Context(), "/", "0123456789")
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Equal(t, "1 012", answer)
}

// TestAHeldRequestIsDeliveredToNobody: the client has long left.
func TestAHeldRequestIsDeliveredToNobody(t *testing.T) {
	t.Parallel()
	hold := lossy.NewHold()
	b := setup(t, lossy.Nth(1, lossy.Writes, hold.Fate()))
	ctx, leave := context.WithCancel(t.Context())
	go func() { <-hold.Held(); leave() }()
	_, err := b.post(ctx, "/first", "x")
	require.ErrorIs(t, err, context.Canceled)
	answer, err := b.post(t.Context(), "/second", "y")
	require.NoError(t, err)
	require.Equal(t, "1 y", answer, "others overtake it")
	hold.Release()
	require.Equal(t, []int{http.StatusAccepted}, b.endedAt("/first").Statuses)
	require.EqualValues(t, 2, b.seen.Load())
}

// TestAHeldAnswer: the upstream has done it when Held says so, the client does
// not hear of it, and a release brings nothing but the end.
func TestAHeldAnswer(t *testing.T) {
	t.Parallel()
	hold := lossy.NewHold()
	b := setup(t, lossy.Nth(1, lossy.Writes, hold.Answer()))
	failed := make(chan error, 1)
	go func() { _, err := b.post(context.Background(), "/first", "x"); failed <- err }()
	<-hold.Held()
	require.EqualValues(t, 1, b.seen.Load())
	require.Empty(t, failed)
	hold.Release()
	require.ErrorIs(t, <-failed, syscall.ECONNRESET)
	require.Equal(t, 1, b.Count("hold answer"))
}

func TestABlackHoleEndsWhenTheClientLeaves(t *testing.T) {
	t.Parallel()
	b := setup(t, lossy.Always(lossy.Any, lossy.Blackhole()))
	ctx, leave := context.WithCancel(t.Context())
	go func() {
		defer leave()
		_, _ = b.Await(ctx, func(lossy.Exchange) bool { return true }) // it has arrived
	}()
	_, err := b.post(ctx, "/", "x")
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, b.ended().Statuses)
	require.Zero(t, b.seen.Load())
}

func TestAnUpstreamThatIsAwayCutsTheConnection(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	require.NoError(t, b.SetUpstream("http://127.0.0.1:1"))
	_, err := b.post(t.Context(), "/", "x")
	require.ErrorIs(t, err, syscall.ECONNRESET)
	require.Equal(t, []int{0}, b.ended().Statuses)
	require.NoError(t, b.SetUpstream(b.upstream.URL))
	_, err = b.post(t.Context(), "/", "x")
	require.NoError(t, err)
	for _, bad := range []string{"127.0.0.1:1", "https://127.0.0.1:1", "http://", ":"} {
		require.Error(t, b.SetUpstream(bad), bad)
	}
}

func TestCloseEndsWhatIsHeld(t *testing.T) {
	t.Parallel()
	for name, fate := range map[string]lossy.Fate{
		"hold": lossy.NewHold().Fate(), "blackhole": lossy.Blackhole(), "delay": lossy.Delay(time.Hour),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, lossy.Always(lossy.Any, fate))
			failed := make(chan error, 1)
			go func() { _, err := b.post(context.Background(), "/", "x"); failed <- err }()
			_, err := b.Await(t.Context(), func(lossy.Exchange) bool { return true })
			require.NoError(t, err)
			b.Close()
			require.Error(t, <-failed)
			require.Zero(t, b.seen.Load())
			b.Close() // again
		})
	}
}

func TestPolicies(t *testing.T) {
	t.Parallel()
	get := &lossy.Request{Method: http.MethodGet, Path: "/v1/cvms?ids=a"}
	put := &lossy.Request{Method: http.MethodPut, Path: "/v1/cvms/a"}
	require.True(t, lossy.Route("GET", "/v1/cvms")(get))
	require.True(t, lossy.Route("PUT", "/v1/cvms/*")(put))
	require.False(t, lossy.Route("PUT", "/v1/cvms")(put))
	require.False(t, lossy.Route("PUT", "[")(put))
	require.False(t, lossy.Writes(get))

	second := lossy.Nth(2, lossy.Writes, lossy.Refuse())
	require.Equal(t, "pass", second(put).String())
	require.Equal(t, "pass", second(get).String())
	require.Equal(t, "refuse", second(put).String())
	require.Equal(t, "pass", second(put).String())
	require.Equal(t, "drop answer", lossy.Always(lossy.Any, lossy.DropAnswer())(get).String())
}

func TestTheSameSeedDrawsTheSameFates(t *testing.T) {
	t.Parallel()
	draw := func(seed uint64) (fates []string, counts map[string]int) {
		policy := lossy.Seeded(seed, lossy.Writes, lossy.Chance{Probability: 0.3, Fate: lossy.DropAnswer()},
			lossy.Chance{Probability: 0.2, Fate: lossy.Duplicate()})
		counts = map[string]int{}
		for range 1000 {
			f := policy(&lossy.Request{Method: http.MethodPost}).String()
			fates, counts[f] = append(fates, f), counts[f]+1
		}
		return fates, counts
	}
	one, counts := draw(1)
	again, _ := draw(1)
	other, _ := draw(2)
	require.Equal(t, one, again)
	require.NotEqual(t, one, other)
	require.InDelta(t, 300, counts["drop answer"], 60)
	require.InDelta(t, 200, counts["duplicate"], 50)
	require.InDelta(t, 500, counts["pass"], 70)
}

// TestManyAtOnceAreAllCounted: what the journal says is what the upstream saw.
func TestManyAtOnceAreAllCounted(t *testing.T) {
	t.Parallel()
	b := setup(t, lossy.Seeded(7, lossy.Writes, lossy.Chance{Probability: 0.2, Fate: lossy.Refuse()},
		lossy.Chance{Probability: 0.2, Fate: lossy.DropAnswer()}, lossy.Chance{Probability: 0.2, Fate: lossy.DuplicateAtOnce()}))
	var wg sync.WaitGroup
	var failed atomic.Int64
	for range 20 {
		wg.Go(func() {
			for range 20 {
				if _, err := b.post(t.Context(), "/", "x"); err != nil {
					if !errors.Is(err, syscall.ECONNRESET) {
						t.Errorf("not as a cut: %v", err)
					}
					failed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	b.Close() // what was answered first may still be delivered again
	require.EqualValues(t, b.Count("refuse")+b.Count("drop answer"), failed.Load())
	deliveries := 0
	for _, e := range b.Exchanges() {
		require.True(t, e.Done)
		deliveries += len(e.Statuses)
	}
	require.Len(t, b.Exchanges(), 400)
	require.GreaterOrEqual(t, int64(deliveries), b.seen.Load())
	require.Equal(t, 400-b.Count("refuse")+b.Count("duplicate at once"), deliveries)
}

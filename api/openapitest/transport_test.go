package openapitest_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"roost/api"
)

// serve answers every request alike and returns what it was sent.
func serve(t *testing.T, answer http.HandlerFunc) (url string, got func() string) {
	t.Helper()
	bodies := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // a client that is gone is not this test's matter
		bodies <- string(body)
		answer(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL, func() string { return <-bodies }
}

func TestTransportChangesNothingAndReportsWhatDiffers(t *testing.T) {
	t.Parallel()
	_, owl := setup(t)
	record := example(t, owl, "CVM")
	for body, wrong := range map[string]int{record: 0, strings.Replace(record, `"power":"running"`, `"power":"on"`, 1): 1} {
		url, got := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(api.HeaderRequestID, requestID)
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, body)
		})
		var reported []error
		client := &http.Client{Transport: owl.Transport(http.DefaultTransport, func(err error) { reported = append(reported, err) })}
		const put = `{"generation":2,"power":"running","spec":{}}`
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url+"/v1/cvms/"+cvmID, strings.NewReader(put))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close() //nolint:errcheck // the body was read
		answer, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, body, string(answer))
		require.Equal(t, put, got())
		require.Len(t, reported, wrong)
	}
}

func TestTransportLetsBrokenAnswersThrough(t *testing.T) {
	t.Parallel()
	_, owl := setup(t)
	url, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "half")
	})
	client := &http.Client{Transport: owl.Transport(http.DefaultTransport, func(err error) { t.Errorf("%v", err) })}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/v1/cvms", http.NoBody)
	require.NoError(t, err)
	resp, err := client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close() //nolint:errcheck // the body was read
	body, err := io.ReadAll(resp.Body)
	require.True(t, errors.Is(err, io.ErrUnexpectedEOF), "%v", err)
	require.Equal(t, "half", string(body))
}

package apitest_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/apitest"
)

// recorder is a test that only notes that it failed.
type recorder struct {
	testing.TB

	errors []string
}

// Errorf implements testing.TB.
func (r *recorder) Errorf(format string, args ...any) {
	r.errors = append(r.errors, fmt.Sprintf(format, args...))
}

func TestAnAnswerThatIsNotInTheDocumentFailsTheTest(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(api.HeaderRequestID, "01M800J8P9E67370HG38FB34XA")
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/api/v1/apps" {
			_, _ = io.WriteString(w, `{"items":[],"next_cursor":null}`)
			return
		}
		_, _ = io.WriteString(w, `{}`)
	}))
	t.Cleanup(server.Close)
	for path, fails := range map[string]bool{"/apps": false, "/operations": true, "/nothing": true} {
		r := &recorder{TB: t}
		reply := apitest.Client{T: r, URL: server.URL, Token: "t"}.Get(path)
		require.Equal(t, http.StatusOK, reply.Status, "the answer is shown all the same")
		require.Equal(t, fails, len(r.errors) > 0, "%s: %v", path, r.errors)
	}
	r := &recorder{TB: t}
	apitest.Client{T: r, URL: server.URL, Token: "t"}.Raw("/v1/cvms")
	require.Len(t, r.errors, 1, "Owl's document is for calls to Owl")
}

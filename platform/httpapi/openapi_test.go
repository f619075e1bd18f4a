package httpapi_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/openapitest"
	"roost/platform/httpapi"
)

// setup is the edge alone, for what needs neither token nor database.
func setup(t *testing.T) *gin.Engine {
	t.Helper()
	engine, ok := httpapi.New(httpapi.Config{
		Minter: api.NewMinter(), Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
	}).(*gin.Engine)
	require.True(t, ok)
	return engine
}

func get(t *testing.T, engine *gin.Engine, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	engine.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	return w
}

// Both directions: what is served is written down, what is written down is served.
func TestRoutesAndDocumentAgree(t *testing.T) {
	t.Parallel()
	document, err := openapitest.Platform()
	require.NoError(t, err)
	var served, gets, heads []string
	for _, r := range setup(t).Routes() {
		switch r.Method {
		case http.MethodHead: // the document says once that it goes where GET goes
			heads = append(heads, r.Path)
			continue
		case http.MethodGet:
			gets = append(gets, r.Path)
		}
		served = append(served, r.Method+" "+openapitest.Pattern(r.Path))
	}
	require.ElementsMatch(t, document.Operations(), served)
	require.ElementsMatch(t, gets, heads)
}

func TestEveryCodeIsInTheDocument(t *testing.T) {
	t.Parallel()
	document, err := openapitest.Platform()
	require.NoError(t, err)
	var known []any
	for _, code := range api.Codes() {
		// Two codes are names for another one's status, and have none of their own.
		if wire := (&api.Error{Code: code}).Problem("").ErrorCode; wire == code {
			known = append(known, string(code))
		}
	}
	require.ElementsMatch(t, known, document.Spec().Components.Schemas["ErrorCode"].Value.Enum)
}

func TestTheDocumentIsServedAsItIs(t *testing.T) {
	t.Parallel()
	w := get(t, setup(t), "/openapi.yaml")
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, "application/yaml", w.Header().Get("Content-Type"))
	require.Equal(t, string(api.OpenAPI()), w.Body.String())
	_, err := openapitest.Parse(w.Body.Bytes())
	require.NoError(t, err)
}

func TestThePageIsServedAndMayRunNothing(t *testing.T) {
	t.Parallel()
	engine := setup(t)
	w := get(t, engine, "/docs")
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	require.Equal(t, "text/html; charset=utf-8", w.Header().Get("Content-Type"))
	require.True(t, strings.HasPrefix(w.Header().Get("Content-Security-Policy"), "default-src 'none'"))
	require.True(t, strings.HasPrefix(w.Body.String(), "<!doctype html>"), w.Body.String()[:100])
	require.Equal(t, w.Body.String(), get(t, engine, "/docs").Body.String())
}

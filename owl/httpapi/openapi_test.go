package httpapi_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/openapitest"
	"roost/owl/httpapi"
)

// setup is the edge alone, for what needs neither token nor database.
func setup(t *testing.T) *gin.Engine {
	t.Helper()
	engine, ok := httpapi.New(httpapi.Config{
		Minter: api.NewMinter(), Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Token: "secret",
	}).(*gin.Engine)
	require.True(t, ok)
	return engine
}

// Both directions: what is served is written down, what is written down is served.
func TestRoutesAndDocumentAgree(t *testing.T) {
	t.Parallel()
	document, err := openapitest.Owl()
	require.NoError(t, err)
	var served []string
	for _, r := range setup(t).Routes() {
		served = append(served, r.Method+" "+openapitest.Pattern(r.Path))
	}
	require.ElementsMatch(t, document.Operations(), served)
}

func TestItsCodesAreTheContracts(t *testing.T) {
	t.Parallel()
	document, err := openapitest.Owl()
	require.NoError(t, err)
	known := map[any]bool{}
	for _, code := range api.Codes() {
		known[string((&api.Error{Code: code}).Problem("").ErrorCode)] = true
	}
	codes := document.Spec().Components.Schemas["Problem"].Value.Properties["error_code"].Value.Enum
	require.Contains(t, codes, any(string(api.CodeIDConflict)))
	for _, code := range codes {
		require.True(t, known[code], code)
	}
}

// TestEveryProblemTypeHasItsPage, for which no token is needed.
func TestEveryProblemTypeHasItsPage(t *testing.T) {
	t.Parallel()
	engine := setup(t)
	for _, code := range api.Codes() {
		w := httptest.NewRecorder()
		path := (&api.Error{Code: code}).Problem("").Type
		engine.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		require.Equal(t, http.StatusOK, w.Code, path)
		require.Contains(t, w.Body.String(), code.Title())
	}
}

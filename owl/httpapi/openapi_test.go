package httpapi_test

import (
	"log/slog"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/openapitest"
	"roost/owl/httpapi"
)

// Both directions: what is served is written down, what is written down is served.
func TestRoutesAndDocumentAgree(t *testing.T) {
	t.Parallel()
	document, err := openapitest.Owl()
	require.NoError(t, err)
	engine, ok := httpapi.New(httpapi.Config{
		Minter: api.NewMinter(), Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
	}).(*gin.Engine)
	require.True(t, ok)
	var served []string
	for _, r := range engine.Routes() {
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

package owlapitest

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/owlapi"
)

func edgeLaws() map[string]func(*testBundle) {
	return map[string]func(*testBundle){
		"errors/401 without the token":            (*testBundle).tokenIsRequired,
		"errors/404 405 413 415":                  (*testBundle).edgesAreProblems,
		"errors/nesting over the limit":           (*testBundle).nestingIsBounded,
		"Request-Id/a ULID is taken over":         (*testBundle).requestIDIsTakenOver,
		"operability/healthz and readyz":          (*testBundle).healthAndReadiness,
		"client/a request ID travels with a call": (*testBundle).clientSendsItsRequestID,
	}
}

func (b *testBundle) tokenIsRequired() {
	r := b.request()
	for _, token := range []string{"", "wrong", b.server.Token + "x", strings.ToUpper(b.server.Token) + "Y"} {
		stranger := owlapi.New(owlapi.Config{BaseURL: b.server.URL, Token: token, HTTP: b.http})
		_, _, err := stranger.CreateCVM(b.ctx, r)
		b.requireStatus(err, http.StatusUnauthorized, api.CodeUnauthenticated)
		_, err = stranger.GetCVM(b.ctx, r.ID)
		b.requireStatus(err, http.StatusUnauthorized, api.CodeUnauthenticated)
	}
	_, err := b.GetCVM(b.ctx, r.ID)
	b.requireStatus(err, http.StatusNotFound, api.CodeNotFound)
}

func (b *testBundle) edgesAreProblems() {
	b.rawProblem(http.MethodGet, "/v1/nothing", "", http.StatusNotFound)
	b.rawProblem(http.MethodPatch, owlapi.PathCVMs, "", http.StatusMethodNotAllowed)
	large := `{"name":"` + strings.Repeat("a", owlapi.MaxBodyBytes) + `"}`
	b.rawProblem(http.MethodPost, owlapi.PathCVMs, large, http.StatusRequestEntityTooLarge)
	got := b.raw(http.MethodPost, owlapi.PathCVMs, `{}`, http.Header{"Content-Type": {"text/yaml"}})
	require.Equal(b.t, http.StatusUnsupportedMediaType, got.status)
	require.Equal(b.t, api.ProblemContentType, got.header.Get("Content-Type"))
}

func (b *testBundle) nestingIsBounded() {
	deep := `{"spec":` + strings.Repeat(`{"a":`, 1000) + `1` + strings.Repeat(`}`, 1000) + `}`
	b.rawProblem(http.MethodPost, owlapi.PathCVMs, deep, http.StatusBadRequest)
	item := json.RawMessage(`{"spec":` + strings.Repeat(`{"a":`, 40) + `1` + strings.Repeat(`}`, 41))
	require.Equal(b.t, []int{400, 201}, statuses(b.batch(item, b.request())), "it refuses itself, not its neighbours")
	// What the public API takes at its limit, Owl takes with a batch around it.
	r := b.request()
	const levels = api.MaxJSONDepth
	r.Spec = json.RawMessage(strings.Repeat(`{"a":`, levels) + `1` + strings.Repeat(`}`, levels))
	require.Equal(b.t, []int{201}, statuses(b.batch(r)))
	_, _, err := b.CreateCVM(b.ctx, r)
	require.NoError(b.t, err)
}

func (b *testBundle) requestIDIsTakenOver() {
	id := b.mint.RequestID()
	got := b.raw(http.MethodGet, "/v1/cvms/7", "", http.Header{api.HeaderRequestID: {id}})
	require.Equal(b.t, id, got.header.Get(api.HeaderRequestID))
	got = b.raw(http.MethodGet, "/v1/cvms/7", "", http.Header{api.HeaderRequestID: {"not a ULID"}})
	require.True(b.t, api.ValidRequestID(got.header.Get(api.HeaderRequestID)))
}

func (b *testBundle) clientSendsItsRequestID() {
	id := b.mint.RequestID()
	_, err := b.GetCVM(owlapi.WithRequestID(b.ctx, id), b.mint.ID())
	require.Equal(b.t, id, b.problem(err, http.StatusNotFound).RequestID)
}

func (b *testBundle) healthAndReadiness() {
	for _, path := range []string{"/healthz", "/readyz"} {
		got := b.raw(http.MethodGet, path, "", nil)
		require.Equal(b.t, http.StatusOK, got.status, string(got.body))
	}
}

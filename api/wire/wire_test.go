package wire_test

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/wire"
)

type testBundle struct {
	url string
	key string
	log *strings.Builder
	t   *testing.T
}

func setup(t *testing.T) *testBundle {
	t.Helper()
	bundle := &testBundle{log: &strings.Builder{}, t: t}
	engine := wire.NewEngine(wire.Config{
		Logger:    slog.New(slog.NewTextHandler(bundle.log, nil)),
		RequestID: api.NewMinter().RequestID,
	})
	engine.POST("/spec", wire.Handle(func(c *gin.Context) error {
		var req api.CreateCVM
		if err := wire.Decode(c, wire.Public(), &req); err != nil {
			return err
		}
		wire.WriteJSON(c, http.StatusOK, req)
		return nil
	}))
	engine.POST("/panic", wire.Handle(func(*gin.Context) error { panic("secret inside") }))
	engine.POST("/error", wire.Handle(func(*gin.Context) error { return errors.New("secret inside") }))
	engine.GET("/apps/:app_id", wire.Handle(func(c *gin.Context) error {
		id, err := wire.Path(c, "app_id")
		if err != nil {
			return err
		}
		wire.WriteJSON(c, http.StatusOK, id)
		return nil
	}))
	server := httptest.NewServer(engine)
	t.Cleanup(server.Close)
	bundle.url = server.URL
	return bundle
}

func (b *testBundle) send(method, path, contentType, body string) (int, http.Header, []byte) {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.url+path, strings.NewReader(body))
	require.NoError(b.t, err)
	req.Header.Set("Content-Type", contentType)
	if b.key != "" {
		req.Header.Set(api.HeaderIdempotencyKey, b.key)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(b.t, err)
	defer resp.Body.Close() //nolint:errcheck // the body was read
	data, err := io.ReadAll(resp.Body)
	require.NoError(b.t, err)
	return resp.StatusCode, resp.Header, data
}

const goodSpec = `"name":"web","instance_type":"tdx.small","compose_file":{"docker_compose_file":"services: {}"}`

func TestDecodeRefusesAndNamesTheMember(t *testing.T) {
	t.Parallel()
	bundle := setup(t)
	deep := strings.Repeat("[", 40) + strings.Repeat("]", 40)
	for name, tc := range map[string]struct {
		contentType, body string
		status            int
		code              api.Code
		field, message    string
	}{
		"unknown member":        {body: `{` + goodSpec + `,"colour":1}`, field: "/colour", message: "is not a known member"},
		"unknown nested member": {body: `{"compose_file":{"x":1}}`, field: "/compose_file/x", message: "is not a known member"},
		"other letter case":     {body: `{"Name":"web"}`, field: "/Name", message: "is not a known member"},
		"duplicate member":      {body: `{"name":"a","name":"b"}`, field: "/name", message: "is given twice"},
		"trailing document":     {body: `{` + goodSpec + `}{}`, field: "body", message: "is not valid JSON"},
		"wrong type":            {body: `{"name":7}`, field: "/name", message: "must be a string, not a number"},
		"string for a number":   {body: `{"vcpu":"2"}`, field: "/vcpu", message: "must be a whole number, not a string"},
		"fraction":              {body: `{"vcpu":1.5}`, field: "/vcpu", message: "must be a whole number"},
		"number too large":      {body: `{"vcpu":99999999999999999999}`, field: "/vcpu", message: "must be a whole number"},
		"nested too deep":       {body: `{"ports":` + deep + `}`, field: "/ports", message: "is nested deeper than 32"},
		"array":                 {body: `[]`, field: "body", message: "must be a JSON object"},
		"null":                  {body: `null`, field: "body", message: "must be a JSON object"},
		"cut off":               {body: `{"name":`, field: "/name", message: "is not valid JSON"},
		"invalid UTF-8":         {body: "{\"name\":\"\xff\"}", field: "/name", message: "is not valid JSON"},
		"empty body is {}":      {body: ``, field: "/name", message: "is required"},
		"value not allowed":     {body: `{"name":"web app","instance_type":"big"}`, field: "/name", message: "must be 1 to 63"},
		"too large": {
			body:   `{"name":"` + strings.Repeat("a", api.MaxBodyBytes) + `"}`,
			status: http.StatusRequestEntityTooLarge, code: api.CodeBodyTooLarge,
		},
		"content type": {
			contentType: "text/plain", body: `{}`, field: "Content-Type", message: "application/json",
			status: http.StatusUnsupportedMediaType, code: api.CodeUnsupportedMediaType,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bundle := &testBundle{url: bundle.url, t: t}
			if tc.contentType == "" {
				tc.contentType = "application/json; charset=utf-8"
			}
			if tc.status == 0 {
				tc.status, tc.code = http.StatusBadRequest, api.CodeInvalidRequest
			}
			status, header, data := bundle.send(http.MethodPost, "/spec", tc.contentType, tc.body)
			require.Equal(t, tc.status, status, string(data))
			require.Equal(t, api.ProblemContentType, header.Get("Content-Type"))
			var problem api.Problem
			require.NoError(t, json.Unmarshal(data, &problem))
			require.Equal(t, tc.code, problem.ErrorCode)
			require.Equal(t, problem.Detail, problem.Message)
			require.Equal(t, header.Get(api.HeaderRequestID), problem.RequestID)
			require.False(t, problem.Retryable)
			if tc.field == "" {
				return
			}
			require.NotEmpty(t, problem.Errors)
			require.True(t, strings.HasPrefix(problem.Errors[0].Field, tc.field), problem.Errors[0].Field)
			require.Contains(t, problem.Errors[0].Message, tc.message)
		})
	}
}

func TestDecodeTakesNullForAbsentAndKeepsDigits(t *testing.T) {
	t.Parallel()
	bundle := setup(t)
	status, _, data := bundle.send(http.MethodPost, "/spec", "application/json",
		`{`+goodSpec+`,"vcpu":null,"ports":null,"user_config":"\u2028<&>","kms":null,"listed":null}`)
	require.Equal(t, http.StatusOK, status, string(data))
	require.JSONEq(t, `{`+goodSpec+`,"user_config":"\u2028<&>"}`, string(data))
}

func TestErrorsShowNothingOfTheInside(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/panic", "/error"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			bundle := setup(t)
			status, header, data := bundle.send(http.MethodPost, path, "", "")
			require.Equal(t, http.StatusInternalServerError, status)
			require.NotContains(t, string(data), "secret")
			require.Contains(t, string(data), header.Get(api.HeaderRequestID))
			require.Contains(t, bundle.log.String(), "secret inside", "the log must know what happened")
		})
	}
}

// TestA500SaysWhetherToRepeat: retryable and the words agree.
func TestA500SaysWhetherToRepeat(t *testing.T) {
	t.Parallel()
	bundle := setup(t)
	status, header, data := bundle.send(http.MethodPost, "/error", "", "")
	require.Equal(t, http.StatusInternalServerError, status)
	require.Contains(t, string(data), `"retryable":false`)
	require.Contains(t, string(data), "look at the list first")
	require.Empty(t, header.Get("Retry-After"))

	bundle.key = "k"
	_, header, data = bundle.send(http.MethodPost, "/error", "", "")
	require.Contains(t, string(data), `"retryable":true`)
	require.Contains(t, string(data), "safe to send it again")
	require.Equal(t, "1", header.Get("Retry-After"))
}

func TestNoRouteAndNoMethodAreProblems(t *testing.T) {
	t.Parallel()
	bundle := setup(t)
	status, header, data := bundle.send(http.MethodPut, "/spec", "", "")
	require.Equal(t, http.StatusMethodNotAllowed, status)
	require.Equal(t, http.MethodPost, header.Get("Allow"))
	require.Contains(t, string(data), `"METHOD_NOT_ALLOWED"`)

	for _, path := range []string{"/nowhere", "/spec/", "/apps/a%2Fb"} {
		status, header, data = bundle.send(http.MethodGet, path, "", "")
		require.Equal(t, http.StatusNotFound, status)
		require.Equal(t, api.ProblemContentType, header.Get("Content-Type"))
		require.Contains(t, string(data), `"NOT_FOUND"`)
	}
}

func TestPathTakesBothSpellingsOfAnApp(t *testing.T) {
	t.Parallel()
	bundle := setup(t)
	id := api.NewMinter().ID().String()
	for _, spelling := range []string{id, "app_" + id, strings.ToUpper(id)} {
		status, _, data := bundle.send(http.MethodGet, "/apps/"+spelling, "", "")
		require.Equal(t, http.StatusOK, status)
		require.JSONEq(t, `"`+id+`"`, string(data))
	}
}

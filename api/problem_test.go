package api_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"roost/api"
)

// declaredCodes reads the constants of type Code out of the source, so that a
// code that is added and forgotten elsewhere is found.
func declaredCodes(t *testing.T) []api.Code {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "problem.go", nil, 0)
	require.NoError(t, err)
	var codes []api.Code
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := spec.Type.(*ast.Ident); !ok || typ.Name != "Code" {
			return true
		}
		require.Len(t, spec.Values, 1)
		value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		require.NoError(t, err)
		codes = append(codes, api.Code(value))
		return true
	})
	return codes
}

func members(t *testing.T, v any) map[string]any {
	t.Helper()
	doc, err := json.Marshal(v)
	require.NoError(t, err)
	var m map[string]any
	require.NoError(t, json.Unmarshal(doc, &m))
	return m
}

func TestCodesListsEveryCodeOnce(t *testing.T) {
	t.Parallel()
	declared := declaredCodes(t)
	require.GreaterOrEqual(t, len(declared), 20)
	require.ElementsMatch(t, declared, api.Codes())
}

func TestEveryCodeIsExplained(t *testing.T) {
	t.Parallel()
	slugs := map[string]api.Code{}
	for _, code := range api.Codes() {
		if code != api.CodeInternal {
			require.NotEqual(t, api.CodeInternal.Title(), code.Title(), code)
			require.NotEqual(t, api.CodeInternal.Advice(), code.Advice(), code)
			require.NotEqual(t, 500, code.Status(), code)
		}
		require.NotEmpty(t, code.Title(), code)
		require.NotEmpty(t, code.Advice(), code)
		require.GreaterOrEqual(t, code.Status(), 400, code)
		require.Less(t, code.Status(), 600, code)
		require.Regexp(t, `^[a-z]+(-[a-z]+)*$`, code.Slug(), code)
		if other, taken := slugs[code.Slug()]; taken {
			require.ElementsMatch(t, []api.Code{api.CodeGone, api.CodeResourceDeleted}, []api.Code{code, other})
		}
		slugs[code.Slug()] = code
	}
}

// The table of CONTRACT section 3.3.
func TestStatusOfEveryCode(t *testing.T) {
	t.Parallel()
	want := map[api.Code]int{
		api.CodeUnauthenticated: 401, api.CodeForbidden: 403, api.CodeQuotaExceeded: 403,
		api.CodeNotFound: 404, api.CodeResourceDeleted: 404, api.CodeProvisionNotFound: 404,
		api.CodeMethodNotAllowed: 405, api.CodeIdempotencyKeyReused: 409, api.CodeAppExists: 409,
		api.CodeIDConflict: 409, api.CodeKeyInProgress: 409, api.CodeGone: 410,
		api.CodeInvalidRequest: 400, api.CodeInvalidIdempotencyKey: 400, api.CodeInvalidState: 400,
		api.CodeBodyTooLarge: 413, api.CodeUnsupportedMediaType: 415, api.CodeRateLimited: 429,
		api.CodeInternal: 500, api.CodeUnavailable: 503,
	}
	require.Len(t, want, len(api.Codes()))
	for code, status := range want {
		require.Equal(t, status, code.Status(), code)
	}
}

func TestProblemSaysTheSameTwiceAndNamesItself(t *testing.T) {
	t.Parallel()
	for _, code := range api.Codes() {
		m := members(t, api.Errorf(code, "what %s is", "it").Problem("01REQ"))
		require.Equal(t, "what it is", m["detail"])
		require.Equal(t, m["detail"], m["message"])
		require.Equal(t, "/problems/"+code.Slug(), m["type"])
		require.Equal(t, code.Title(), m["title"])
		require.InDelta(t, code.Status(), m["status"], 0)
		require.Equal(t, "01REQ", m["request_id"])
		require.Contains(t, m, "retryable")
		for _, absent := range []string{"errors", "app_id", "vm_uuid", "deleted_at", "record"} {
			require.NotContains(t, m, absent, code)
		}
	}
}

func TestOnlyThreeCodesAreRetryable(t *testing.T) {
	t.Parallel()
	for _, code := range api.Codes() {
		want := code == api.CodeKeyInProgress || code == api.CodeRateLimited || code == api.CodeUnavailable
		require.Equal(t, want, (&api.Error{Code: code}).Problem("").Retryable, code)
		require.False(t, (&api.Error{Code: code, NotRetryable: true}).Problem("").Retryable, code)
	}
}

// Clients know "409 with an error_code is final", so this one has none.
func TestAKeyInProgressHasNoErrorCode(t *testing.T) {
	t.Parallel()
	m := members(t, (&api.Error{Code: api.CodeKeyInProgress, RetryAfter: time.Second}).Problem("r"))
	require.NotContains(t, m, "error_code")
	require.InDelta(t, 409, m["status"], 0)
	require.Equal(t, true, m["retryable"])
	require.Equal(t, "/problems/key-in-progress", m["type"])
}

func TestGoneIsResourceDeletedWith410(t *testing.T) {
	t.Parallel()
	at := api.NewTime(time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC))
	gone := members(t, (&api.Error{Code: api.CodeGone, Detail: "d", DeletedAt: &at}).Problem("r"))
	deleted := members(t, (&api.Error{Code: api.CodeResourceDeleted, Detail: "d", DeletedAt: &at}).Problem("r"))
	require.Equal(t, "RESOURCE_DELETED", gone["error_code"])
	require.InDelta(t, 410, gone["status"], 0)
	require.Equal(t, "2026-11-21T17:00:00.000000Z", gone["deleted_at"])
	delete(gone, "status")
	delete(deleted, "status")
	require.Equal(t, deleted, gone, "the two differ in nothing but the status")
}

func TestEveryOtherCodeIsItsOwnErrorCode(t *testing.T) {
	t.Parallel()
	for _, code := range api.Codes() {
		if code != api.CodeGone && code != api.CodeKeyInProgress {
			require.Equal(t, code, (&api.Error{Code: code}).Problem("").ErrorCode)
		}
	}
}

func TestProblemCarriesWhatTheErrorNames(t *testing.T) {
	t.Parallel()
	m := api.NewMinter()
	app, vm := m.ID(), m.ID()
	p := members(t, (&api.Error{
		Code: api.CodeAppExists, AppID: &app, VMUUID: &vm, Record: json.RawMessage(`{"a":1}`),
		Fields: []api.FieldError{{Field: "/a", Message: "differs"}},
	}).Problem("r"))
	require.Equal(t, app.String(), p["app_id"])
	require.Equal(t, vm.String(), p["vm_uuid"])
	require.Equal(t, map[string]any{"a": 1.0}, p["record"])
	require.Equal(t, []any{map[string]any{"field": "/a", "message": "differs"}}, p["errors"])
}

func TestTheCauseIsLoggedAndNeverShown(t *testing.T) {
	t.Parallel()
	cause := errors.New("canary: password=hunter2")
	err := fmt.Errorf("create: %w", &api.Error{Code: api.CodeInternal, Detail: "sorry", Err: cause})
	require.ErrorIs(t, err, cause)
	require.ErrorContains(t, err, "canary")
	var coded *api.Error
	require.ErrorAs(t, err, &coded)
	doc, marshalErr := json.Marshal(coded.Problem("r"))
	require.NoError(t, marshalErr)
	require.NotContains(t, string(doc), "canary")
	require.Equal(t, "INTERNAL: sorry", api.Errorf(api.CodeInternal, "sorry").Error())
}

func TestInvalidNamesEveryMember(t *testing.T) {
	t.Parallel()
	one := api.Invalid("/a", "must be %d", 7)
	require.Equal(t, api.CodeInvalidRequest, one.Code)
	require.Equal(t, []api.FieldError{{Field: "/a", Message: "must be 7"}}, one.Fields)
	require.Contains(t, one.Detail, "/a must be 7")
	two := api.InvalidFields([]api.FieldError{{Field: "/a", Message: "is bad"}, {Field: "/b", Message: "is worse"}})
	require.True(t, strings.HasPrefix(two.Detail, "/a is bad; /b is worse."))
	require.Len(t, two.Fields, 2)
}

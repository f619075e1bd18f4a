package openapitest_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/openapitest"
)

const (
	cvmID     = "01a20009-22cb-7d48-a91d-7c22eb3f0498"
	requestID = "01M800J8P9E67370HG38FB34XA"
)

func setup(t *testing.T) (platform, owl *openapitest.Document) {
	t.Helper()
	platform, err := openapitest.Platform()
	require.NoError(t, err)
	owl, err = openapitest.Owl()
	require.NoError(t, err)
	return platform, owl
}

// answer is an exchange of a GET without a body.
func answer(path string, status int, contentType, body string) openapitest.Exchange {
	return openapitest.Exchange{
		Method: http.MethodGet, URL: "http://127.0.0.1:1" + path, Header: http.Header{},
		Status: status, Answer: []byte(body),
		AnswerHeader: http.Header{"Content-Type": {contentType}, api.HeaderRequestID: {requestID}},
	}
}

// example is the example of a schema as JSON, with some of its text replaced.
func example(t *testing.T, d *openapitest.Document, schema string, oldnew ...string) string {
	t.Helper()
	body, err := json.Marshal(d.Spec().Components.Schemas[schema].Value.Examples[0])
	require.NoError(t, err)
	changed := strings.NewReplacer(oldnew...).Replace(string(body))
	require.True(t, len(oldnew) == 0 || changed != string(body), "nothing was replaced in %s", body)
	return changed
}

func problem(code api.Code) string {
	p := (&api.Error{Code: code, Detail: "d", Fields: []api.FieldError{{Field: "/a", Message: "b"}}}).Problem(requestID)
	body, _ := json.Marshal(p) // strings always encode
	return string(body)
}

func TestCheckAcceptsWhatTheDocumentSays(t *testing.T) {
	t.Parallel()
	d, owl := setup(t)
	for _, x := range []openapitest.Exchange{
		answer("/api/v1/cvms/"+cvmID, http.StatusOK, "application/json", example(t, d, "CVM")),
		answer("/api/v1/cvms/"+cvmID, http.StatusOK, "application/json", example(t, d, "CVM", `"error":null`, `"error":{"code":"X","message":"y","more":1},"more":{}`)),
		answer("/api/v1/cvms/7", http.StatusNotFound, api.ProblemContentType, problem(api.CodeNotFound)),
		answer("/api/v1/cvms/provision", http.StatusNotFound, api.ProblemContentType, problem(api.CodeNotFound)),
		answer("/api/v1/apps/app_"+cvmID+"/cvms", http.StatusOK, "application/json", "["+example(t, d, "CVM")+"]"),
		answer("/api/v1/operations/op_x?wait=30s", http.StatusOK, "application/json", example(t, d, "Operation")),
		answer("/api/v1/idempotency-keys/a%2Fb", http.StatusOK, "application/json", example(t, d, "Key")),
		answer("/api/v1/nothing", http.StatusNotFound, api.ProblemContentType, problem(api.CodeNotFound)),
		answer("/healthz", http.StatusOK, "text/plain; charset=utf-8", "ok\n"),
	} {
		require.NoError(t, d.Check(t.Context(), x))
	}
	require.NoError(t, owl.Check(t.Context(), answer("/v1/cvms?ids=", http.StatusOK, "application/json", `{"items":[]}`)))
	require.NoError(t, owl.Check(t.Context(), answer("/v1/cvms?ids="+cvmID+","+cvmID+"&spec=false", http.StatusOK, "application/json",
		`{"items":[`+example(t, owl, "CVM")+`]}`)))
}

func TestCheckRefusesEveryOtherAnswer(t *testing.T) {
	t.Parallel()
	d, _ := setup(t)
	const path, list = "/api/v1/cvms/" + cvmID, "/api/v1/cvms"
	cvm := func(oldnew ...string) openapitest.Exchange {
		return answer(path, http.StatusOK, "application/json", example(t, d, "CVM", oldnew...))
	}
	withoutID := cvm()
	withoutID.AnswerHeader.Del(api.HeaderRequestID)
	badID := cvm()
	badID.AnswerHeader.Set(api.HeaderRequestID, "x")
	halfReplay := cvm()
	halfReplay.AnswerHeader.Set(api.HeaderIdempotentReplay, "true")
	for name, x := range map[string]openapitest.Exchange{
		"a status that is not there":         answer(path, http.StatusTeapot, api.ProblemContentType, problem(api.CodeNotFound)),
		"a status of another call":           answer(list, http.StatusNotFound, api.ProblemContentType, problem(api.CodeNotFound)),
		"another content type":               answer(path, http.StatusOK, "text/html", example(t, d, "CVM")),
		"a problem that is plain JSON":       answer(path, http.StatusNotFound, "application/json", problem(api.CodeNotFound)),
		"a code of another status":           answer(path, http.StatusNotFound, api.ProblemContentType, problem(api.CodeInternal)),
		"a code of another call":             answer(path, http.StatusNotFound, api.ProblemContentType, problem(api.CodeProvisionNotFound)),
		"no code":                            answer(path, http.StatusNotFound, api.ProblemContentType, strings.Replace(problem(api.CodeNotFound), `"error_code":"NOT_FOUND",`, "", 1)),
		"no message":                         answer(path, http.StatusNotFound, api.ProblemContentType, strings.Replace(problem(api.CodeNotFound), `"message":"d",`, "", 1)),
		"an envelope where there is none":    answer("/api/v1/apps/"+cvmID+"/cvms", http.StatusOK, "application/json", `{"items":[]}`),
		"an array where an envelope is":      answer(list, http.StatusOK, "application/json", `[]`),
		"null for an array":                  answer(list, http.StatusOK, "application/json", `{"items":null,"next_cursor":null}`),
		"no Retry-After":                     answer(list, http.StatusServiceUnavailable, api.ProblemContentType, problem(api.CodeUnavailable)),
		"no Request-Id":                      withoutID,
		"a Request-Id that is none":          badID,
		"a replay of nothing":                halfReplay,
		"a path that is not there":           answer("/api/v1/nothing", http.StatusOK, "application/json", `{}`),
		"a member is missing":                cvm(`"region":"local-1",`, ""),
		"a member of another type":           cvm(`"vcpu":1`, `"vcpu":"1"`),
		"null where there is always a value": cvm(`"region":"local-1"`, `"region":null`),
		"a UUID that is none":                cvm(`"app_id":"01a2`, `"app_id":"zza2`),
		"a time without its six digits":      cvm(`35:28.464878Z`, `35:28Z`),
		"a nullable time that is none":       cvm(`"deleted_at":null`, `"deleted_at":"now"`),
		"a status that no CVM has":           cvm(`"status":"provisioning"`, `"status":"booting"`),
		"an error without its message":       cvm(`"error":null`, `"error":{"code":"X"}`),
		"an operation without its kind":      cvm(`"kind":"cvm.create",`, ""),
		"not JSON":                           answer(path, http.StatusOK, "application/json", "{"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Error(t, d.Check(t.Context(), x))
		})
	}
}

func TestCheckRefusesAcceptedRequestsThatTheDocumentWouldNot(t *testing.T) {
	t.Parallel()
	d, _ := setup(t)
	whole, hash := `{"name":"a","instance_type":"tdx.small","compose_file":{"docker_compose_file":"x"}`, strings.Repeat("0", 64)
	for body, fine := range map[string]bool{
		whole + `}`: true, whole + `,"vcpu":null,"ports":[{"a":1}]}`: true, `{"app_id":"` + cvmID + `","compose_hash":"` + hash + `"}`: true,
		whole + `,"colour":"red"}`: false, whole + `,"vcpu":0}`: false, whole + `,"app_id":"x"}`: false, `{}`: false, `[]`: false, ``: false,
		`{"app_id":"` + cvmID + `","compose_hash":"` + hash + `","name":"a"}`: false, `{"app_id":"` + cvmID + `","compose_hash":"x"}`: false,
	} {
		x := answer("/api/v1/cvms", http.StatusAccepted, "application/json", example(t, d, "CVM"))
		x.Method, x.Body = http.MethodPost, []byte(body)
		x.Header.Set("Content-Type", "application/json")
		require.Equal(t, fine, d.Check(t.Context(), x) == nil, "%s: %v", body, d.Check(t.Context(), x))

		x.Header.Set(api.HeaderIdempotencyKey, `"a\"b"`)
		require.Error(t, d.Check(t.Context(), x), "a key that is bound, and no word of its end")
		x.AnswerHeader.Set(api.HeaderIdempotencyKeyExpiresAt, "2026-11-21T21:35:28.464878Z")
		require.Equal(t, fine, d.Check(t.Context(), x) == nil, "%s: %v", body, d.Check(t.Context(), x))
		for _, bad := range []string{"a b", "", `"a`, strings.Repeat("a", 256)} {
			x.Header.Set(api.HeaderIdempotencyKey, bad)
			require.Error(t, d.Check(t.Context(), x), bad)
		}
	}
}

func TestCheckKnowsATextOnlyByWhatItIsCalled(t *testing.T) {
	t.Parallel()
	d, _ := setup(t)
	for media, fine := range map[string]bool{"text/yaml": true, "text/plain": false, "application/json": false, "": false} {
		x := answer("/api/v1/cvms/"+cvmID+"/docker-compose", http.StatusAccepted, "application/json",
			`{"items":[],"operation":`+example(t, d, "Operation")+`}`)
		x.Method, x.Body = http.MethodPatch, []byte("services: {}")
		x.Header.Set("Content-Type", media)
		require.Equal(t, fine, d.Check(t.Context(), x) == nil, "%s: %v", media, d.Check(t.Context(), x))
	}
}

func BenchmarkCheck(b *testing.B) {
	d, err := openapitest.Platform()
	require.NoError(b, err)
	body, err := json.Marshal(d.Spec().Components.Schemas["CVM"].Value.Examples[0])
	require.NoError(b, err)
	x := answer("/api/v1/cvms/"+cvmID, http.StatusOK, "application/json", string(body))
	for b.Loop() {
		require.NoError(b, d.Check(b.Context(), x))
	}
}

package client_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/client"
)

const (
	endpoint = "http://roost.test"
	secret   = "token-that-must-show-nowhere"
	env      = "ciphertext-that-must-show-nowhere"
)

// IDs of no meaning.
var (
	appID = mustID("0198c0dd-0000-7000-8000-000000000001")
	vmID  = mustID("0198c0de-0000-7000-8000-000000000002")
	ruleI = mustID("0198c0df-0000-7000-8000-000000000003")
)

func mustID(s string) api.ID {
	id, err := api.ParseID(s)
	if err != nil {
		panic(err)
	}
	return id
}

// answer is what the network does with one request.
type answer func(req *http.Request) (*http.Response, error)

// sent is one request as it went out.
type sent struct {
	method, uri, body string
	header            http.Header
	at                time.Time
}

// bundle is a client and the network that it is in: no sockets, so that a
// synctest bubble sees every pause and no test waits for one.
type bundle struct {
	*client.Client

	mu      sync.Mutex
	sent    []sent
	answers []answer // one after the other, the last one for ever
}

func setup(t *testing.T, retry client.Retry, answers ...answer) *bundle {
	t.Helper()
	return setupWith(t, client.Config{Retry: retry}, answers...)
}

func setupWith(t *testing.T, cfg client.Config, answers ...answer) *bundle {
	t.Helper()
	b := &bundle{answers: answers}
	cfg.Endpoint, cfg.Token = endpoint, secret
	if cfg.HTTPClient == nil {
		cfg.HTTPClient = &http.Client{}
	}
	cfg.HTTPClient.Transport = b
	var err error
	b.Client, err = client.New(cfg)
	require.NoError(t, err)
	return b
}

// RoundTrip implements http.RoundTripper.
func (b *bundle) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		body, _ = io.ReadAll(req.Body)
		_ = req.Body.Close()
	}
	b.mu.Lock()
	b.sent = append(b.sent, sent{req.Method, req.URL.RequestURI(), string(body), req.Header.Clone(), time.Now()})
	next := b.answers[min(len(b.sent), len(b.answers))-1]
	b.mu.Unlock()
	return next(req)
}

func (b *bundle) requests() []sent {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sent
}

// keys is the Idempotency-Key of every request.
func (b *bundle) keys() []string {
	var all []string
	for _, s := range b.requests() {
		all = append(all, s.header.Get(api.HeaderIdempotencyKey))
	}
	return all
}

var errNetwork = errors.New("the cable is out")

// lost is a request that may have arrived, and whose answer has not.
func lost(*http.Request) (*http.Response, error) { return nil, errNetwork }

// silent is a request that nothing answers.
func silent(req *http.Request) (*http.Response, error) {
	<-req.Context().Done()
	return nil, req.Context().Err()
}

// with is an answer of this status, body and headers ("Name: value").
func with(status int, body string, headers ...string) answer {
	return func(req *http.Request) (*http.Response, error) {
		resp := &http.Response{
			StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}},
			Body: io.NopCloser(strings.NewReader(body)), Request: req,
		}
		if status/100 > 2 {
			resp.Header.Set("Content-Type", api.ProblemContentType)
		}
		for _, h := range headers {
			name, value, _ := strings.Cut(h, ": ")
			resp.Header.Set(name, value)
		}
		return resp, nil
	}
}

// problem is the answer of a server that refuses, as ours does it.
func problem(e *api.Error, headers ...string) answer {
	body, err := json.Marshal(e.Problem("01J0000000000000000PROBLEM"))
	if err != nil {
		panic(err)
	}
	return with(e.Code.Status(), string(body), headers...)
}

func refusal(code api.Code) answer { return problem(api.Errorf(code, "because of %s.", code)) }

// torn is an answer whose connection breaks in the middle of its body.
func torn(a answer) answer {
	return func(req *http.Request) (*http.Response, error) {
		resp, err := a(req)
		whole, _ := io.ReadAll(resp.Body)
		half := bytes.NewReader(whole[:len(whole)/2])
		resp.Body = io.NopCloser(io.MultiReader(half, failing{}))
		return resp, err
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// Answers that mean yes.
const (
	cvmBody = `{"vm_uuid":"0198c0de-0000-7000-8000-000000000002","id":"0198c0de-0000-7000-8000-000000000002",
		"app_id":"0198c0dd-0000-7000-8000-000000000001","name":"web","status":"provisioning","in_progress":true,
		"progress":{"target":"running"},"created_at":"2026-11-21T17:00:00.000000Z","updated_at":"2026-11-21T17:00:00.000000Z",
		"operation":{"id":"op_1","kind":"cvm.create","status":"pending"}}`
	operationBody = `{"id":"op_1","kind":"cvm.create","status":"pending","app_id":"0198c0dd-0000-7000-8000-000000000001",
		"resource_id":"0198c0de-0000-7000-8000-000000000002","created_at":"2026-11-21T17:00:00.000000Z",
		"updated_at":"2026-11-21T17:00:00.000000Z"}`
	manyBody      = `{"items":[` + cvmBody + `],"operation":` + operationBody + `}`
	appBody       = `{"id":"0198c0dd-0000-7000-8000-000000000001","app_id":"0198c0dd-0000-7000-8000-000000000001","name":"web"}`
	provisionBody = `{"app_id":"0198c0dd-0000-7000-8000-000000000001","compose_hash":"f9b3","instance_type":"tdx.small"}`
	ruleBody      = `{"id":"0198c0df-0000-7000-8000-000000000003","vm_uuid":"0198c0de-0000-7000-8000-000000000002","cidr":"10.0.0.0/8"}`
)

func accepted(req *http.Request) (*http.Response, error) {
	return with(http.StatusAccepted, cvmBody)(req)
}

func spec() api.Spec {
	ciphertext := env
	return api.Spec{
		Name: "web", InstanceType: "tdx.small", EncryptedEnv: &ciphertext,
		ComposeFile: &api.ComposeFile{DockerComposeFile: "services: {web: {command: a < b && c}}"},
	}
}

// fail returns the *client.Error that err is or wraps.
func fail(t *testing.T, err error) *client.Error {
	t.Helper()
	var e *client.Error
	require.ErrorAs(t, err, &e)
	return e
}

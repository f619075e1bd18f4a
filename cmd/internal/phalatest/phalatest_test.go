package phalatest_test

import (
	"context"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"roost/cmd/internal/phalatest"
)

// server answers as scripted and remembers what came.
type server struct {
	*httptest.Server

	mu       sync.Mutex
	requests []*http.Request
	bodies   []string
	script   map[string][]answer // by "METHOD path", the last one repeated
}

type answer struct {
	status int
	body   string
	header http.Header
}

func setup(t *testing.T, script map[string][]answer) (*server, *phalatest.Client) {
	t.Helper()
	s := &server{script: script}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	c := phalatest.New(phalatest.Config{Prefix: s.URL + "/api/v1/", Key: "secret", Pace: 1e-4})
	t.Cleanup(c.Close)
	return s, c
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests, s.bodies = append(s.requests, r), append(s.bodies, string(body))
	key := r.Method + " " + r.URL.Path
	answers := s.script[key]
	if len(answers) == 0 {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if len(answers) > 1 {
		s.script[key] = answers[1:]
	}
	maps.Copy(w.Header(), answers[0].header)
	w.WriteHeader(answers[0].status)
	_, _ = io.WriteString(w, answers[0].body)
}

// sent is "METHOD path" of every request.
func (s *server) sent() (out []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.requests {
		out = append(out, r.Method+" "+r.URL.Path)
	}
	return out
}

const (
	cvm       = `{"vm_uuid":"v","status":"running","in_progress":false,"base_image":"dstack-0.5.7","storage_fs":"zfs"}`
	provision = `{"app_id":"app_a","compose_hash":"h"}`
)

// smallest is a script with the fewest members that the provider needs.
func smallest() map[string][]answer {
	return map[string][]answer{
		"POST /api/v1/cvms/provision": {{status: 200, body: provision}},
		"POST /api/v1/cvms":           {{status: 202, body: `{"vm_uuid":"v","status":"starting"}`}},
		"GET /api/v1/apps/a":          {{status: 200, body: `{}`}},
		"GET /api/v1/apps/a/cvms":     {{status: 200, body: "[" + cvm + "]"}},
		"GET /api/v1/cvms/v":          {{status: 200, body: cvm}},
	}
}

func app() *phalatest.App {
	return &phalatest.App{Name: "web", Size: "tdx.small", DockerCompose: "services: {}", Replicas: 1}
}

func TestItLooksAsTheProviderDoesOnTheWire(t *testing.T) {
	t.Parallel()
	s, c := setup(t, smallest())
	tf := phalatest.Terraform{Client: c}
	require.NoError(t, tf.Apply(t.Context(), app()))
	require.Equal(t, []string{
		"POST /api/v1/cvms/provision", "POST /api/v1/cvms", "GET /api/v1/apps/a/cvms", "GET /api/v1/apps/a",
		"GET /api/v1/apps/a/cvms", "GET /api/v1/cvms/v",
	}, s.sent())
	for i, r := range s.requests {
		require.Equal(t, "secret", r.Header.Get("X-API-Key"))
		require.Equal(t, "2026-01-21", r.Header.Get("X-Phala-Version"))
		require.Equal(t, "*/*", r.Header.Get("Accept"))
		require.Equal(t, "Go-http-client/1.1", r.Header.Get("User-Agent"))
		for _, never := range []string{"Authorization", "Idempotency-Key", "Request-Id"} {
			require.Empty(t, r.Header.Get(never))
		}
		require.Equal(t, s.bodies[i] != "", r.Header.Get("Content-Type") != "")
	}
	require.JSONEq(t, `{"name":"web","instance_type":"tdx.small","kms":"PHALA","listed":false,
		"compose_file":{"name":"web","docker_compose_file":"services: {}","pre_launch_script":null,"bash_script":null,
		"default_gateway_domain":null,"init_script":null,"salt":null},"region":null,"image":null,"disk_size":null,"teepod_id":null,
		"app_id":null,"nonce":null,"user_config":null,"vcpu":null,"memory":null,"ports":null,"prefer_dev":null,"kms_id":null,
		"encrypted_env":null,"experimental_vpc_server_app_id":null}`, s.bodies[0])
	require.JSONEq(t, `{"app_id":"app_a","compose_hash":"h","encrypted_env":null,"env_keys":null,"kms_id":null,
		"contract_address":null,"deployer_address":null}`, s.bodies[1])
}

func TestItRepeatsOnlyWhatTheProviderRepeats(t *testing.T) {
	t.Parallel()
	for _, status := range []int{409, 429, 503, 400, 404, 500, 502, 504} {
		script := smallest()
		script["POST /api/v1/cvms/provision"] = []answer{{status: status}, {status: 200, body: provision}}
		_, c := setup(t, script)
		err := (&phalatest.Terraform{Client: c}).Apply(t.Context(), app())
		require.Equal(t, slices.Contains([]int{409, 429, 503}, status), err == nil, "%d: %v", status, err)

		script = smallest()
		script["POST /api/v1/cvms"] = []answer{{status: status}, script["POST /api/v1/cvms"][0]}
		s, c := setup(t, script)
		tf := &phalatest.Terraform{Client: c}
		require.Error(t, tf.Apply(t.Context(), app()), "a create is never repeated")
		require.Nil(t, tf.State, "and writes no state")
		require.Len(t, s.sent(), 2)
	}
}

func TestItGivesUpAfterThirtyRepeats(t *testing.T) {
	t.Parallel()
	script := smallest()
	script["POST /api/v1/cvms/provision"] = []answer{{status: 503, header: http.Header{"Retry-After": {"1"}}}}
	s, c := setup(t, script)
	_, _, err := c.Preflight(t.Context(), *app())
	require.Error(t, err)
	require.Len(t, s.sent(), 31)
}

func TestItInsistsOnTypes(t *testing.T) {
	t.Parallel()
	t.Run("200 with a string id breaks a create after the work was done", func(t *testing.T) {
		t.Parallel()
		for body, fine := range map[string]bool{`{"id":"v"}`: false, `{"id":7}`: true, `{}`: true, ``: true, `{"vcpu":"1"}`: false} {
			script := smallest()
			script["POST /api/v1/cvms"] = []answer{{status: 200, body: body}}
			_, c := setup(t, script)
			err := (&phalatest.Terraform{Client: c}).Apply(t.Context(), app())
			require.Equal(t, fine, err == nil, "%s: %v", body, err)
		}
	})
	t.Run("an element of a wrong type is dropped in silence", func(t *testing.T) {
		t.Parallel()
		for _, element := range []string{`{"vm_uuid":7}`, `{"resource":"small"}`, `{"disk_size":20.5}`, `{"in_progress":"no"}`, `null`} {
			script := smallest()
			script["GET /api/v1/apps/a/cvms"] = []answer{{status: 200, body: "[" + element + "," + cvm + "]"}}
			_, c := setup(t, script)
			tf := &phalatest.Terraform{Client: c}
			require.NoError(t, tf.Apply(t.Context(), app()), element)
			require.Equal(t, []string{"v"}, tf.State.CVMIDs)
		}
	})
	t.Run("an envelope is an error", func(t *testing.T) {
		t.Parallel()
		script := smallest()
		script["GET /api/v1/apps/a/cvms"] = []answer{{status: 200, body: `{"items":[]}`}}
		_, c := setup(t, script)
		require.ErrorContains(t, (&phalatest.Terraform{Client: c}).Apply(t.Context(), app()), "decode list")
	})
}

func TestItEndsAtOnceWhenACVMRestsStopped(t *testing.T) {
	t.Parallel()
	script := smallest()
	script["GET /api/v1/apps/a/cvms"] = []answer{{status: 200, body: "[" + strings.Replace(cvm, "running", "stopped", 1) + "]"}}
	_, c := setup(t, script)
	require.ErrorContains(t, (&phalatest.Terraform{Client: c}).Apply(t.Context(), app()), "is stopped")
}

func TestErrorsAreShownAsTheProviderShowsThem(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"message":"m","detail":"d"}`:    "400 Bad Request: m",
		`{"detail":"d"}`:                  "400 Bad Request: d",
		`{"error":{"message":"unheard"}}`: "400 Bad Request: 400 Bad Request",
		`plain`:                           "400 Bad Request: plain",
	} {
		_, c := setup(t, map[string][]answer{"POST /api/v1/cvms/provision": {{status: 400, body: body}}})
		_, _, err := c.Preflight(t.Context(), *app())
		require.ErrorContains(t, err, want)
	}
}

func TestAKilledClientSendsAndSavesNothingMore(t *testing.T) {
	t.Parallel()
	for n := range 2 {
		s, c := setup(t, smallest())
		tf := &phalatest.Terraform{Client: c}
		c.KillAfter(n + 1)
		require.ErrorIs(t, tf.Apply(t.Context(), app()), phalatest.ErrKilled)
		require.Len(t, s.sent(), n+1)
		require.Nil(t, tf.State)
		_, err := c.Account(context.WithoutCancel(t.Context()))
		require.ErrorIs(t, err, phalatest.ErrKilled)
	}
}

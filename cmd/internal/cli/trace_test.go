package cli

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"roost/api"
)

// TestTraceHidesSecrets sends canaries in every place that has secrets, and a
// server that sends them back.
func TestTraceHidesSecrets(t *testing.T) {
	t.Parallel()
	echo := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Set-Cookie", "session="+canaryEnv)
		w.Header().Set("X-Seen", "Bearer "+canaryToken)
		answer(http.StatusAccepted, map[string]any{
			"vm_uuid": someID, "id": someID, "app_id": someID, "seen": canaryToken,
			"spec": []any{map[string]any{"encrypted_env": canaryEnv, "n": 9007199254740993}},
		})(w, nil)
	}
	s := serve(t, lose, echo)
	b := setup(t).at(s.URL, canaryToken)
	env := t.TempDir() + "/env"
	require.NoError(t, os.WriteFile(env, []byte(canaryEnv+"\n"), privateFile))
	b.must(createArgs(t, "--trace", "--encrypted-env-file", env, "--env-key", "A")...)
	require.Contains(t, s.sent()[1], canaryEnv, "what is sent is whole")
	require.Equal(t, "Bearer "+canaryToken, s.seen()[1].Header.Get("Authorization"))

	trace := b.err.String()
	require.NotContains(t, trace, canaryToken)
	require.NotContains(t, trace, canaryEnv)
	for _, want := range []string{
		"> POST " + s.URL + "/api/v1/cvms", "> Authorization: [redacted]", "> Idempotency-Key: ", `"env_keys": [`,
		"* no answer after", "* waited ", "attempt=1", "attempt=2", "verdict=again",
		"< HTTP/1.1 202 Accepted", "< Request-Id: " + requestID, "9007199254740993",
	} {
		require.Contains(t, trace, want)
	}
	require.Equal(t, 3, strings.Count(trace, `"encrypted_env": "[redacted]"`), trace)
}

// TestTraceChangesNothing compares what a command prints with and without it.
func TestTraceChangesNothing(t *testing.T) {
	t.Parallel()
	torn := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		w.WriteHeader(http.StatusAccepted)
		_, _ = w.Write([]byte(`{"vm_uuid":`))
	}
	for name, handler := range map[string]http.HandlerFunc{
		"accepted": answer(http.StatusAccepted, someCVM(api.StatusProvisioning, api.OperationPending)),
		"refused":  refuse(api.Errorf(api.CodeQuotaExceeded, "No room.")),
		"torn":     torn,
		"lost":     lose,
		"no JSON":  func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(canaryEnv)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t).at(serve(t, handler).URL, canaryToken)
			args := createArgs(t, "--no-retry", "--idempotency-key", "k-1")
			code, out, err := b.run(args...), b.out.String(), b.err.String()
			require.Equal(t, code, b.run(append(args, "--trace")...))
			require.Equal(t, out, b.out.String())
			require.NotContains(t, b.err.String(), canaryEnv)
			rest := untraced(b.err.String())
			require.Equal(t, err, strings.ReplaceAll(rest, " --trace", ""))
		})
	}
}

func untraced(stderr string) string {
	var rest strings.Builder
	for line := range strings.Lines(stderr) {
		if !strings.HasPrefix(line, "> ") && !strings.HasPrefix(line, "< ") && !strings.HasPrefix(line, "* ") {
			rest.WriteString(line)
		}
	}
	return rest.String()
}

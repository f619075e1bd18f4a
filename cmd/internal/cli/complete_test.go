package cli

import (
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"roost/api"
)

func (b *testBundle) complete(args ...string) []string {
	b.t.Helper()
	out := b.must(append([]string{"__complete"}, args...)...)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return lines[:len(lines)-1] // the last one is a directive for the script
}

func TestCompletionKnowsNames(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/api/v1/apps":
			answer(http.StatusOK, api.Page[api.App]{Items: []api.App{{AppID: someID, Name: "web"}}})(w, r)
		case "/api/v1/cvms":
			answer(http.StatusOK, api.Page[api.CVM]{Items: []api.CVM{someCVM(api.StatusRunning, api.OperationSucceeded)}})(w, r)
		case "/api/v1/operations":
			answer(http.StatusOK, api.Page[api.Operation]{Items: []api.Operation{{ID: "op_1", Kind: api.KindAppScale, Status: api.OperationPending}}})(w, r)
		}
	})
	b := setup(t).at(s.URL, canaryToken)
	require.Equal(t, []string{"web\t" + someID.String()}, b.complete("app", "scale", ""))
	require.Equal(t, []string{"web\t" + someID.String()}, b.complete("cvm", "list", "--app", ""))
	require.Equal(t, []string{someID.String() + "\tweb, running"}, b.complete("cvm", "stop", ""))
	require.Equal(t, []string{"op_1\tapp.scale, pending"}, b.complete("op", "get", ""))
	require.Empty(t, b.complete("cvm", "stop", someID.String(), ""))
	require.Contains(t, strings.Join(b.complete("cvm", ""), "\n"), "restart\t")
	require.NoError(t, b.env.writeConfig(config{Contexts: map[string]account{"dev": {}, "prod": {}}}))
	require.Equal(t, []string{"dev", "prod"}, b.complete("context", "use", ""))
	require.Equal(t, []string{"dev", "prod"}, b.complete("cvm", "list", "--context", ""))
	require.Equal(t, []string{"table", "json", "yaml"}, b.complete("cvm", "list", "-o", ""))
	require.Equal(t, []string{"--app\tthose of this app (NAME|ID), in the order of their making"}, b.complete("cvm", "list", "--app"))
	require.Equal(t, []string{"--endpoint\tURL of Platform, such as https://roost.example.com"}, b.complete("cvm", "list", "--endp"))
}

// TestCompletionFailsInSilence, and soon: a person waits with a finger on Tab.
func TestCompletionFailsInSilence(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		endpoint string
		token    string
	}{
		"no account":  {"", ""},
		"no server":   {"http://127.0.0.1:1", canaryToken},
		"no endpoint": {"nonsense", canaryToken},
		"bad token":   {serve(t, refuse(api.Errorf(api.CodeUnauthenticated, "No."))).URL, canaryToken},
		"answer lost": {serve(t, lose).URL, canaryToken},
		"slow server": {serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }).URL, canaryToken},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t).at(c.endpoint, c.token)
			begin := time.Now()
			require.Empty(t, b.complete("cvm", "get", ""))
			require.Less(t, time.Since(begin), completeTimeout+5*time.Second)
			for line := range strings.Lines(b.err.String()) {
				require.True(t, strings.HasPrefix(line, "Completion ended"), "cobra's own word, which the scripts drop: %s", line)
			}
		})
	}
}

// TestCompletionScriptsAreShells lets each shell that is here read its script.
func TestCompletionScriptsAreShells(t *testing.T) {
	t.Parallel()
	b := setup(t)
	checked := 0
	for shell, check := range map[string][]string{
		"bash": {"-n"}, "zsh": {"-n"}, "fish": {"--no-execute"}, "powershell": {"-NoProfile", "-Command", "-"},
	} {
		script := b.must("completion", shell)
		require.Contains(t, script, "__complete", shell)
		if _, err := exec.LookPath(shell); err != nil {
			continue
		}
		cmd := exec.CommandContext(t.Context(), shell, check...)
		cmd.Stdin = strings.NewReader(script)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s: %s", shell, out)
		checked++
	}
	require.Positive(t, checked, "not even bash is here")
}

package cli

import (
	"context"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"roost/api"
)

func whoServer(t *testing.T) *server {
	t.Helper()
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Authorization") != "Bearer "+canaryToken:
			refuse(api.Errorf(api.CodeUnauthenticated, "Send a token."))(w, r)
		case strings.HasSuffix(r.URL.Path, "/auth/me"):
			refuse(api.Errorf(api.CodeNotFound, "There is no such path."))(w, r)
		default:
			answer(http.StatusOK, api.Page[api.App]{Items: []api.App{}})(w, r)
		}
	})
}

func TestLoginKeepsAToken(t *testing.T) {
	t.Parallel()
	s := whoServer(t)
	b := setup(t)
	b.env.In = strings.NewReader(canaryToken + "\r\n")
	b.must("login", "--endpoint", s.URL, "--context", "dev")
	info, err := os.Stat(b.env.configFile())
	require.NoError(t, err)
	require.Equal(t, privateFile, info.Mode().Perm())
	b.must("app", "list")
	require.Contains(t, b.must("whoami"), s.URL, "a server that does not tell whose token it is")
	require.Contains(t, b.err.String(), "does not tell")

	for _, args := range [][]string{{"context", "list"}, {"context", "list", "-o", "json"}, {"whoami", "-o", "json"}} {
		require.NotContains(t, b.must(args...), canaryToken)
	}
	b.env.In = strings.NewReader(canaryToken)
	b.must("login", "--endpoint", s.URL)
	require.Equal(t, "127.0.0.1", b.must("context", "list", "-q")[:9], "a context without a name has its host's")
	b.must("context", "use", "dev")
	require.Contains(t, b.must("context", "list"), "*        dev")
	b.must("context", "delete", "dev")
	require.Contains(t, b.err.String(), "Forgotten: dev.\n")
	require.Equal(t, exitAuth, b.run("app", "list"), "no context is current")
	require.Equal(t, exitNotFound, b.run("context", "use", "dev"))
	require.Equal(t, exitNotFound, b.run("context", "delete", "dev"))
	text, err := os.ReadFile(b.env.configFile())
	require.NoError(t, err)
	require.NotContains(t, string(text), `"dev"`)
}

func TestLoginRefusesWhatIsNoToken(t *testing.T) {
	t.Parallel()
	s := whoServer(t)
	b := setup(t)
	require.Equal(t, exitUsage, b.run("login"))
	require.Contains(t, b.err.String(), "--endpoint is required")
	require.Equal(t, exitUsage, b.run("login", "--endpoint", s.URL), "empty stdin")
	b.env.In = strings.NewReader("wrong\n")
	require.Equal(t, exitAuth, b.run("login", "--endpoint", s.URL))
	b.env.In = strings.NewReader(canaryToken)
	require.Equal(t, exitUsage, b.run("login", "--endpoint", "ftp://x"))
	require.NoFileExists(t, b.env.configFile(), "nothing is kept of it")
}

func TestLoginAsksOnATerminal(t *testing.T) {
	t.Parallel()
	s := whoServer(t)
	b := setup(t)
	b.env.InTerminal = true
	b.env.ReadSecret = func(context.Context) (string, error) { return canaryToken, nil }
	b.must("login", "--endpoint", s.URL)
	require.Contains(t, b.err.String(), "(not shown): ")
	require.NotContains(t, b.err.String(), canaryToken)
}

// TestWhereACommandGoes is the order of what can say it.
func TestWhereACommandGoes(t *testing.T) {
	t.Parallel()
	const here, there = "http://here", "http://there"
	b := setup(t)
	require.NoError(t, b.env.writeConfig(config{Current: "a", Contexts: map[string]account{
		"a": {Endpoint: here, Token: "token-a"}, "b": {Endpoint: there, Token: "token-b"},
	}}))
	for name, c := range map[string]struct {
		flags globals
		vars  map[string]string
		want  target
		code  int
	}{
		"current context":               {want: target{here, "token-a", "a"}},
		"named context":                 {flags: globals{context: "b"}, want: target{there, "token-b", "b"}},
		"environment":                   {vars: map[string]string{"ROOST_ENDPOINT": there, "ROOST_TOKEN": "e"}, want: target{endpoint: there, token: "e"}},
		"flags over environment":        {flags: globals{endpoint: here, token: "f"}, vars: map[string]string{"ROOST_ENDPOINT": there, "ROOST_TOKEN": "e"}, want: target{endpoint: here, token: "f"}},
		"named context over env":        {flags: globals{context: "b"}, vars: map[string]string{"ROOST_ENDPOINT": here, "ROOST_TOKEN": "e"}, want: target{there, "token-b", "b"}},
		"token of the environment":      {vars: map[string]string{"ROOST_TOKEN": "e"}, want: target{endpoint: here, token: "e"}},
		"flag for the context's server": {flags: globals{endpoint: here}, want: target{endpoint: here, token: "token-a"}},
		"no token for another server":   {flags: globals{endpoint: there}, code: exitAuth},
		"nor with a named context":      {flags: globals{endpoint: "http://else", context: "b"}, code: exitAuth},
		"nor by the environment":        {vars: map[string]string{"ROOST_ENDPOINT": there}, code: exitAuth},
		"no such context":               {flags: globals{context: "c"}, code: exitUsage},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := b.env
			env.Getenv = func(name string) string { return c.vars[name] }
			got, err := (&tool{env: env, flags: c.flags}).target()
			require.Equal(t, c.code, exitCode(err), err)
			require.Equal(t, c.want, got)
		})
	}
}

func TestADamagedConfigIsNotReplaced(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, os.WriteFile(b.env.configFile(), []byte("{"), privateFile))
	require.Equal(t, exitOther, b.run("context", "list"))
	require.Contains(t, b.err.String(), b.env.configFile())
	b.env.In = strings.NewReader(canaryToken)
	require.Equal(t, exitOther, b.run("login", "--endpoint", whoServer(t).URL))
}

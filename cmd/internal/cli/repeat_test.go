package cli

import (
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"roost/api"
)

// text draws what can stand in a command line: any bytes but NUL, and often
// those that shells care about.
func text() *rapid.Generator[string] {
	const special = "'\"\\$`!*?[]{}()<>|&;#~=% \t\n-é\u2028"
	odd := rapid.StringOf(rapid.SampledFrom([]rune(special + "a")))
	// One special among plain ones: where a shell would expand it, and nothing
	// else makes quote wary.
	single := rapid.Custom(func(t *rapid.T) string {
		plain := rapid.StringMatching(`[a-z0-9_./]{0,3}`)
		return plain.Draw(t, "before") + string(rapid.SampledFrom([]rune(special)).Draw(t, "special")) + plain.Draw(t, "after")
	})
	return rapid.OneOf(odd, single, rapid.Map(rapid.String(), func(s string) string { return strings.ReplaceAll(s, "\x00", "") }))
}

// TestQuotedWordsAreReadBackByARealShell lets sh split what quote put together.
func TestQuotedWordsAreReadBackByARealShell(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		args := rapid.SliceOfN(text(), 1, 8).Draw(rt, "args")
		words := make([]word, len(args))
		for i, arg := range args {
			words[i] = word{text: arg}
		}
		out, err := exec.CommandContext(t.Context(), "sh", "-c", `printf '%s\0' `+join(words)).Output()
		require.NoError(rt, err)
		require.Equal(rt, strings.Join(args, "\x00")+"\x00", string(out))
	})
}

// TestTheShownCommandMakesTheSameRequest lets a shell split the command that is
// shown, runs what comes out, and compares what the server was sent.
func TestTheShownCommandMakesTheSameRequest(t *testing.T) {
	t.Parallel()
	compose := composeFile(t)
	rapid.Check(t, func(rt *rapid.T) {
		s := serve(t, lose)
		defer s.Close()
		b := setup(t).at(s.URL, canaryToken)
		args := []string{"cvm", "create", "--no-retry", "--instance-type", text().Filter(notEmpty).Draw(rt, "type"), "--compose", compose}
		for _, key := range rapid.SliceOfN(text(), 0, 3).Draw(rt, "env keys") {
			args = append(args, "--env-key", key)
		}
		if rapid.Bool().Draw(rt, "listed") {
			args = append(args, "--listed="+rapid.SampledFrom([]string{"true", "false"}).Draw(rt, "value"))
		}
		if rapid.Bool().Draw(rt, "region") {
			args = append(args, "--region", text().Draw(rt, "region"))
		}
		args = append(args, "--", text().Filter(notEmpty).Draw(rt, "name"))
		require.Equal(rt, exitUnknown, b.run(args...), b.err)

		shown := shownCommand(rt, b.err.String())
		out, err := exec.CommandContext(t.Context(), "sh", "-c", `printf '%s\0' `+shown).Output()
		require.NoError(rt, err)
		argv := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
		require.Equal(rt, exitUnknown, b.run(argv[1:]...), b.err)
		require.Equal(rt, shown, shownCommand(rt, b.err.String()), "the repeat's repeat")
		require.Len(rt, s.sent(), 2)
		require.Equal(rt, s.sent()[0], s.sent()[1])
		require.Equal(rt, s.seen()[0].Header.Get(api.HeaderIdempotencyKey), s.seen()[1].Header.Get(api.HeaderIdempotencyKey))
	})
}

func notEmpty(s string) bool { return s != "" }

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

func shownCommand(t fataler, stderr string) string {
	t.Helper()
	found := regexp.MustCompile(`(?s)\n\n  (roost .*?)\n\n(?:To ask|ROOST_TOKEN|Request|But|$)`).FindStringSubmatch(stderr)
	if found == nil {
		t.Fatalf("no command to repeat in:\n%s", stderr)
		return ""
	}
	return found[1]
}

// TestTheKeyIsMadeOnce counts the keys that one command sends and shows.
func TestTheKeyIsMadeOnce(t *testing.T) {
	t.Parallel()
	s := serve(t, lose)
	b := setup(t).at(s.URL, canaryToken)
	require.Equal(t, exitUnknown, b.run(createArgs(t, "--timeout", "3s")...))
	require.Greater(t, len(s.seen()), 1)
	key := s.seen()[0].Header.Get(api.HeaderIdempotencyKey)
	require.NotEmpty(t, key)
	for _, r := range s.seen() {
		require.Equal(t, key, r.Header.Get(api.HeaderIdempotencyKey))
	}
	require.Contains(t, shownCommand(t, b.err.String()), " --idempotency-key "+key)
	require.Contains(t, b.err.String(), "Attempt 1 was not answered.\nAttempt 2 was not answered.\n")
	require.Contains(t, b.err.String(), "attempts")
}

func TestTheTokenIsNotInTheShownCommand(t *testing.T) {
	t.Parallel()
	s := serve(t, lose)
	b := setup(t)
	require.Equal(t, exitUnknown, b.run(createArgs(t, "--no-retry", "--endpoint", s.URL, "--token", canaryToken)...))
	require.NotContains(t, b.err.String(), canaryToken)
	require.Contains(t, b.err.String(), `--token "$ROOST_TOKEN"`)
	require.Contains(t, b.err.String(), "ROOST_TOKEN must hold the token")
}

// TestStdinIsKeptForTheRepeat also looks at who may read what was kept.
func TestStdinIsKeptForTheRepeat(t *testing.T) {
	t.Parallel()
	s := serve(t, lose)
	b := setup(t).at(s.URL, canaryToken)
	b.env.In = strings.NewReader("name: web\ninstance_type: tdx.small\nencrypted_env: " + canaryEnv + "\ncompose_file: {docker_compose_file: x}\n")
	require.Equal(t, exitUnknown, b.run("cvm", "create", "-f", "-", "--no-retry"))
	require.NotContains(t, b.err.String(), canaryEnv)
	found := regexp.MustCompile(`--file (\S+)`).FindStringSubmatch(shownCommand(t, b.err.String()))
	require.NotNil(t, found)
	info, err := os.Stat(found[1])
	require.NoError(t, err)
	require.Equal(t, privateFile, info.Mode().Perm())

	require.Equal(t, exitUnknown, b.run("cvm", "create", "-f", found[1], "--no-retry"))
	require.Equal(t, s.sent()[0], s.sent()[1])

	// Nothing is kept for what is not to be repeated.
	refused := setup(t).at(serve(t, refuse(api.Invalid("/name", "is wrong"))).URL, canaryToken)
	refused.env.In = strings.NewReader("name: web\ninstance_type: tdx.small\ncompose_file: {docker_compose_file: x}\n")
	require.Equal(t, exitUsage, refused.run("cvm", "create", "-f", "-"))
	entries, err := os.ReadDir(refused.env.CacheDir)
	require.NoError(t, err)
	require.Empty(t, entries)
}

// TestAnArgumentIsNotReadAsAFlag: a name may begin with a dash.
func TestAnArgumentIsNotReadAsAFlag(t *testing.T) {
	t.Parallel()
	b := setup(t).at(serve(t, lose).URL, canaryToken)
	require.Equal(t, exitUnknown, b.run("app", "create", "--no-retry", "--idempotency-key", "-k", "--", "-web"))
	require.Regexp(t, ` --idempotency-key -k --no-retry -- -web$`, shownCommand(t, b.err.String()))
	require.Contains(t, b.err.String(), " -- -k\n", "the command that asks for the key")
}

func TestNamesAreIDsInTheShownCommand(t *testing.T) {
	t.Parallel()
	var found atomic.Bool
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodGet:
			answer(http.StatusOK, api.Page[api.CVM]{Items: []api.CVM{someCVM(api.StatusRunning, api.OperationSucceeded)}})(w, r)
		case !found.Load():
			lose(w, r)
		default:
			refuse(api.Errorf(api.CodeGone, "It was deleted."))(w, r)
		}
	})
	b := setup(t).at(s.URL, canaryToken)
	require.Equal(t, exitUnknown, b.run("cvm", "stop", "web", "--no-retry"))
	require.Contains(t, shownCommand(t, b.err.String()), "roost cvm stop "+someID.String()+" --endpoint "+s.URL)

	// A deletion that has happened has taken the name with it; its ID still does.
	require.Equal(t, exitUnknown, b.run("cvm", "delete", "web", "--no-retry"))
	repeat := shownCommand(t, b.err.String())
	require.Equal(t, "roost cvm delete "+someID.String()+" --endpoint "+s.URL+" --no-retry", repeat)
	found.Store(true)
	b.must(strings.Fields(repeat)[1:]...)
	require.Contains(t, b.err.String(), "it was deleted before; there is nothing left to do")
}

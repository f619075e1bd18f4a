package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"roost/cmd/internal/lossy"
	"roost/cmd/internal/stack"
)

// terminal is a person at a shell who has roost on the PATH, a directory, and
// between them and both services a network that loses what it is told to lose.
type terminal struct {
	t     *testing.T
	stack *stack.Stack
	proxy *lossy.Proxy
	dir   string
	env   []string
}

func openTerminal(t *testing.T) *terminal {
	t.Helper()
	s := stack.Start(t, stack.Options{})
	term := &terminal{t: t, stack: s, proxy: lossy.Start(t, s.Platforms[0].URL, nil), dir: t.TempDir()}
	self, err := os.Executable()
	require.NoError(t, err)
	bin := t.TempDir()
	require.NoError(t, os.Symlink(self, filepath.Join(bin, "roost")))
	home := t.TempDir()
	term.env = append(os.Environ(), runMainEnv+"=1", "PATH="+bin+":"+os.Getenv("PATH"), "HOME="+home,
		"XDG_CONFIG_HOME="+home, "XDG_CACHE_HOME="+home+"/cache", "ROOST_ENDPOINT=", "ROOST_TOKEN=")
	term.write("docker-compose.yml", "services: {web: {image: nginx}}\n")
	term.write("token", s.Token+"\n")
	return term
}

func (term *terminal) write(name, content string) {
	term.t.Helper()
	require.NoError(term.t, os.WriteFile(filepath.Join(term.dir, name), []byte(content), 0o600))
}

// loginAs logs in through the proxy.
func (term *terminal) login() {
	term.t.Helper()
	term.expect(0, "roost login --endpoint "+term.proxy.URL()+" --context demo < token")
}

// shell is a command that a real shell is to run.
func (term *terminal) shell(command string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(term.t.Context()), time.Minute)
	term.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	cmd.Dir, cmd.Env = term.dir, term.env
	return cmd
}

// screen is what one command left behind.
type screen struct {
	stdout, stderr string
	code           int
}

func (s screen) both() string { return s.stdout + s.stderr }

func (term *terminal) run(command string) screen {
	term.t.Helper()
	var stdout, stderr strings.Builder
	cmd := term.shell(command)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	code := exitCodeOf(term.t, cmd.Run())
	return screen{stdout.String(), stderr.String(), code}
}

// expect runs a command that is to end with this code.
func (term *terminal) expect(code int, command string) screen {
	term.t.Helper()
	s := term.run(command)
	require.Equal(term.t, code, s.code, "%s\n%s", command, s.both())
	return s
}

func exitCodeOf(t *testing.T, err error) int {
	t.Helper()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	require.NoError(t, err)
	return 0
}

// commandShown is the line that a person would paste: it stands alone,
// indented, between empty lines.
func commandShown(t *testing.T, stderr string) string {
	t.Helper()
	found := regexp.MustCompile(`(?s)\n\n  (roost .*?)\n\n`).FindStringSubmatch(stderr)
	require.NotNil(t, found, "no command to repeat in:\n%s", stderr)
	return found[1]
}

// keyIn is the key of a command that was shown.
func keyIn(t *testing.T, command string) string {
	t.Helper()
	found := regexp.MustCompile(`--idempotency-key (\S+)`).FindStringSubmatch(command)
	require.NotNil(t, found, "no key in: %s", command)
	return found[1]
}

// machines are the machines of this name that were made, by the driver's own
// record.
func (term *terminal) machines() int {
	term.t.Helper()
	content, err := os.ReadFile(filepath.Join(term.stack.SimDir, "effects.jsonl"))
	require.NoError(term.t, err)
	return strings.Count(string(content), `"effect":"create"`)
}

// interrupt presses Ctrl-C: the whole process group hears it.
func interrupt(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	require.NoError(t, syscall.Kill(-cmd.Process.Pid, syscall.SIGINT))
}

package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/cmd/internal/lossy"
)

const createHello = "roost cvm create hello --instance-type tdx.small --compose docker-compose.yml"

// TestALostCreateIsRepeatedByTheCommandThatIsShown is what the CLI is for.
func TestALostCreateIsRepeatedByTheCommandThatIsShown(t *testing.T) {
	t.Parallel()
	for name, command := range map[string]string{
		"one attempt":         createHello + " --no-retry",
		"every attempt":       createHello + " --timeout 5s",
		"spec from stdin":     `printf '{"name":"hello","instance_type":"tdx.small","compose_file":{"docker_compose_file":"a"}}' | roost cvm create -f - --no-retry`,
		"odd file name":       `cp docker-compose.yml "it's \$HOME *.yml"; roost cvm create hello --instance-type tdx.small --compose "it's \$HOME *.yml" --no-retry`,
		"endpoint from flags": createHello + ` --no-retry --endpoint "$U" --token "$T"`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			term := openTerminal(t)
			term.login()
			term.env = append(term.env, "U="+term.proxy.URL(), "T="+term.stack.Token)
			term.proxy.SetPolicy(lossy.Always(lossy.Writes, lossy.DropAnswer()))
			lost := term.expect(6, command)
			require.Empty(t, lost.stdout)
			require.NotContains(t, lost.both(), term.stack.Token)
			repeat := commandShown(t, lost.stderr)

			term.proxy.SetPolicy(nil)
			term.env = append(term.env, "ROOST_TOKEN="+term.stack.Token) // as the note says, where --token was given
			term.expect(0, "roost key show --context demo "+keyIn(t, repeat))
			again := term.expect(0, repeat+" -o json")
			require.Contains(t, again.stderr, "Replay")
			cvm := decodeCVM(t, again.stdout)
			term.stack.Wait(cvm.Operation.ID)
			require.Equal(t, 1, term.machines())
			require.Equal(t, cvm.VMUUID.String()+"\n", term.expect(0, "roost cvm list -q").stdout)
			require.GreaterOrEqual(t, term.proxy.Count("drop answer"), 1)
		})
	}
}

func decodeCVM(t *testing.T, text string) (cvm api.CVM) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(text), &cvm), text)
	return cvm
}

// TestARequestThatNeverArrivedIsDoneByItsRepeat is the other half of not
// knowing.
func TestARequestThatNeverArrivedIsDoneByItsRepeat(t *testing.T) {
	t.Parallel()
	term := openTerminal(t)
	term.login()
	term.proxy.SetPolicy(lossy.Always(lossy.Writes, lossy.Refuse()))
	repeat := commandShown(t, term.expect(6, createHello+" --no-retry").stderr)
	term.proxy.SetPolicy(nil)
	show := "roost key show " + keyIn(t, repeat)
	require.Contains(t, term.expect(3, show).stderr, "has not happened")
	require.NotContains(t, term.expect(0, repeat).stderr, "Replay")
	require.Contains(t, term.expect(0, show).stdout, "has happened")
}

// TestACopyIsRepeatedByID: names are resolved before the command is shown, for
// what a name means can change.
func TestACopyIsRepeatedByID(t *testing.T) {
	t.Parallel()
	term := openTerminal(t)
	term.login()
	term.expect(0, createHello+" --wait")
	term.proxy.SetPolicy(lossy.Always(lossy.Writes, lossy.DropAnswer()))
	repeat := commandShown(t, term.expect(6, "roost replica create hello --no-retry").stderr)
	term.proxy.SetPolicy(nil)
	require.Contains(t, term.expect(0, repeat+" --wait").stderr, "Replay")
	require.Equal(t, 2, strings.Count(term.expect(0, "roost cvm list --app hello -q").stdout, "\n"))
}

// TestTheRepeatGoesWhereTheFirstWent makes another context the current one in
// between: there, the key would be new and the machine a second one.
func TestTheRepeatGoesWhereTheFirstWent(t *testing.T) {
	t.Parallel()
	term := openTerminal(t)
	term.login()
	term.proxy.SetPolicy(lossy.Always(lossy.Writes, lossy.DropAnswer()))
	repeat := commandShown(t, term.expect(6, createHello+" --no-retry").stderr)
	term.proxy.SetPolicy(nil)
	term.write("token", term.stack.NewToken("another", "write"))
	term.expect(0, "roost login --endpoint "+term.proxy.URL()+" --context other < token")
	require.Contains(t, term.expect(0, repeat).stderr, "Replay")
	require.Empty(t, term.expect(0, "roost cvm list -q").stdout)
}

// TestCtrlCShowsTheCommandToRepeat interrupts a real process while its request
// is out.
func TestCtrlCShowsTheCommandToRepeat(t *testing.T) {
	t.Parallel()
	term := openTerminal(t)
	term.login()
	held := lossy.NewHold()
	term.proxy.SetPolicy(lossy.Always(lossy.Writes, held.Fate()))
	var stderr strings.Builder
	cmd := term.shell("exec " + createHello)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stderr = &stderr
	require.NoError(t, cmd.Start())
	_, err := term.proxy.Await(t.Context(), func(e lossy.Exchange) bool { return e.Method == http.MethodPost })
	require.NoError(t, err)
	interrupt(t, cmd)
	require.Equal(t, 6, exitCodeOf(t, cmd.Wait()), stderr.String())
	repeat := commandShown(t, stderr.String())

	// The request arrives after its client has gone, and the repeat meets it.
	held.Release()
	_, err = term.proxy.Await(t.Context(), func(e lossy.Exchange) bool { return e.Method == http.MethodPost && e.Done })
	require.NoError(t, err)
	term.proxy.SetPolicy(nil)
	require.Contains(t, term.expect(0, repeat).stderr, "Replay")
	require.Equal(t, 1, strings.Count(term.expect(0, "roost cvm list -q").stdout, "\n"))
}

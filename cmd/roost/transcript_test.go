package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"roost/cmd/internal/cli"
	"roost/cmd/internal/lossy"
)

// update writes what the tests see into the README, for `make transcript`.
var update = flag.Bool("update", false, "write the README's blocks instead of comparing them")

// transcript types commands into a shell and keeps what is to be seen.
type transcript struct {
	*terminal

	text strings.Builder
}

// enter runs one line as it is shown. A code that is not 0 is shown as one
// would ask for it.
func (tr *transcript) enter(line string) (seen string, code int) {
	tr.t.Helper()
	var both strings.Builder
	cmd := tr.shell(line)
	cmd.Stdout, cmd.Stderr = &both, &both // one pipe, so that the order is a terminal's
	code = exitCodeOf(tr.t, cmd.Run())
	fmt.Fprintf(&tr.text, "$ %s\n%s", line, &both)
	if code != 0 {
		fmt.Fprintf(&tr.text, "$ echo $?\n%d\n", code)
	}
	return both.String(), code
}

// must is enter for what has to succeed.
func (tr *transcript) must(line string) {
	tr.t.Helper()
	seen, code := tr.enter(line)
	require.Zero(tr.t, code, seen)
}

// TestREADMETranscript really runs what the README shows: a create, its lost
// answer, the repeat.
func TestREADMETranscript(t *testing.T) {
	t.Parallel()
	tr := &transcript{terminal: openTerminal(t)}
	require.NoError(t, os.Mkdir(filepath.Join(tr.dir, ".roost"), 0o700))
	tr.write(".roost/dev-token", tr.stack.Token)
	tr.must("roost login --endpoint " + tr.proxy.URL() + " --context dev < .roost/dev-token")

	tr.proxy.SetPolicy(lossy.Nth(1, lossy.Writes, lossy.DropAnswer()))
	lost, code := tr.enter(createHello + " --no-retry")
	tr.proxy.SetPolicy(nil)
	require.Equal(t, 6, code)
	repeat := commandShown(t, lost)

	// The states that follow are then those of a machine that runs.
	bound := tr.expect(0, "roost key show "+keyIn(t, repeat))
	tr.stack.Wait(regexp.MustCompile(`op_\w+`).FindString(bound.stdout))
	tr.must("roost key show " + keyIn(t, repeat))
	tr.must(repeat)
	tr.must("roost cvm list")
	require.Equal(t, 1, tr.machines())
	inREADME(t, "transcript", "```console\n"+sameEachTime(tr.text.String(), tr.proxy.URL())+"```\n")
}

// TestREADMEExitCodes keeps the README's table that of --help.
func TestREADMEExitCodes(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("| code | meaning |\n|---|---|\n")
	for _, row := range cli.ExitCodes() {
		fmt.Fprintf(&b, "| %d | %s |\n", row.Code, row.Meaning)
	}
	inREADME(t, "exit codes", b.String())
}

// sameEachTime gives IDs and times the values that the README has.
func sameEachTime(text, url string) string {
	text = strings.ReplaceAll(text, url, "http://127.0.0.1:8080")
	text = numbered(text, `[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`, "01a1ffe5-bf02-7998-ba53-8ff4735a8d%02x")
	text = numbered(text, `\b(op_)?01[0-9A-HJKMNP-TV-Z]{24}\b`, "01M7ZYBFR0FDWS5NTXSXZR8Q%02X")
	text = numbered(text, `\b20\d\d-\d\d-\d\d`, "2026-11-%d") // of the request, and the day after
	return regexp.MustCompile(`\d\d:\d\d:\d\dZ`).ReplaceAllString(text, "20:56:49Z")
}

// numbered replaces each value by one of its own, in the order in which they
// appear.
func numbered(text, pattern, format string) string {
	seen := map[string]string{}
	return regexp.MustCompile(pattern).ReplaceAllStringFunc(text, func(value string) string {
		if _, ok := seen[value]; !ok {
			seen[value] = fmt.Sprintf(format, 21+len(seen))
			if strings.HasPrefix(value, "op_") {
				seen[value] = "op_" + seen[value]
			}
		}
		return seen[value]
	})
}

// inREADME compares a block with what stands between its two markers, or puts
// it there.
func inREADME(t *testing.T, name, block string) {
	t.Helper()
	const path = "../../README.md"
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	begin, end := "<!-- "+name+": made by make transcript -->\n", "<!-- end of "+name+" -->\n"
	before, rest, ok := strings.Cut(string(content), begin)
	require.True(t, ok, "the README has no %q", begin)
	shown, after, ok := strings.Cut(rest, end)
	require.True(t, ok, "the README has no %q", end)
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(before+begin+block+end+after), 0o600))
		return
	}
	require.Equal(t, shown, block, "the README is out of date: make transcript")
}

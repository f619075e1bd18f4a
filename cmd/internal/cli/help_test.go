package cli

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

// update writes the golden file anew.
var update = flag.Bool("update", false, "write testdata/help.txt instead of comparing it")

// TestHelp compares the help of every command with testdata/help.txt, which is
// for reading: it is the command line as its users see it.
func TestHelp(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var all strings.Builder
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		path := cmd.CommandPath()
		text := b.must(append(strings.Fields(path)[1:], "--help")...)
		fmt.Fprintf(&all, "=== %s\n\n%s\n", path, text)
		for _, child := range cmd.Commands() {
			visit(child)
		}
		for line := range strings.Lines(text) {
			require.LessOrEqual(t, len([]rune(line)), 121, "%s: %s", path, line)
		}
		require.NotEmpty(t, cmd.Short, path)
		require.False(t, strings.HasSuffix(cmd.Short, "."), "%s: %s", path, cmd.Short)
	}
	visit((&tool{env: b.env}).root(nil))
	const golden = "testdata/help.txt"
	if *update {
		require.NoError(t, os.WriteFile(golden, []byte(all.String()), 0o600))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), all.String(), "the help has changed: go test ./cmd/internal/cli -run TestHelp -update")
}

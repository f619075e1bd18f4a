package crash_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"roost/cmd/internal/harness"
)

// What is shipped has no fault points, and the test can tell: those that it is
// compared with have.
func TestReleasesHaveNoFaultPoints(t *testing.T) {
	t.Parallel()
	traces := []string{"ROOST_FAULT", "fault point "}
	for _, name := range []string{"platform", "owl"} {
		for _, trace := range traces {
			require.True(t, contains(t, harness.Binary(t, name), trace), "the binary under test has %q", trace)
		}
	}
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-tags", "nomsgpack", "-buildvcs=false", "-o", dir,
		"roost/cmd/platform", "roost/cmd/owl", "roost/cmd/roost")
	output, err := build.CombinedOutput()
	require.NoError(t, err, "%s", output)
	for _, name := range []string{"platform", "owl", "roost"} {
		for _, trace := range traces {
			require.False(t, contains(t, filepath.Join(dir, name), trace), "%s has %q", name, trace)
		}
	}
}

func contains(t *testing.T, file, text string) bool {
	t.Helper()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	return bytes.Contains(data, []byte(text))
}

//go:build faults

package faultpoint_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"roost/models/faultpoint"
)

// TestAStopStopsRightThere: not one instruction further, on whichever thread,
// and the process goes on from there when it is told to.
func TestAStopStopsRightThere(t *testing.T) {
	t.Parallel()
	for fault, want := range map[string]string{
		"owl.step.before:stop":  "",
		"owl.step.after:stop":   "step ",
		"owl.busy.after:stop@2": "step idle busy step idle busy ",
		"owl.hit:stop":          "step idle busy ",
	} {
		said, err := os.Create(filepath.Join(t.TempDir(), "said"))
		require.NoError(t, err)
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env, cmd.Stdout = append(os.Environ(), inside+"=1", faultpoint.Variable+"="+fault), said
		require.NoError(t, cmd.Start())
		var how syscall.WaitStatus
		_, err = syscall.Wait4(cmd.Process.Pid, &how, syscall.WUNTRACED, nil)
		require.NoError(t, err)
		require.True(t, how.Stopped(), fault)
		require.Equal(t, want, read(t, said), fault)
		require.NoError(t, cmd.Process.Signal(syscall.SIGCONT))
		require.NoError(t, cmd.Wait())
		require.Equal(t, "step idle busy step idle busy ", read(t, said), fault)
		require.NoError(t, said.Close())
	}
}

func read(t *testing.T, file *os.File) string {
	t.Helper()
	text, err := os.ReadFile(file.Name())
	require.NoError(t, err)
	return string(text)
}

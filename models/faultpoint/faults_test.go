//go:build faults

package faultpoint_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"roost/models/faultpoint"
)

// inside names the environment variable of a process that goes through the
// points.
const inside = "ROOST_FAULTPOINT_TEST"

func TestMain(m *testing.M) {
	if os.Getenv(inside) != "" {
		// By another thread than the process's first, which a signal to the
		// process goes to.
		runtime.LockOSThread()
		gone := make(chan struct{})
		go func() { defer close(gone); goThrough() }()
		<-gone
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// goThrough says on standard output what it did.
func goThrough() {
	say := func(what string) { _, _ = os.Stdout.WriteString(what + " ") }
	defer func() {
		if recover() != nil {
			say("panicked")
		}
	}()
	for range 2 {
		err := faultpoint.Step("owl.step", func() error { say("step"); return errors.New("as it was") })
		if err == nil || err.Error() != "as it was" {
			say("another error")
		}
		_ = faultpoint.Poll("owl.idle", func() (int, error) { say("idle"); return 0, nil })
		_ = faultpoint.Poll("owl.busy", func() (int, error) { say("busy"); return 1, nil })
		faultpoint.Hit("owl.hit")
	}
}

// run goes through the points in a process of its own.
func run(t *testing.T, fault string) (said, announced string, how syscall.WaitStatus) {
	t.Helper()
	var out, complaint strings.Builder
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), inside+"=1", faultpoint.Variable+"="+fault)
	cmd.Stdout, cmd.Stderr = &out, &complaint
	_ = cmd.Run() // how it ended is looked at
	how, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	require.True(t, ok)
	return strings.TrimSpace(out.String()), strings.TrimSpace(complaint.String()), how
}

func TestEachFaultBefallsItsPointOnce(t *testing.T) {
	t.Parallel()
	const round = "step idle busy"
	for fault, want := range map[string]string{
		"":                      round + " " + round,
		"owl.elsewhere:kill":    round + " " + round,
		"owl.step.before:kill":  "",
		"owl.step.after:kill":   "step",
		"owl.step.after:kill@2": round + " step",
		"owl.step:repeat":       "step " + round + " " + round,
		"owl.step:repeat@2":     round + " step " + round,
		"owl.step.after:panic":  "step panicked",
		"owl.step:kill":         round + " " + round, // a step has no such point
		"owl.step.after:repeat": round + " " + round,
		"owl.idle.after:kill":   round + " " + round,
		"owl.idle:repeat":       round + " " + round,
		"owl.busy.after:panic":  "step idle busy panicked",
		"owl.busy:repeat":       "step idle busy busy " + round,
		"owl.hit:panic":         round + " panicked",
		"owl.hit:sleep=1ms":     round + " " + round,
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			said, announced, how := run(t, fault)
			require.Equal(t, want, said)
			require.Equal(t, strings.HasSuffix(strings.Split(fault, "@")[0], ":kill") && want != round+" "+round, how.Signal() == syscall.SIGKILL)
			if want == round+" "+round && !strings.Contains(fault, "sleep") {
				require.Empty(t, announced)
			} else {
				require.Equal(t, "fault point "+strings.ReplaceAll(strings.Split(strings.Split(fault, "@")[0], "=")[0], ":", ": "), announced)
			}
		})
	}
}

func TestATypoIsNoFaultSurvived(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{"owl.step", ":kill", "owl.step:kil", "owl.step:kill@0", "owl.step:sleep=x"} {
		said, announced, how := run(t, fault)
		require.Empty(t, said, fault)
		require.Contains(t, announced, faultpoint.Variable, fault)
		require.Equal(t, 2, how.ExitStatus(), fault)
	}
}

func TestAFileTellsOneProcessOnce(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "fault")
	require.NoError(t, os.WriteFile(file, []byte("owl.hit:panic@2\n"), 0o600))
	said, announced, _ := run(t, "@"+file)
	require.Equal(t, "step idle busy step idle busy panicked", said)
	require.Equal(t, "fault point owl.hit: panic", announced)
	require.NoFileExists(t, file)
	said, announced, _ = run(t, "@"+file)
	require.Equal(t, "step idle busy step idle busy", said)
	require.Empty(t, announced)
}

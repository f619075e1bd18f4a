package acceptance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"roost/cmd/internal/lossy"
)

const (
	runTimeout = 2 * time.Minute // of one terraform, on a machine with other work to do

	exitChanges = 2 // of plan -detailed-exitcode: the plan is not empty
)

// workdir is a directory that Terraform runs in, with the real provider behind
// a proxy.
type workdir struct {
	t     *testing.T
	dir   string
	env   []string
	proxy *lossy.Proxy
}

func newWorkdir(t *testing.T) *workdir {
	t.Helper()
	w := &workdir{t: t, dir: t.TempDir(), proxy: lossy.Start(t, shared.platform, nil)}
	rc := filepath.Join(w.dir, "terraformrc")
	w.write("terraformrc", fmt.Sprintf("provider_installation {\n  dev_overrides { \"terraform.local/roost/roost\" = %q }\n  direct {}\n}\n",
		filepath.Join(shared.dir, "bin")))
	w.env = append(clean(os.Environ()), "TF_CLI_CONFIG_FILE="+rc, "ROOST_ENDPOINT="+w.proxy.URL(), "ROOST_TOKEN="+shared.token)
	return w
}

func (w *workdir) write(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// copyFrom takes a file over.
func (w *workdir) copyFrom(file string) {
	w.t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		w.t.Fatal(err)
	}
	w.write(filepath.Base(file), string(text))
}

// outcome is how a terraform ended.
type outcome struct {
	exit   int // -1: by a signal
	output string
}

// start runs a terraform in a process group of its own, which its provider
// joins.
func (w *workdir) start(ctx context.Context, env []string, args ...string) (cmd *exec.Cmd, wait func() outcome) {
	w.t.Helper()
	var output bytes.Buffer
	cmd = exec.CommandContext(ctx, shared.terraform, args...)
	cmd.Dir, cmd.Env = w.dir, slices.Concat(w.env, env)
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second // a provider that was killed a moment later holds the pipe
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	return cmd, func() outcome {
		_ = cmd.Wait() // how it ended is in ProcessState
		return outcome{exit: cmd.ProcessState.ExitCode(), output: output.String()}
	}
}

// run runs a terraform to its end.
func (w *workdir) run(env []string, args ...string) outcome {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), runTimeout)
	defer cancel()
	_, wait := w.start(ctx, env, args...)
	return wait()
}

// must runs a terraform that has to succeed.
func (w *workdir) must(args ...string) string {
	w.t.Helper()
	out := w.run(nil, args...)
	if out.exit != 0 {
		w.t.Fatalf("terraform %s: exit %d:\n%s", strings.Join(args, " "), out.exit, out.output)
	}
	return out.output
}

// kill ends a terraform and its provider at once and waits until both are gone.
func (w *workdir) kill(cmd *exec.Cmd, wait func() outcome) {
	w.t.Helper()
	group := -cmd.Process.Pid
	if err := syscall.Kill(group, syscall.SIGKILL); err != nil {
		w.t.Fatalf("kill terraform and its provider: %v", err)
	}
	if out := wait(); out.exit != -1 {
		w.t.Fatalf("terraform was to be killed and exited with %d:\n%s", out.exit, out.output)
	}
	eventually(w.t, "terraform and its provider are gone", func() bool {
		return errors.Is(syscall.Kill(group, 0), syscall.ESRCH)
	})
}

// planIsEmpty fails the test if a plan would change anything.
func (w *workdir) planIsEmpty(more ...string) {
	w.t.Helper()
	out := w.run(nil, append([]string{"plan", "-detailed-exitcode", "-no-color", "-input=false"}, more...)...)
	switch out.exit {
	case 0:
	case exitChanges:
		w.t.Errorf("the plan is not empty:\n%s", out.output)
	default:
		w.t.Errorf("plan: exit %d:\n%s", out.exit, out.output)
	}
}

// state is the attributes of a resource in Terraform's state, nil without it.
func (w *workdir) state(address string) map[string]any {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join(w.dir, "terraform.tfstate"))
	if errors.Is(err, os.ErrNotExist) || len(bytes.TrimSpace(text)) == 0 {
		return nil
	}
	var state struct {
		Resources []struct {
			Mode, Type, Name string
			Instances        []struct {
				Status     string
				Attributes map[string]any
			}
		}
	}
	if err == nil {
		err = json.Unmarshal(text, &state)
	}
	if err != nil {
		w.t.Fatalf("read the state: %v", err)
	}
	for _, r := range state.Resources {
		if r.Mode == "managed" && r.Type+"."+r.Name == address && len(r.Instances) == 1 {
			if r.Instances[0].Status != "" {
				w.t.Errorf("%s is %s in the state", address, r.Instances[0].Status)
			}
			return r.Instances[0].Attributes
		}
	}
	return nil
}

// eventually waits for a state with a deadline.
func eventually(t *testing.T, what string, reached func() bool) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(runTimeout); time.Now().Before(deadline); <-ticker.C {
		if reached() {
			return
		}
	}
	t.Fatalf("never happened: %s", what)
}

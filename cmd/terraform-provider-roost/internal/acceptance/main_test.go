package acceptance

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"roost/api/client"
)

const (
	startTimeout = 3 * time.Minute // builds included
	stopTimeout  = 30 * time.Second

	terraformPathEnv = "TF_ACC_TERRAFORM_PATH" // terraform-plugin-testing's
)

// world is what all tests share; TestMain has no other way to hand it over than
// a variable.
type world struct {
	dir       string
	terraform string // path of the program
	platform  string // base URL
	owl       string
	owlToken  string
	token     string
	simDir    string
	client    *client.Client

	dev *exec.Cmd
}

var shared world

func TestMain(m *testing.M) {
	code := 1
	err := shared.start()
	if err == nil {
		code = m.Run()
	}
	if err = errors.Join(err, shared.stop()); err != nil {
		fmt.Fprintln(os.Stderr, "acceptance tests:", err)
		code = 1
	}
	os.Exit(code)
}

func (w *world) start() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	var err error
	if w.terraform, err = findTerraform(); err != nil {
		return err
	}
	for name, value := range map[string]string{
		"TF_ACC": "1", "CHECKPOINT_DISABLE": "1", terraformPathEnv: w.terraform, "TF_IN_AUTOMATION": "1",
	} {
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	for _, name := range []string{"TF_WORKSPACE", "TF_DATA_DIR", "TF_LOG", "TF_CLI_CONFIG_FILE"} {
		_ = os.Unsetenv(name)
	}
	if w.dir, err = os.MkdirTemp("", "roost-tf-"); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	w.simDir = filepath.Join(w.dir, "data", "sim")
	if err := w.build(ctx); err != nil {
		return err
	}
	return w.launch(ctx)
}

// findTerraform fails where there is none: a run that tests nothing must not
// look like one that passed.
func findTerraform() (string, error) {
	if path := os.Getenv(terraformPathEnv); path != "" {
		return path, nil
	}
	path, err := exec.LookPath("terraform")
	if err != nil {
		return "", errors.New("there is no terraform on PATH, and " + terraformPathEnv + " names none; " +
			"install Terraform 1.11 or newer, or leave this package out")
	}
	return path, nil
}

// build makes roost out of the main module, with its own dependencies, and the
// provider.
func (w *world) build(ctx context.Context) error {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "roost").Output()
	if err != nil {
		return fmt.Errorf("find the main module: %w", err)
	}
	bin := filepath.Join(w.dir, "bin") + string(filepath.Separator)
	for _, b := range []struct{ dir, pkg string }{
		{strings.TrimSpace(string(root)), "./cmd/roost"},
		{filepath.Join(strings.TrimSpace(string(root)), "cmd", "terraform-provider-roost"), "."},
	} {
		cmd := exec.CommandContext(ctx, "go", "build", "-tags=nomsgpack", "-buildvcs=false", "-ldflags=-w", "-o", bin, b.pkg)
		cmd.Dir = b.dir
		if output, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w:\n%s", b.pkg, err, output)
		}
	}
	return nil
}

// launch starts roost dev and waits until it says that it is ready.
func (w *world) launch(ctx context.Context) error {
	data := filepath.Join(w.dir, "data")
	w.dev = exec.CommandContext(context.WithoutCancel(ctx), filepath.Join(w.dir, "bin", "roost"), "dev")
	w.dev.SysProcAttr = diesWithUs()
	w.dev.Env = append(clean(os.Environ()),
		"ROOST_DATA_DIR="+data, "PLATFORM_ADDR=127.0.0.1:0", "OWL_ADDR=127.0.0.1:0", "PLATFORM_RATE_LIMIT=0",
		"OWL_SIM_BOOT=50ms", "OWL_SIM_STOP=20ms", "OWL_SIM_FAIL=^broken|^limp-3$", "PLATFORM_SWEEP_INTERVAL=1s",
		"PLATFORM_RECONCILE_LEASE=1s", "PLATFORM_RECONCILE_BACKOFF_MAX=500ms", "OWL_LEASE=1s")
	var complaint bytes.Buffer
	w.dev.Stderr = &complaint
	screen, err := w.dev.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start roost dev: %w", err)
	}
	if err := w.dev.Start(); err != nil {
		return fmt.Errorf("start roost dev: %w", err)
	}
	lines := bufio.NewScanner(screen)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) > 1 && fields[0] == "Platform":
			w.platform = fields[1]
		case len(fields) > 1 && fields[0] == "Owl":
			w.owl = fields[1]
		case strings.Contains(lines.Text(), "Ctrl-C stops everything."):
			go func() { // a full pipe would stop it
				for lines.Scan() {
				}
			}()
			return w.connect(data)
		}
	}
	return fmt.Errorf("roost dev has ended: %s", complaint.String())
}

// clean is an environment without what configures Roost.
func clean(environ []string) (out []string) {
	for _, v := range environ {
		if !strings.HasPrefix(v, "ROOST_") && !strings.HasPrefix(v, "PLATFORM_") && !strings.HasPrefix(v, "OWL_") || strings.HasPrefix(v, "ROOST_PG_BIN=") {
			out = append(out, v)
		}
	}
	return out
}

func (w *world) connect(data string) error {
	for file, value := range map[string]*string{"dev-token": &w.token, "owl-token": &w.owlToken} {
		text, err := os.ReadFile(filepath.Join(data, file))
		if err != nil {
			return fmt.Errorf("read a token: %w", err)
		}
		*value = strings.TrimSpace(string(text))
	}
	var err error
	w.client, err = client.New(client.Config{Endpoint: w.platform, Token: w.token})
	return err
}

// stop ends roost dev and removes everything.
func (w *world) stop() error {
	var failed error
	if w.dev != nil && w.dev.Process != nil {
		_ = w.dev.Process.Signal(syscall.SIGTERM) // Wait tells how it ended
		cut := time.AfterFunc(stopTimeout, func() { _ = w.dev.Process.Kill() })
		defer cut.Stop()
		if err := w.dev.Wait(); err != nil {
			failed = fmt.Errorf("roost dev: %w", err)
		}
	}
	if w.dir == "" {
		return failed
	}
	return errors.Join(failed, os.RemoveAll(w.dir))
}

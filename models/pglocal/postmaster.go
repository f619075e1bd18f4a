package pglocal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// tailBytes is how much of Postgres' output an error quotes.
const tailBytes = 2 << 10

// postmaster is one run of the postgres binary.
type postmaster struct {
	cmd  *exec.Cmd
	tail *tail
	done chan struct{} // closed once the process was waited for
}

func startPostmaster(ctx context.Context, dir *directory, bins Binaries, args []string, log io.Writer) (*postmaster, error) {
	p := &postmaster{tail: &tail{next: log}, done: make(chan struct{})}
	// The server outlives the context of its start.
	p.cmd = dir.command(context.WithoutCancel(ctx), bins.Postgres, append([]string{"-D", dir.pgdata()}, args...)...)
	p.cmd.Stdout, p.cmd.Stderr = p.tail, p.tail
	// Backends hold the output open for a moment after their postmaster.
	p.cmd.WaitDelay = time.Second
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("launch %s: %w", bins.Postgres, err)
	}
	go func() {
		// The status shows in the log; what matters is that it was reaped, or
		// its pid file would point at a zombie and block the next start.
		_ = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// serverArgs are given on the command line, so that nothing has to be edited
// in a file inside the cluster.
func serverArgs(cfg Config, port int) []string {
	settings := map[string]string{ //nolint:gosec // the name of a method, not a password
		"listen_addresses":        loopback,
		"port":                    strconv.Itoa(port),
		"unix_socket_directories": "",
		"password_encryption":     "scram-sha-256",
		"cluster_name":            "roost",
		"timezone":                "UTC",
		"log_timezone":            "UTC",
	}
	if cfg.Throwaway {
		maps.Copy(settings, map[string]string{
			"fsync":              "off",
			"synchronous_commit": "off",
			"full_page_writes":   "off",
			"autovacuum":         "off",
			"max_connections":    "500",
		})
	}
	maps.Copy(settings, cfg.Settings)
	var args []string
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", name+"="+settings[name])
	}
	return args
}

// stop asks in three degrees: fast (SIGINT), immediate (SIGQUIT), SIGKILL.
func (p *postmaster) stop(ctx context.Context) error {
	degrees := []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL}
	for i, signal := range degrees {
		select {
		case <-p.done:
			return nil
		default:
		}
		// Fails only for a process that has ended; done says so.
		_ = p.cmd.Process.Signal(signal)
		if i > 0 {
			ctx = context.WithoutCancel(ctx)
		}
		if p.awaitExit(ctx) {
			return nil
		}
	}
	return fmt.Errorf("postmaster %d does not end", p.cmd.Process.Pid)
}

func (p *postmaster) awaitExit(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, StopTimeout)
	defer cancel()
	select {
	case <-p.done:
		return true
	case <-ctx.Done():
		return false
	}
}

// exit describes an end that nobody asked for. Call it after done.
func (p *postmaster) exit() error {
	return &exitError{status: p.cmd.ProcessState.String(), output: p.tail.String()}
}

type exitError struct{ status, output string }

func (e *exitError) Error() string {
	return fmt.Sprintf("postgres ended (%s):\n%s", e.status, e.output)
}

// mayPass reports whether the same launch can succeed a moment later. The
// messages are English because Postgres runs with LC_ALL=C.
func (e *exitError) mayPass() bool {
	for _, passing := range []string{
		"could not create any TCP/IP sockets",
		"pre-existing shared memory block",
	} {
		if strings.Contains(e.output, passing) {
			return true
		}
	}
	return false
}

// tail passes output on and remembers the end of it.
type tail struct {
	mu   sync.Mutex
	kept []byte
	next io.Writer
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, b...)
	t.kept = t.kept[max(0, len(t.kept)-tailBytes):]
	if t.next != nil {
		// Postgres goes on without its log.
		_, _ = t.next.Write(b)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.kept))
}

// runTool runs a short-lived Postgres program to its end.
func runTool(cmd *exec.Cmd) error {
	output := &tail{}
	cmd.Stdout, cmd.Stderr = output, output
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return fmt.Errorf("%s: %w:\n%s", cmd.Path, err, output)
	}
	return nil
}

// environment is all that Postgres sees of ours: no PG* variable that would
// redirect it, no locale that would translate its messages, no secret.
func environment() []string {
	env := []string{"LC_ALL=C"}
	for _, name := range []string{"PATH", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

package pglocal

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// watchdogScript waits for the end of its input, which comes when the process
// that holds the other end of the pipe is gone for whatever reason. It takes
// the process ID from the pid file, so that it signals nothing once Postgres
// has ended in order, and waits for that file to go: a dead process may stay
// visible as a zombie for long. $1 is PGDATA, $2 a directory to remove or empty.
//
// A parent-death signal would do on Linux alone, and is bound to the life of
// one thread of a Go program.
const watchdogScript = `
trap '' INT TERM HUP
read -r _
pid=$(head -n 1 "$1/postmaster.pid" 2>/dev/null)
if [ -n "$pid" ] && kill -QUIT "$pid" 2>/dev/null; then
	n=0
	while [ -e "$1/postmaster.pid" ] && [ "$n" -lt 100 ]; do sleep 0.1; n=$((n+1)); done
	[ ! -e "$1/postmaster.pid" ] || kill -KILL "$pid" 2>/dev/null
fi
[ -z "$2" ] || rm -rf -- "$2"
`

// watchdog ends Postgres when this process cannot.
type watchdog struct {
	cmd  *exec.Cmd
	pipe *os.File // our end; the kernel closes it with us
}

func startWatchdog(ctx context.Context, dir *directory, throwaway bool) (*watchdog, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start watchdog: %w", err)
	}
	defer func() { _ = read.Close() }()
	remove := ""
	if throwaway {
		remove = dir.root
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), "/bin/sh", "-c", watchdogScript, "roost-pg-watchdog", dir.data(), remove) //nolint:gosec // a constant script
	cmd.Stdin = read
	cmd.Dir = filepath.Dir(dir.root)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		_ = write.Close()
		return nil, fmt.Errorf("start watchdog: %w", err)
	}
	return &watchdog{cmd: cmd, pipe: write}, nil
}

// dismiss kills it before it can see the pipe close.
func (w *watchdog) dismiss() {
	_ = w.cmd.Process.Kill()
	_ = w.cmd.Wait()
	_ = w.pipe.Close()
}

package pglocal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// stopLeftover ends the postmaster of a run whose owner was killed. Holding the
// lock means that no live owner wants it.
func (d *directory) stopLeftover(ctx context.Context) error {
	pid, ok := d.recordedPID()
	if !ok {
		return nil
	}
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL} {
		if !runsIn(pid, d.data()) {
			return d.disownPID(pid)
		}
		_ = syscall.Kill(pid, signal)
		d.awaitGone(ctx, pid)
	}
	if runsIn(pid, d.data()) {
		return fmt.Errorf("postmaster %d of an earlier run does not end", pid)
	}
	return d.disownPID(pid)
}

func (d *directory) awaitGone(ctx context.Context, pid int) {
	ctx, cancel := context.WithTimeout(ctx, StopTimeout)
	defer cancel()
	for runsIn(pid, d.data()) {
		if pause(ctx, pollInterval) != nil {
			return
		}
	}
}

func (d *directory) pidFile() string { return filepath.Join(d.data(), "postmaster.pid") }

func (d *directory) recordedPID() (int, bool) {
	content, err := os.ReadFile(d.pidFile())
	if err != nil {
		return 0, false
	}
	first, _, _ := strings.Cut(string(content), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	return pid, err == nil && pid > 1
}

// disownPID deals with a pid file whose number has passed on to some other
// process, or to a zombie that nobody reaps: Postgres would take either for its
// predecessor. Our own number, the parent's, it ignores. The rest of the file
// stays, for it leads Postgres to shared memory still held by old backends.
func (d *directory) disownPID(pid int) error {
	if !exists(pid) {
		return nil
	}
	// Opened in place, so that the file keeps its owner, and through no link:
	// we may be root, and the directory is another account's.
	file, err := os.OpenFile(d.pidFile(), os.O_RDWR|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the leftover has removed it on its way out
	}
	if err == nil {
		err = errors.Join(replaceFirstLine(file, strconv.Itoa(os.Getpid())), file.Close())
	}
	if err != nil {
		return fmt.Errorf("disown pid file: %w", err)
	}
	return nil
}

func exists(pid int) bool { return syscall.Kill(pid, 0) == nil }

func replaceFirstLine(file *os.File, line string) error {
	content, err := io.ReadAll(file)
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(string(content), "\n")
	if err := file.Truncate(0); err != nil {
		return err
	}
	_, err = file.WriteAt([]byte(line+"\n"+rest), 0)
	return err
}

package dev

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// leftoverTimeout bounds the wait for the processes of a run that was
	// killed; they end by themselves, Postgres last.
	leftoverTimeout = 30 * time.Second
	pollInterval    = 20 * time.Millisecond
)

// dataDir is the directory that everything is kept in, locked for us.
type dataDir struct {
	root      string
	lock      *os.File // ours alone
	processes *os.File // shared with every process that we start
}

// openDataDir makes and locks the directory. It waits for what a killed run
// left behind, but not for a run that lives.
func openDataDir(ctx context.Context, root string) (*dataDir, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("ROOST_DATA_DIR: %w", err)
	}
	d := &dataDir{root: root}
	if err := os.MkdirAll(d.path("log"), 0o700); err != nil {
		return nil, fmt.Errorf("ROOST_DATA_DIR: %w", err)
	}
	if err := d.acquire(ctx); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

func (d *dataDir) acquire(ctx context.Context) error {
	var err error
	if d.lock, err = openLock(d.path("lock")); err != nil {
		return err
	}
	if !tryLock(d.lock) {
		return fmt.Errorf("another roost dev%s is running on ROOST_DATA_DIR=%s", d.owner(), d.root)
	}
	if err := d.sign(); err != nil {
		return err
	}
	if d.processes, err = openLock(d.path("processes.lock")); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, leftoverTimeout)
	defer cancel()
	for !tryLock(d.processes) {
		if err := pause(ctx, pollInterval); err != nil {
			return fmt.Errorf("processes of an earlier run still use ROOST_DATA_DIR=%s: %w", d.root, err)
		}
	}
	return nil
}

func openLock(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // a path in the data directory
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	return file, nil
}

// tryLock takes a lock that ends with the last process that has the file open.
func tryLock(file *os.File) bool {
	return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}

// sign writes our process ID for whoever comes second.
func (d *dataDir) sign() error {
	pid := []byte(strconv.Itoa(os.Getpid()) + "\n")
	if err := d.lock.Truncate(0); err != nil {
		return fmt.Errorf("lock data directory: %w", err)
	}
	if _, err := d.lock.WriteAt(pid, 0); err != nil {
		return fmt.Errorf("lock data directory: %w", err)
	}
	return nil
}

func (d *dataDir) owner() string {
	pid, err := os.ReadFile(d.path("lock"))
	if err != nil || len(pid) == 0 {
		return ""
	}
	return " (PID " + strings.TrimSpace(string(pid)) + ")"
}

func (d *dataDir) close() error {
	var errs []error
	for _, file := range []*os.File{d.processes, d.lock} {
		if file != nil {
			errs = append(errs, file.Close())
		}
	}
	return errors.Join(errs...)
}

func (d *dataDir) path(elem ...string) string {
	return filepath.Join(append([]string{d.root}, elem...)...)
}

// secret reads a secret that is kept across runs; "" if there is none yet.
func (d *dataDir) secret(name string) (string, error) {
	content, err := os.ReadFile(d.path(name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read secret: %w", err)
	}
	return strings.TrimSpace(string(content)), nil
}

// keepSecret writes it under a temporary name first: a kill in the middle must
// not leave half of it.
func (d *dataDir) keepSecret(name, secret string) error {
	fresh := d.path(name + ".new")
	if err := os.WriteFile(fresh, []byte(secret+"\n"), 0o600); err != nil {
		return fmt.Errorf("keep secret: %w", err)
	}
	// The mode given above is for a file that did not exist.
	if err := os.Chmod(fresh, 0o600); err != nil {
		return fmt.Errorf("keep secret: %w", err)
	}
	if err := os.Rename(fresh, d.path(name)); err != nil {
		return fmt.Errorf("keep secret: %w", err)
	}
	return nil
}

// sharedSecret is the one of the run before, or a new one.
func (d *dataDir) sharedSecret(name string) (string, error) {
	secret, err := d.secret(name)
	if err != nil || secret != "" {
		return secret, err
	}
	secret = rand.Text()
	return secret, d.keepSecret(name, secret)
}

func (d *dataDir) logPath(name string) string { return d.path("log", name+".log") }

// rotateLog puts the log of the run before aside.
func (d *dataDir) rotateLog(name string) error {
	err := os.Rename(d.logPath(name), d.logPath(name)+".1")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("rotate log: %w", err)
	}
	return nil
}

func (d *dataDir) openLog(name string) (*os.File, error) {
	file, err := os.OpenFile(d.logPath(name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return file, nil
}

// pause waits, or returns early with the reason that ctx ended.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

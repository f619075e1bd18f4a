package harness

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// buildTimeout bounds the first build, which compiles everything with -race.
const buildTimeout = 10 * time.Minute

// binaries are built once in a test process.
//
//nolint:gochecknoglobals // tests of one process share them, and testing has no other scope of that size
var binaries struct {
	once sync.Once
	dir  string
	err  error
}

// Main runs the tests of a package that uses this one, and removes what was
// built for them.
func Main(m *testing.M) {
	code := m.Run()
	if binaries.dir != "" {
		_ = os.RemoveAll(binaries.dir) // a temporary directory; the system's cleaner gets the rest
	}
	os.Exit(code)
}

// Binary is the path of a command, "platform" or "owl", as the harness runs it.
func Binary(tb testing.TB, name string) string { tb.Helper(); return binary(tb, name) }

// binary is the path of a built command.
func binary(tb testing.TB, name string) string {
	tb.Helper()
	binaries.once.Do(func() { binaries.dir, binaries.err = build(context.WithoutCancel(tb.Context())) })
	if binaries.err != nil {
		tb.Fatalf("harness: %v", binaries.err)
	}
	return filepath.Join(binaries.dir, name)
}

func build(ctx context.Context) (dir string, err error) {
	ctx, cancel := context.WithTimeout(ctx, buildTimeout)
	defer cancel()
	if dir, err = os.MkdirTemp("", "roost-harness-"); err != nil {
		return "", fmt.Errorf("make directory of binaries: %w", err)
	}
	// Whose clone this is does not matter, so no version is stamped, and nobody
	// debugs them: without DWARF they link in half the time.
	cmd := exec.CommandContext(ctx, "go", "build", "-race", "-tags", "faults,nomsgpack", "-buildvcs=false", //nolint:gosec // into our directory
		"-ldflags=-w", "-o", dir, "roost/cmd/platform", "roost/cmd/owl")
	if output, err := cmd.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("build: %w:\n%s", err, output)
	}
	return dir, nil
}

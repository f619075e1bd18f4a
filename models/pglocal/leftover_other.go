//go:build !linux

package pglocal

import (
	"context"
	"os/exec"
	"strconv"
	"strings"
)

// runsIn reports whether pid is a live postmaster that was started on dir,
// which is what tells it from another process under a recycled number.
func runsIn(pid int, dir string) bool {
	out, err := exec.CommandContext(context.Background(), "ps", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && strings.Contains(string(out), "-D "+dir)
}

//go:build !linux

package harness

import (
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// killWithParent is something that only Linux knows.
func killWithParent(*syscall.SysProcAttr) {}

// stopped reports whether a process is frozen.
func stopped(pid int) bool {
	state, err := exec.Command("ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output() //nolint:noctx,gosec // a number
	return err == nil && strings.HasPrefix(strings.TrimSpace(string(state)), "T")
}

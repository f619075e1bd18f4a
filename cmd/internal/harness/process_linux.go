package harness

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
)

// killWithParent makes the kernel kill the process when the test process ends,
// however it does: at a test's timeout no cleanup runs.
func killWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }

// stopped reports whether a process is frozen: the signal says so a moment
// before it is.
func stopped(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, ok := bytes.Cut(stat, []byte(") ")) // after the name
	return ok && len(rest) > 0 && (rest[0] == 'T' || rest[0] == 't')
}

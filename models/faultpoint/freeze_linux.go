//go:build faults

package faultpoint

import (
	"os"
	"runtime"
	"syscall"
)

// freeze stops the whole process, here. A signal to the process is taken by
// any of its threads, and ours would go on until that one has run: on a busy
// machine far enough to take the very lock that others then wait for.
func freeze() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = syscall.Tgkill(os.Getpid(), syscall.Gettid(), syscall.SIGSTOP)
}

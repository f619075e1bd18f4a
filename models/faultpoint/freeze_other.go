//go:build faults && !linux

package faultpoint

import (
	"os"
	"syscall"
)

// freeze stops the whole process. The goroutine may go a few steps further.
func freeze() { _ = syscall.Kill(os.Getpid(), syscall.SIGSTOP) }

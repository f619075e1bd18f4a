package dev

import "syscall"

// killWithParent makes the kernel kill the process when we end. Strictly it is
// when the thread ends that started it, but Go ends a thread only under a
// goroutine that locked itself to it, and nobody here does. It reaches what
// the lifeline cannot: a process that is stopped or hangs.
func killWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }

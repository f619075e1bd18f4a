package acceptance

import "syscall"

// diesWithUs ends a child when this process is killed or panics.
func diesWithUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} }

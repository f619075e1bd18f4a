//go:build !linux

package acceptance

import "syscall"

// diesWithUs: elsewhere a child of a process that panics has to be ended by hand.
func diesWithUs() *syscall.SysProcAttr { return nil }

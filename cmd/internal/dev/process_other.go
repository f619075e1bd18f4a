//go:build !linux

package dev

import "syscall"

// killWithParent has nothing to add to the lifeline here.
func killWithParent(*syscall.SysProcAttr) {}

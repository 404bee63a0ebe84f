//go:build !linux

package main

import "syscall"

// childOfThread has a program in a group of its own: a terminal's Ctrl-C is for this process, which ends it last. If this process is killed, the
// program goes on, and holds the folder's lock.
func childOfThread() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

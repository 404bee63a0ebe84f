package main

import "syscall"

// childOfThread has a program end with the thread that started it, even if this process is killed. It is in a group of its own: a terminal's Ctrl-C
// is for this process, which ends it last.
func childOfThread() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

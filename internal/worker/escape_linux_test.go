package worker

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// fork starts a process that ends at once.
func fork() error {
	pid, _, errno := syscall.RawSyscall(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0)
	if errno != 0 {
		return errno
	}
	if pid == 0 {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	return nil
}

func trace(pid int) error { return unix.PtraceSeize(pid) }

func limit(pid int) error {
	var old unix.Rlimit
	return unix.Prlimit(pid, unix.RLIMIT_CPU, nil, &old)
}

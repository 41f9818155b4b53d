package worker

import (
	"errors"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// nativeArch is what the kernel calls this architecture in a filter's input;
// 0 where the filter is not known to work.
var nativeArch = map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}[runtime.GOARCH]

// Offsets into struct seccomp_data.
const (
	dataNumber = 0
	dataArch   = 4
	dataArg0   = 16 // its low half, on little-endian machines
)

// filterCalls takes from all threads of this process, for good, the system
// calls that make a socket or start a program, also by way of io_uring, and
// those that reach into other processes. Landlock alone would leave UDP and
// multipath TCP open. Drivers of accelerators keep local sockets.
func filterCalls(localSockets bool) error {
	if nativeArch == 0 {
		return errors.New("no filter for this architecture")
	}
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	jump := func(op uint16, k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | op | unix.BPF_K, K: k, Jt: yes, Jf: no}
	}
	ret := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	deny := ret(unix.SECCOMP_RET_ERRNO | uint32(unix.EACCES))

	filter := []unix.SockFilter{
		load(dataArch), jump(unix.BPF_JEQ, nativeArch, 1, 0), deny,
		load(dataNumber), jump(unix.BPF_JGE, 0x40000000, 0, 1), deny, // the x32 calls
	}
	for _, nr := range []uint32{unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_IO_URING_SETUP, unix.SYS_PTRACE,
		unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV} {
		filter = append(filter, jump(unix.BPF_JEQ, nr, 0, 1), deny)
	}
	if localSockets {
		filter = append(filter, jump(unix.BPF_JEQ, unix.SYS_SOCKET, 0, 3),
			load(dataArg0), jump(unix.BPF_JEQ, unix.AF_UNIX, 1, 0), deny)
	} else {
		filter = append(filter, jump(unix.BPF_JEQ, unix.SYS_SOCKET, 0, 1), deny)
	}
	filter = append(filter, ret(unix.SECCOMP_RET_ALLOW))

	runtime.LockOSThread() // the thread that gives up privileges is the one that sets the filter for all
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	stuck, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return errno
	}
	if stuck != 0 {
		return errors.New("a thread could not be filtered")
	}
	return nil
}

package worker

import (
	"errors"
	"os"
	"runtime"
	"slices"
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

// numbersOf are calls that only some architectures have.
var numbersOf = map[string][]uint32{"amd64": {57, 58}} // fork, vfork

// denied are the calls that a worker does without: starting programs, also by way of io_uring, reaching into other processes or
// signalling them, the kernel's keys, and what only the owner of a machine should do.
var denied = []uint32{
	unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_IO_URING_SETUP, unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV,
	unix.SYS_TKILL, unix.SYS_RT_SIGQUEUEINFO, unix.SYS_RT_TGSIGQUEUEINFO, unix.SYS_PIDFD_OPEN, unix.SYS_PIDFD_SEND_SIGNAL, unix.SYS_PIDFD_GETFD,
	unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL, unix.SYS_BPF, unix.SYS_USERFAULTFD, unix.SYS_PERF_EVENT_OPEN,
	unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_KEXEC_LOAD,
	unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_REBOOT, unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME,
}

func load(at uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
}

func jump(op uint16, k uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | op | unix.BPF_K, K: k, Jt: yes, Jf: no}
}

func ret(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }

var (
	deny  = ret(unix.SECCOMP_RET_ERRNO | uint32(unix.EACCES))
	allow = ret(unix.SECCOMP_RET_ALLOW)
)

// only allows call nr where its first argument is k, or has the bit k.
func only(nr uint32, op uint16, k uint32) []unix.SockFilter {
	return []unix.SockFilter{jump(unix.BPF_JEQ, nr, 0, 4), load(dataArg0), jump(op, k, 1, 0), deny, allow}
}

// callFilter is the program that the kernel runs on each system call.
func callFilter(localSockets bool) []unix.SockFilter {
	filter := []unix.SockFilter{
		load(dataArch), jump(unix.BPF_JEQ, nativeArch, 1, 0), deny,
		load(dataNumber), jump(unix.BPF_JGE, 0x40000000, 0, 1), deny, // the x32 calls
	}
	list := slices.Concat(denied, numbersOf[runtime.GOARCH])
	if !localSockets {
		list = append(list, unix.SYS_SOCKET, unix.SYS_SOCKETPAIR)
	}
	for _, nr := range list {
		filter = append(filter, jump(unix.BPF_JEQ, nr, 0, 1), deny)
	}
	if localSockets {
		filter = append(filter, only(unix.SYS_SOCKET, unix.BPF_JEQ, unix.AF_UNIX)...)
	}
	// Threads are made by clone, since of clone3 a filter cannot see what is asked for: "no such call" sends the C library to the former.
	filter = append(filter, only(unix.SYS_CLONE, unix.BPF_JSET, unix.CLONE_THREAD)...)
	filter = append(filter, jump(unix.BPF_JEQ, unix.SYS_CLONE3, 0, 1), ret(unix.SECCOMP_RET_ERRNO|uint32(unix.ENOSYS)))
	self := uint32(os.Getpid())
	filter = append(filter, only(unix.SYS_KILL, unix.BPF_JEQ, self)...)
	filter = append(filter, only(unix.SYS_TGKILL, unix.BPF_JEQ, self)...)
	filter = append(filter, only(unix.SYS_PRLIMIT64, unix.BPF_JEQ, 0)...) // of this process; a limit can end another
	return append(filter, allow)
}

// filterCalls takes from all threads of this process, for good, the system
// calls that make a socket, a process or a signal to another one, or start a
// program. Landlock alone would leave UDP and multipath TCP open. Drivers of
// accelerators keep local sockets.
func filterCalls(localSockets bool) error {
	if nativeArch == 0 {
		return errors.New("no filter for this architecture")
	}
	filter := callFilter(localSockets)

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

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
	dataArg0   = 16 // its low half, on little-endian machines; each argument takes 8 bytes
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
	unix.SYS_FSOPEN, unix.SYS_FSMOUNT, unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_MOUNT_SETATTR, unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_FANOTIFY_INIT,
	unix.SYS_KEXEC_FILE_LOAD, unix.SYS_CLOCK_ADJTIME, unix.SYS_SWAPON, unix.SYS_ACCT, unix.SYS_QUOTACTL, unix.SYS_SYSLOG, unix.SYS_SETHOSTNAME,
	unix.SYS_KCMP, unix.SYS_MIGRATE_PAGES, unix.SYS_PROCESS_MADVISE, unix.SYS_PROCESS_MRELEASE, unix.SYS_IOPRIO_SET,
}

// shared are the calls that meet other processes of the same user under a name; drivers of accelerators keep them, and local sockets.
var shared = []uint32{unix.SYS_SOCKET, unix.SYS_SOCKETPAIR, unix.SYS_SHMGET, unix.SYS_SHMAT, unix.SYS_SEMGET, unix.SYS_MSGGET, unix.SYS_MQ_OPEN}

// These calls say in their first argument which thread or process they are about; 0 is the caller.
var (
	ownOnly    = []uint32{unix.SYS_PRLIMIT64, unix.SYS_MOVE_PAGES}
	scheduling = []uint32{unix.SYS_SCHED_SETAFFINITY, unix.SYS_SCHED_SETSCHEDULER, unix.SYS_SCHED_SETPARAM, unix.SYS_SCHED_SETATTR}
)

const fioSetOwn = 0x8901 // F_SETOWN as an ioctl

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

// except denies call nr where its argument at offset arg is one of ks.
func except(nr uint32, arg uint32, ks ...uint32) []unix.SockFilter {
	out := []unix.SockFilter{jump(unix.BPF_JEQ, nr, 0, uint8(2*len(ks)+2)), load(arg)}
	for _, k := range ks {
		out = append(out, jump(unix.BPF_JEQ, k, 0, 1), deny)
	}
	return append(out, allow)
}

// ownThreads lets call nr be about the caller or the process's first thread.
func ownThreads(nr uint32, self uint32) []unix.SockFilter {
	return []unix.SockFilter{jump(unix.BPF_JEQ, nr, 0, 5), load(dataArg0), jump(unix.BPF_JEQ, 0, 2, 0), jump(unix.BPF_JEQ, self, 1, 0), deny, allow}
}

// callFilter is the program that the kernel runs on each system call.
func callFilter(c calls) []unix.SockFilter {
	filter := []unix.SockFilter{
		load(dataArch), jump(unix.BPF_JEQ, nativeArch, 1, 0), deny,
		load(dataNumber), jump(unix.BPF_JGE, 0x40000000, 0, 1), deny, // the x32 calls
	}
	list := slices.Concat(denied, numbersOf[runtime.GOARCH])
	if !c.shared {
		list = append(list, shared...)
	}
	if !c.scheduling {
		list = append(list, unix.SYS_SETPRIORITY)
	}
	for _, nr := range list {
		filter = append(filter, jump(unix.BPF_JEQ, nr, 0, 1), deny)
	}
	if c.shared {
		filter = append(filter, only(unix.SYS_SOCKET, unix.BPF_JEQ, unix.AF_UNIX)...)
	}
	// Threads are made by clone, since of clone3 a filter cannot see what is asked for: "no such call" sends the C library to the former.
	filter = append(filter, only(unix.SYS_CLONE, unix.BPF_JSET, unix.CLONE_THREAD)...)
	filter = append(filter, jump(unix.BPF_JEQ, unix.SYS_CLONE3, 0, 1), ret(unix.SECCOMP_RET_ERRNO|uint32(unix.ENOSYS)))
	self := uint32(os.Getpid())
	filter = append(filter, only(unix.SYS_KILL, unix.BPF_JEQ, self)...)
	filter = append(filter, only(unix.SYS_TGKILL, unix.BPF_JEQ, self)...)
	own := ownOnly // a limit can end another process, and a schedule starve it
	if !c.scheduling {
		own = slices.Concat(ownOnly, scheduling)
	}
	for _, nr := range own {
		filter = append(filter, ownThreads(nr, self)...)
	}
	// The owner of a file is sent a signal when there is something to read.
	filter = append(filter, except(unix.SYS_FCNTL, dataArg0+8, unix.F_SETOWN, unix.F_SETOWN_EX, unix.F_SETSIG)...)
	filter = append(filter, except(unix.SYS_IOCTL, dataArg0+8, fioSetOwn, unix.SIOCSPGRP)...)
	return append(filter, allow)
}

// calls says which calls are left beside those of every worker.
type calls struct {
	shared     bool // what other processes take part in
	scheduling bool // when and where any thread runs: a filter cannot know the engine's own, which will start later
}

// filterCalls takes from all threads of this process, for good, the system
// calls that make a socket, a process or a signal to another one, or start a
// program. Landlock alone would leave UDP and multipath TCP open. Drivers of
// accelerators keep local sockets.
func filterCalls(c calls) error {
	if nativeArch == 0 {
		return errors.New("no filter for this architecture")
	}
	filter := callFilter(c)

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

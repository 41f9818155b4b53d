package worker

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/internal/session/sessiontest"
)

// call makes a system call.
func call(nr uintptr, args ...uintptr) error {
	var a [6]uintptr
	copy(a[:], args)
	if _, _, errno := syscall.Syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
		return errno
	}
	return nil
}

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

// text is the address of a string as C has it.
func text(s string) uintptr {
	b := append([]byte(s), 0)
	kept = append(kept, b)
	return uintptr(unsafe.Pointer(&b[0]))
}

var kept [][]byte

// callsOut are system calls that reach out of a worker, each with arguments
// that do something, or would with another reason than "permission denied".
func callsOut(coordinator int) []attempt {
	pid := uintptr(coordinator)
	var cpus unix.CPUSet
	cpus.Set(0)
	var param [64]byte
	remote := [2]uintptr{uintptr(unsafe.Pointer(&param[0])), 8}
	vec := uintptr(unsafe.Pointer(&remote[0]))
	ring := make([]byte, 120)
	signalled := [2]int32{1 /* F_OWNER_PID */, int32(coordinator)}
	self := uintptr(os.Getpid())
	return []attempt{
		{"forking", fork},
		{"unsharing namespaces", func() error { return unix.Unshare(unix.CLONE_NEWUSER) }},
		{"entering a namespace", func() error { return call(unix.SYS_SETNS, 0, unix.CLONE_NEWNET) }},
		{"tracing the coordinator", func() error { return unix.PtraceSeize(coordinator) }},
		{"reading the coordinator's memory", func() error { return call(unix.SYS_PROCESS_VM_READV, pid, vec, 1, vec, 1, 0) }},
		{"writing the coordinator's memory", func() error { return call(unix.SYS_PROCESS_VM_WRITEV, pid, vec, 1, vec, 1, 0) }},
		{"comparing with the coordinator", func() error { return call(unix.SYS_KCMP, pid, self, 1, 0, 0) }},
		{"opening the coordinator", func() error { return call(unix.SYS_PIDFD_OPEN, pid, 0) }},
		{"signalling by a pidfd", func() error { return call(unix.SYS_PIDFD_SEND_SIGNAL, 0, 0, 0, 0) }},
		{"taking a file by a pidfd", func() error { return call(unix.SYS_PIDFD_GETFD, 0, 0, 0) }},
		{"queueing a signal", func() error { return call(unix.SYS_RT_SIGQUEUEINFO, pid, 0, uintptr(unsafe.Pointer(&param[0]))) }},
		{"limiting the coordinator", func() error { return unix.Prlimit(coordinator, unix.RLIMIT_CPU, nil, &unix.Rlimit{}) }},
		{"binding the coordinator to a processor", func() error { return unix.SchedSetaffinity(coordinator, &cpus) }},
		{"scheduling the coordinator", func() error {
			return call(unix.SYS_SCHED_SETSCHEDULER, pid, 5 /* SCHED_IDLE */, uintptr(unsafe.Pointer(&param[0])))
		}},
		{"the coordinator's parameters", func() error { return call(unix.SYS_SCHED_SETPARAM, pid, uintptr(unsafe.Pointer(&param[0]))) }},
		{"the coordinator's attributes", func() error { return call(unix.SYS_SCHED_SETATTR, pid, uintptr(unsafe.Pointer(&param[0])), 0) }},
		{"the coordinator's priority", func() error { return unix.Setpriority(unix.PRIO_PROCESS, coordinator, 19) }},
		{"the coordinator's place in the queue of a disk", func() error { return call(unix.SYS_IOPRIO_SET, 1, pid, 3<<13) }},
		{"the coordinator's pages", func() error { return call(unix.SYS_MOVE_PAGES, pid, 0, 0, 0, 0, 0) }},
		{"making the coordinator own a file", func() error { return call(unix.SYS_FCNTL, 0, unix.F_SETOWN, pid) }},
		{"the same, in the newer way", func() error { return call(unix.SYS_FCNTL, 0, unix.F_SETOWN_EX, uintptr(unsafe.Pointer(&signalled[0]))) }},
		{"choosing the signal for the owner", func() error { return call(unix.SYS_FCNTL, 0, unix.F_SETSIG, uintptr(unix.SIGKILL)) }},
		{"the owner by ioctl", func() error { return call(unix.SYS_IOCTL, 0, fioSetOwn, uintptr(unsafe.Pointer(&signalled[1]))) }},
		{"keeping a key", func() error {
			_, err := unix.AddKey("user", "lapidary-test", []byte("x"), unix.KEY_SPEC_PROCESS_KEYRING)
			return err
		}},
		{"asking for a key", func() error { _, err := unix.RequestKey("user", "lapidary-test", "", 0); return err }},
		{"the keyring", func() error { _, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, true); return err }},
		{"a ring of requests", func() error { return call(unix.SYS_IO_URING_SETUP, 4, uintptr(unsafe.Pointer(&ring[0]))) }},
		{"a program for the kernel", func() error { return call(unix.SYS_BPF, 0, uintptr(unsafe.Pointer(&ring[0])), 72) }},
		{"counting events", func() error {
			return call(unix.SYS_PERF_EVENT_OPEN, uintptr(unsafe.Pointer(&ring[0])), pid, ^uintptr(0), ^uintptr(0), 0)
		}},
		{"faults by hand", func() error { return call(unix.SYS_USERFAULTFD, 1) }},
		{"mounting", func() error { return unix.Mount("none", "/nowhere", "tmpfs", 0, "") }},
		{"mounting in the newer way", func() error { return call(unix.SYS_FSOPEN, text("tmpfs"), 0) }},
		{"a file by its handle", func() error { return call(unix.SYS_OPEN_BY_HANDLE_AT, 0, uintptr(unsafe.Pointer(&ring[0])), 0) }},
		{"another root", func() error { return unix.Chroot("/nowhere") }},
		{"shared memory by number", func() error { return call(unix.SYS_SHMGET, 0, 4096, 0o1600) }},
		{"semaphores by number", func() error { return call(unix.SYS_SEMGET, 0, 1, 0o1600) }},
		{"messages by number", func() error { return call(unix.SYS_MSGGET, 0, 0o1600) }},
		{"messages by name", func() error { return call(unix.SYS_MQ_OPEN, text("lapidary-test"), unix.O_CREAT|unix.O_RDWR, 0o600, 0) }},
		{"a pair of sockets", func() error { _, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0); return err }},
		{"the clock", func() error { return unix.ClockSettime(unix.CLOCK_REALTIME, &unix.Timespec{Sec: -1}) }},
	}
}

// needs are calls like those that engines make, about themselves.
func needs() []attempt {
	self := os.Getpid()
	return []attempt{
		{"binding a thread to its processors", func() error {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			var cpus unix.CPUSet
			if err := unix.SchedGetaffinity(0, &cpus); err != nil {
				return err
			}
			return errors.Join(unix.SchedSetaffinity(0, &cpus), unix.SchedSetaffinity(self, &cpus))
		}},
		{"scheduling a thread", func() error {
			var param [64]byte
			return call(unix.SYS_SCHED_SETSCHEDULER, 0, 0, uintptr(unsafe.Pointer(&param[0])))
		}},
		{"its own limits", func() error { return unix.Prlimit(0, unix.RLIMIT_NOFILE, nil, &unix.Rlimit{}) }},
		{"the flags of a file", func() error { _, err := unix.FcntlInt(1, unix.F_GETFL, 0); return err }},
		{"a signal to itself", func() error { return syscall.Kill(self, 0) }},
		{"its own pages", func() error { return call(unix.SYS_MOVE_PAGES, 0, 0, 0, 0, 0, 0) }},
	}
}

// TestPinnedThreads: an engine that is asked to bind its threads to processors can.
func TestPinnedThreads(t *testing.T) {
	var cpus unix.CPUSet
	if err := unix.SchedGetaffinity(0, &cpus); err != nil || !cpus.IsSet(0) || !cpus.IsSet(1) {
		t.Skip("this needs the first two processors")
	}
	s, err := Opener(onnxRuntime(t))(t.Context(), sessiontest.Write(t, sessiontest.Identity(13, onnx.TensorType(onnx.Float, onnx.ShapeOf(1)))), session.Options{Threads: 2, Config: map[string]string{affinities: "2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	pid := s.(*sess).proc.cmd.Process.Pid
	if _, err := s.Run(t.Context(), map[string]*onnx.Tensor{"x": onnx.FromFloats("x", []int64{1}, []float32{2})}); err != nil {
		t.Fatal(err)
	}
	if !boundThread(t, pid) {
		t.Error("no thread of the worker is bound to the second processor alone")
	}
}

// boundThread reports whether a thread of a process runs on the second processor only.
func boundThread(t *testing.T, pid int) bool {
	t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		var cpus unix.CPUSet
		tid, err := strconv.Atoi(e.Name())
		if err == nil {
			err = unix.SchedGetaffinity(tid, &cpus)
		}
		if err == nil && cpus.Count() == 1 && cpus.IsSet(1) {
			return true
		}
	}
	return false
}

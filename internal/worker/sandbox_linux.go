package worker

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// selfPath names this program even if its file has been replaced.
func selfPath() (string, error) { return "/proc/self/exe", nil }

// confinedStart has the kernel kill the worker when its coordinator ends, and
// keeps the terminal's signals from it; with netSpace, the worker also gets a
// network without devices.
func confinedStart(netSpace bool) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if netSpace {
		a.Cloneflags = syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}}
	}
	return a
}

// sacrifice has a system or a container without memory end this process before any
// other, its coordinator too: what it runs is not trusted, and can be run again.
// Where that is not to be had the system chooses as it does.
func sacrifice() { _ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0) }

// resident is how many bytes of memory a process has; 0: not known.
func resident(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if f := bytes.Fields(text); err == nil && len(f) > 1 {
		if pages, err := strconv.ParseInt(string(f[1]), 10, 64); err == nil {
			return pages * int64(os.Getpagesize())
		}
	}
	return 0
}

// closeStrangers closes what this process inherited beyond the files that a
// worker is born with. Its own files are all marked to close on exec.
func closeStrangers() error {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("listing open files: %w", err)
	}
	for _, e := range list {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd < firstFile+bornWith {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			unix.Close(fd)
		}
	}
	return nil
}

// limits is what a worker is to be held to.
type limits struct {
	model, device string
	readOnly      []string // files and folders
	scratch       string   // the folder that may be written to, "" for none
	memory        int64    // bytes that may be allocated, 0 for any number
	pinned        bool     // the engine was asked to bind its threads to processors
}

// Rights that landlock grants below a path. None includes starting a program.
const (
	readFile  = ll.AccessFSReadFile
	readDir   = ll.AccessFSReadFile | ll.AccessFSReadDir
	writeFile = ll.AccessFSReadFile | ll.AccessFSWriteFile
	ownDir    = readDir | ll.AccessFSWriteFile | ll.AccessFSRemoveFile | ll.AccessFSMakeReg | ll.AccessFSTruncate
	deviceDir = readDir | ll.AccessFSWriteFile | ll.AccessFSIoctlDev
)

// systemPaths is what any engine needs to read: shared libraries, and what
// tells it about the processor. Without /proc/cpuinfo and
// /sys/devices/system/cpu ONNX Runtime does not find out which instructions it
// may use, and runs slower without a word.
var systemPaths = []string{
	"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache",
	"/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu", "/sys/devices/system/node", "/sys/fs/cgroup",
}

// devicePaths is what the drivers of accelerators read beyond that.
var devicePaths = []string{"/proc", "/sys", "/etc", "/usr", "/opt"}

// confine locks this process up for good. Where the kernel offers less, less
// is in force; the result says what.
func confine(l limits) (Sandbox, error) {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return Sandbox{}, fmt.Errorf("forbidding core files: %w", err)
	}
	var box Sandbox
	if l.memory > 0 {
		if err := limitMemory(l.memory); err != nil {
			return Sandbox{}, err
		}
		box.MemoryLimit = true
	}
	if err := confineFiles(l, &box); err != nil {
		return Sandbox{}, err
	}
	// Last, since landlock reaches this process' threads by signals that the filter forbids.
	if err := filterCalls(calls{shared: l.accelerated(), scheduling: l.pinned || l.accelerated()}); err == nil { // without seccomp in the kernel, landlock is what there is
		box.Network, box.Exec = true, true
	}
	return box, nil
}

// confineFiles leaves this process the files that l names.
func confineFiles(l limits, box *Sandbox) error {
	abi, err := ll.LandlockGetABIVersion()
	if err != nil || abi < 1 {
		return nil
	}
	rules, err := l.rules()
	if err != nil {
		return err
	}
	if err := landlock.V11.BestEffort().Restrict(rules...); err != nil {
		return err
	}
	box.Landlock, box.Files, box.Exec = abi, true, true
	return nil
}

// accelerated reports whether the model is to run on more than the CPU.
func (l limits) accelerated() bool {
	kind, _, _ := strings.Cut(l.device, ":")
	return kind != "" && kind != "cpu"
}

func (l limits) rules() ([]landlock.Rule, error) {
	real, err := filepath.EvalSymlinks(l.model)
	if err != nil {
		return nil, err
	}
	paths := append([]string{filepath.Dir(l.model), filepath.Dir(real)}, l.readOnly...)
	paths = append(paths, systemPaths...)
	rules := []landlock.Rule{landlock.PathAccess(writeFile, "/dev/null").IgnoreIfMissing()}
	if l.accelerated() {
		paths = append(paths, devicePaths...)
		rules = append(rules, landlock.PathAccess(deviceDir, "/dev"))
	}
	for _, p := range paths {
		info, err := os.Stat(p)
		switch {
		case err != nil: // not there, so not needed
		case info.IsDir():
			rules = append(rules, landlock.PathAccess(readDir, p))
		default:
			rules = append(rules, landlock.PathAccess(readFile, p))
		}
	}
	if l.scratch != "" {
		rules = append(rules, landlock.PathAccess(ownDir, l.scratch))
	}
	return rules, nil
}

// limitMemory lets this process allocate n bytes more than it has. The limit
// is on private writable memory (RLIMIT_DATA), which makes the allocation that
// is too much fail, in the engine, with an error; unlike a limit on address
// space it does not count mapped models and shared memory, and unlike watching
// the resident size it cannot come too late.
func limitMemory(n int64) error {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return fmt.Errorf("limiting memory: %w", err)
	}
	_, rest, _ := bytes.Cut(b, []byte("\nVmData:"))
	f := bytes.Fields(rest)
	if len(f) == 0 {
		return fmt.Errorf("limiting memory: /proc/self/status has no VmData")
	}
	now, err := strconv.ParseInt(string(f[0]), 10, 64)
	if err != nil {
		return fmt.Errorf("limiting memory: %w", err)
	}
	most := uint64(now<<10 + n)
	if err := unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: most, Max: most}); err != nil {
		return fmt.Errorf("limiting memory: %w", err)
	}
	return nil
}

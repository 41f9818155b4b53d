//go:build unix && !linux

package worker

import (
	"os"
	"syscall"
)

func selfPath() (string, error) { return os.Executable() }

// confinedStart keeps the terminal's signals from the worker.
func confinedStart(bool) *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// sacrifice has nothing to do: only Linux lets a process say that it is the first to go.
func sacrifice() {}

// resident is not known here.
func resident(int) int64 { return 0 }

// closeStrangers has nothing to do: only Linux lists open files reliably.
func closeStrangers() error { return nil }

// limits is what a worker is to be held to.
type limits struct {
	model, device string
	readOnly      []string
	scratch       string
	memory        int64
	pinned        bool
}

// confine keeps the process from leaving core files; this platform offers no
// more.
func confine(l limits) (Sandbox, error) {
	return Sandbox{}, syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
}

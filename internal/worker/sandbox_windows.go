package worker

import (
	"os"
	"syscall"

	"golang.org/x/sys/windows"
)

func selfPath() (string, error) { return os.Executable() }

// confinedStart keeps the console's Ctrl-C from the worker.
func confinedStart(bool) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP, HideWindow: true}
}

// closeStrangers has nothing to do: a process is given only the handles that are listed for it.
func closeStrangers() error { return nil }

// limits is what a worker is to be held to.
type limits struct {
	model, device string
	readOnly      []string
	scratch       string
	memory        int64
	pinned        bool
}

// confine keeps a crash from asking the user, and the reports of it from leaving the machine; this platform offers no more.
func confine(limits) (Sandbox, error) {
	windows.SetErrorMode(windows.SEM_FAILCRITICALERRORS | windows.SEM_NOGPFAULTERRORBOX | windows.SEM_NOOPENFILEERRORBOX)
	return Sandbox{}, nil
}

// sacrifice has nothing to do: only Linux lets a process say that it is the first to go.
func sacrifice() {}

// resident is not known here.
func resident(int) int64 { return 0 }

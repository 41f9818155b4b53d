package worker

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/windows"
)

// bornVariable tells a worker the handles that it was born with: they have no fixed numbers here.
const bornVariable = "LAPIDARY_WORKER_HANDLES"

// duplicate returns another handle of f.
func duplicate(f *os.File) (*os.File, error) {
	self := windows.CurrentProcess()
	var dup windows.Handle
	if err := windows.DuplicateHandle(self, windows.Handle(f.Fd()), self, &dup, 0, false, windows.DUPLICATE_SAME_ACCESS); err != nil {
		return nil, os.NewSyscallError("DuplicateHandle", err)
	}
	return os.NewFile(uintptr(dup), f.Name()), nil
}

// passOn gives the files to the program that cmd starts, and no other program: only handles that are listed pass.
func passOn(cmd *exec.Cmd, files []*os.File) error {
	var words []string
	for _, f := range files {
		h := windows.Handle(f.Fd())
		if err := windows.SetHandleInformation(h, windows.HANDLE_FLAG_INHERIT, windows.HANDLE_FLAG_INHERIT); err != nil {
			return os.NewSyscallError("SetHandleInformation", err)
		}
		cmd.SysProcAttr.AdditionalInheritedHandles = append(cmd.SysProcAttr.AdditionalInheritedHandles, syscall.Handle(h))
		words = append(words, strconv.FormatUint(uint64(h), 10))
	}
	cmd.Env = append(cmd.Env, bornVariable+"="+strings.Join(words, ","))
	return nil
}

// inherited returns the files that this worker was born with.
func inherited() (files [bornWith]*os.File, err error) {
	words := strings.Split(os.Getenv(bornVariable), ",")
	if len(words) != len(files) {
		return files, fmt.Errorf("%s=%s: a worker is started by lapidary, not by hand", bornVariable, os.Getenv(bornVariable))
	}
	for i, w := range words {
		h, err := strconv.ParseUint(w, 10, 64)
		if err != nil {
			return files, fmt.Errorf("%s: %q is no handle", bornVariable, w)
		}
		if err := windows.SetHandleInformation(windows.Handle(h), windows.HANDLE_FLAG_INHERIT, 0); err != nil {
			return files, os.NewSyscallError("SetHandleInformation", err)
		}
		files[i] = os.NewFile(uintptr(h), "of the coordinator")
	}
	return files, os.Unsetenv(bornVariable)
}

//go:build unix

package worker

import (
	"os"
	"os/exec"
	"syscall"
)

// firstFile is the number of the first file that a worker is born with, behind
// the standard ones.
const firstFile = 3

// duplicate returns another descriptor of f, which no other program is given by
// accident.
func duplicate(f *os.File) (*os.File, error) {
	dup, err := syscall.Dup(int(f.Fd()))
	if err != nil {
		return nil, err
	}
	syscall.CloseOnExec(dup)
	return os.NewFile(uintptr(dup), f.Name()), nil
}

// passOn gives the files to the program that cmd starts.
func passOn(cmd *exec.Cmd, files []*os.File) error {
	cmd.ExtraFiles = files
	return nil
}

// inherited returns the files that this worker was born with. They stay its own.
func inherited() (files [bornWith]*os.File, err error) {
	for i := range files {
		syscall.CloseOnExec(firstFile + i)
		files[i] = os.NewFile(uintptr(firstFile+i), "of the coordinator")
	}
	return files, nil
}

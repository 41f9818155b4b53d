package worker

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// newMemoryFile returns a file in memory that can grow and never shrink, so
// that a mapping of it stays valid whatever the other process does. Where the
// kernel has none, it is a file of dir without a name.
func newMemoryFile(dir func() (string, error)) (*os.File, error) {
	fd, err := unix.MemfdCreate("lapidary", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return unnamedFile(dir)
	}
	f := os.NewFile(uintptr(fd), "shared memory")
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK); err != nil {
		f.Close()
		return nil, fmt.Errorf("sealing shared memory: %w", err)
	}
	return f, nil
}

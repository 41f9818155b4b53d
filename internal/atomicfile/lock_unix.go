//go:build unix

package atomicfile

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// errLocked says that another open file holds the lock.
var errLocked = errors.New("locked")

// tryLock takes the file's advisory lock, which lasts until the file is closed
// or its process ends. It returns errLocked where someone else has it, another
// error where the file system has no locks.
func tryLock(f *os.File) error {
	for {
		switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err {
		case unix.EINTR:
		case unix.EWOULDBLOCK:
			return errLocked
		default:
			return err
		}
	}
}

// Lock waits for the file's advisory lock and takes it, until the file is closed or
// its process ends.
func Lock(f *os.File) error { return wait(f, unix.LOCK_EX) }

// LockDir waits until no other process has the directory locked by it, and locks it
// until release is called. Where the file system has no such locks it does nothing.
func LockDir(path string) (release func()) {
	dir, err := os.Open(path)
	if err != nil {
		return func() {}
	}
	wait(dir, unix.LOCK_EX)
	return func() { dir.Close() }
}

// LockShared is [Lock] beside other readers, without a writer.
func LockShared(f *os.File) error { return wait(f, unix.LOCK_SH) }

func wait(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); err != unix.EINTR {
			return err
		}
	}
}

// replace renames f over target and closes it, in this order: the lock is held
// until the temporary name is gone. The content is synced, so closing has nothing
// left to fail at.
func replace(f *os.File, target string) error {
	if err := rename(f.Name(), target); err != nil {
		return err
	}
	f.Close()
	return nil
}

// removeLocked removes a file whose lock the caller holds.
func removeLocked(f *os.File) (bool, error) {
	err := Remove(f.Name())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// closeToRemove leaves the lock of a directory open, which holds it until the name is gone.
func closeToRemove(*os.File) {}

func openDir(path string) (*os.File, error) { return os.Open(path) }

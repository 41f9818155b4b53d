package atomicfile

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

// errLocked says that another open file holds the lock.
var errLocked = errors.New("locked")

// lockOffset is the high word of the offset of the locked byte. Locks are
// mandatory on Windows, so it lies beyond any content.
const lockOffset = 1 << 30

// tryLock locks one byte beyond the file's end until the file is closed or its
// process ends. It returns errLocked where someone else has it, another error
// where the file system has no locks.
func tryLock(f *os.File) error {
	at := &windows.Overlapped{OffsetHigh: lockOffset}
	err := windows.LockFileEx(windows.Handle(f.Fd()),
		windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, at)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return errLocked
	}
	return err
}

// Lock waits for the file's lock and takes it, until the file is closed or its
// process ends.
func Lock(f *os.File) error { return wait(f, windows.LOCKFILE_EXCLUSIVE_LOCK) }

// LockDir does nothing: a directory cannot be locked here.
func LockDir(string) (release func()) { return func() {} }

// LockShared is [Lock] beside other readers, without a writer.
func LockShared(f *os.File) error { return wait(f, 0) }

func wait(f *os.File, flags uint32) error {
	return windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, &windows.Overlapped{OffsetHigh: lockOffset})
}

// replace closes f and renames it over target, in this order: an open file
// cannot be renamed here.
func replace(f *os.File, target string) error {
	if err := f.Close(); err != nil {
		return err
	}
	return rename(f.Name(), target)
}

// removeLocked removes a file whose lock the caller holds. An open file cannot
// be removed here, so it is closed first.
func removeLocked(f *os.File) (bool, error) {
	f.Close()
	err := Remove(f.Name())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// closeToRemove closes the lock of a directory that is going to be removed: an open file cannot be.
func closeToRemove(lock *os.File) { lock.Close() }

// openDir returns nil: a directory cannot be synced here, renames are
// journalled by the file system.
func openDir(string) (*os.File, error) { return nil, nil }

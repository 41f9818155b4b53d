package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// lockName is the file in a temporary directory whose lock says that it is in use.
const lockName = ".lock"

// Dir is a temporary directory beside files that are going to be replaced
// together. [CleanStale] removes it once its process is gone.
type Dir struct {
	Path string
	lock *os.File
}

// TempDir makes a private temporary directory in parent. The caller ends with Remove.
func TempDir(parent string) (*Dir, error) {
	const attempts = 100
	for range attempts {
		path, err := makeTemp(parent)
		if err != nil {
			return nil, fmt.Errorf("writing in %s: %w", parent, cause(err))
		}
		name := filepath.Join(path, lockName)
		lock, err := openFile(name, name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a CleanStale elsewhere took it for one whose maker was killed
		}
		if err != nil {
			RemoveAll(path)
			return nil, fmt.Errorf("writing in %s: %w", parent, cause(err))
		}
		// As in createTemp: a CleanStale elsewhere may have come in between.
		if tryLock(lock) != errLocked && stillNamed(lock, name) {
			return &Dir{path, lock}, nil
		}
		lock.Close()
	}
	return nil, fmt.Errorf("no temporary directory could be kept in %s: something else removes it", parent)
}

// makeTemp makes a directory with a fresh name in parent.
func makeTemp(parent string) (string, error) {
	if err := before(OpCreate, filepath.Join(parent, TempPrefix)); err != nil {
		return "", err
	}
	return os.MkdirTemp(parent, TempPrefix)
}

// Remove deletes the directory and all that is in it.
func (d *Dir) Remove() error {
	return removeDir(d.Path, d.lock)
}

// removeDir removes a temporary directory whose lock the caller holds, its lock last: a process that is killed
// on the way leaves one that is known to be stale. It closes the lock.
func removeDir(path string, lock *os.File) error {
	defer lock.Close()
	entries, err := os.ReadDir(path)
	if err != nil {
		return RemoveAll(path)
	}
	for _, e := range entries {
		if e.Name() == lockName {
			continue
		}
		if err := RemoveAll(filepath.Join(path, e.Name())); err != nil {
			return err
		}
	}
	closeToRemove(lock)
	return RemoveAll(path)
}

// removeStaleDir removes the temporary directory at path unless it is in use.
// An empty one has no lock yet, or its maker was killed before that: it goes, and
// a maker that is alive makes another. One with files and no lock is not ours.
func removeStaleDir(path string) (bool, error) {
	lock, err := os.OpenFile(filepath.Join(path, lockName), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return Remove(path) == nil, nil
	}
	if err != nil {
		return false, nil
	}
	if err := tryLock(lock); err != nil {
		lock.Close()
		return false, nil
	}
	return true, removeDir(path, lock)
}

// Rename moves a finished file over target and makes that durable. Where only the
// latter fails the error is [ErrInPlace].
func Rename(from, target string) error {
	if _, err := existingMode(target); err != nil {
		return err
	}
	if err := rename(from, target); err != nil {
		return fmt.Errorf("writing %s: %w", target, cause(err))
	}
	dir, err := openDir(filepath.Dir(target))
	if err != nil {
		return fmt.Errorf("writing %s: %w: %w", target, ErrInPlace, cause(err))
	}
	if dir == nil {
		return nil
	}
	defer dir.Close()
	return syncDir(dir, target)
}

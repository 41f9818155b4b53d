package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// What follows is for folders that are put together beside their place and then moved
// there as a whole: the calls of the os package, which a [Hook] sees.

// Mkdir is os.Mkdir.
func Mkdir(path string, perm fs.FileMode) error {
	if err := before(OpCreate, path); err != nil {
		return err
	}
	return os.Mkdir(path, perm)
}

// MkdirAll is os.MkdirAll.
func MkdirAll(path string, perm fs.FileMode) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil
	}
	if err := before(OpCreate, path); err != nil {
		return err
	}
	return os.MkdirAll(path, perm)
}

// MkdirTemp is os.MkdirTemp.
func MkdirTemp(parent, prefix string) (string, error) {
	if err := before(OpCreate, filepath.Join(parent, prefix)); err != nil {
		return "", err
	}
	return os.MkdirTemp(parent, prefix)
}

// Symlink is os.Symlink.
func Symlink(to, path string) error {
	if err := before(OpCreate, path); err != nil {
		return err
	}
	return os.Symlink(to, path)
}

// Move is os.Rename: unlike [Rename] it makes nothing durable, and looks at nothing.
func Move(from, to string) error { return rename(from, to) }

// Swap lets two paths on one file system change places, so that neither is ever
// missing. The error is errors.ErrUnsupported (for errors.Is) where the system cannot.
func Swap(a, b string) error {
	if err := before(OpRename, b); err != nil {
		return err
	}
	return exchange(a, b)
}

// RemoveAll is os.RemoveAll.
func RemoveAll(path string) error {
	if err := before(OpRemove, path); err != nil {
		return err
	}
	return os.RemoveAll(path)
}

// SyncDir makes the names in a folder durable, where the system can.
func SyncDir(path string) error {
	dir, err := openDir(path)
	if err != nil || dir == nil {
		return err
	}
	defer dir.Close()
	if err := before(OpSyncDir, path); err != nil {
		return err
	}
	if err := dir.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}

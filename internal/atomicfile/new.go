package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteNew writes a file that must not exist yet, also not as a dangling link:
// then the error is fs.ErrExist (for errors.Is). It is there whole, or not at all.
func WriteNew(path string, data []byte, perm fs.FileMode) error {
	if err := absent(path); err != nil {
		return err
	}
	f, err := Create(path, perm)
	if err != nil {
		return err
	}
	defer f.Abort()
	if _, err := f.Write(data); err != nil {
		return err
	}
	dir, err := openDir(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, cause(err))
	}
	if dir != nil {
		defer dir.Close()
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.link(); err != nil {
		return err
	}
	if dir == nil {
		return nil
	}
	return syncDir(dir, path)
}

// RenameNew is [Rename] to a name that must not be taken, else the error is
// fs.ErrExist (for errors.Is). The caller holds [LockDir]. A hard link would need no
// lock, but whoever reads the file before the old name is gone sees one of two names.
func RenameNew(from, target string) error {
	if err := absent(target); err != nil {
		return err
	}
	return Rename(from, target)
}

func absent(path string) error {
	_, err := os.Lstat(path)
	switch {
	case err == nil:
		return fmt.Errorf("writing %s: %w", path, fs.ErrExist)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return fmt.Errorf("writing %s: %w", path, cause(err))
}

// link gives the file its name, which a hard link never takes from another file.
// Where the file system has none, it is renamed after another look.
func (f *File) link() error {
	if err := before(OpRename, f.target); err != nil {
		return fmt.Errorf("writing %s: %w", f.target, cause(err))
	}
	if os.Link(f.Name(), f.target) == nil {
		f.Abort() // removes the other name
		return nil
	}
	if err := absent(f.target); err != nil {
		return err
	}
	if err := replace(f.File, f.target); err != nil {
		return fmt.Errorf("writing %s: %w", f.target, cause(err))
	}
	f.done = true
	return nil
}

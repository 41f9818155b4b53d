package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// Op is a change of the file system that this package makes.
type Op string

// The operations that a [Hook] sees.
const (
	OpCreate   Op = "create"      // a file or a folder
	OpWrite    Op = "write"       // to a file
	OpTruncate Op = "truncate"    // a file
	OpSync     Op = "sync"        // a file
	OpSyncDir  Op = "sync folder" // that holds a file which was renamed
	OpRename   Op = "rename"      // to the name that counts
	OpRemove   Op = "remove"      // a file or a folder
)

// Hook is asked before each operation, with the path that it is for; an error
// stands for the system's and the operation is not done. It is nil but in tests
// of what happens on a full or broken disk, and safe for concurrent use.
var Hook func(op Op, path string) error

// ErrShort from a [Hook] is a disk that becomes full halfway through a write.
var ErrShort = errors.New("short write")

func before(op Op, path string) error {
	if Hook == nil {
		return nil
	}
	if err := Hook(op, path); err != nil {
		return &fs.PathError{Op: string(op), Path: path, Err: err}
	}
	return nil
}

// before is as the function, for the file under construction: what the hook is
// asked about is the target, and the error names the temporary file as the system's do.
func (f *File) before(op Op) error {
	err := before(op, f.target)
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		pathErr.Path = f.Name()
	}
	return err
}

// writing does a write of b by do, which err of the hook precedes.
func writing(err error, b []byte, do func([]byte) (int, error)) (int, error) {
	if err == nil {
		return do(b)
	}
	var pathErr *fs.PathError
	if errors.Is(err, ErrShort) && errors.As(err, &pathErr) {
		n, _ := do(b[:len(b)/2])
		pathErr.Err = syscall.ENOSPC
		return n, err
	}
	return 0, err
}

// Remove is os.Remove.
func Remove(path string) error {
	if err := before(OpRemove, path); err != nil {
		return err
	}
	return os.Remove(path)
}

func openFile(path, target string, flag int, perm fs.FileMode) (*os.File, error) {
	if err := before(OpCreate, target); err != nil {
		return nil, err
	}
	return os.OpenFile(path, flag, perm)
}

func rename(from, to string) error {
	if err := before(OpRename, to); err != nil {
		return err
	}
	return os.Rename(from, to)
}

// InPlace is a file that is changed where it is, such as a log that grows.
type InPlace struct{ *os.File }

// OpenInPlace is os.OpenFile for a file that is changed where it is.
func OpenInPlace(path string, flag int, perm fs.FileMode) (InPlace, error) {
	f, err := openFile(path, path, flag, perm)
	return InPlace{f}, err
}

// Write is os.File.Write.
func (f InPlace) Write(b []byte) (int, error) {
	return writing(before(OpWrite, f.Name()), b, f.File.Write)
}

// WriteAt is os.File.WriteAt.
func (f InPlace) WriteAt(b []byte, off int64) (int, error) {
	return writing(before(OpWrite, f.Name()), b, func(b []byte) (int, error) { return f.File.WriteAt(b, off) })
}

// Truncate is os.File.Truncate.
func (f InPlace) Truncate(size int64) error {
	if err := before(OpTruncate, f.Name()); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

// Sync is os.File.Sync.
func (f InPlace) Sync() error {
	if err := before(OpSync, f.Name()); err != nil {
		return err
	}
	return f.File.Sync()
}

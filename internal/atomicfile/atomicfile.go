// Package atomicfile replaces files atomically: whoever reads the target sees
// the old content or the new one, never a part, also after a crash.
//
// The new content goes to a temporary file in the target's directory, which is
// synced, renamed over the target, and made durable by syncing the directory.
// The temporary file is locked for as long as it is being written, so that
// [CleanStale] can tell the leavings of a dead process from work in progress,
// also across containers that share a directory.
package atomicfile

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// TempPrefix begins the name of every temporary file.
const TempPrefix = ".lapidary-tmp-"

// WriteFile replaces path by a file that holds data. The mode is that of
// [Create]. On an error path is as it was.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	f, err := Create(path, perm)
	if err != nil {
		return err
	}
	defer f.Abort()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Commit()
}

// File is a file under construction. Its own methods and those of [os.File],
// which it embeds, write to the temporary file; [File.Commit] puts it in the
// target's place. Not safe for concurrent use, except as os.File is.
type File struct {
	*os.File
	target string
	done   bool
}

// Create starts a new content for path. As with os.WriteFile, perm (before
// umask) is the mode of a file that is new, and a file that is replaced keeps
// its permission bits. A path that is, or links to, anything but a regular
// file is refused. A symbolic link to a regular file is replaced, what it
// points to stays as it is.
//
// The caller ends with Commit or Abort; "defer f.Abort()" right after Create
// covers every early return, since Abort does nothing after Commit.
func Create(path string, perm fs.FileMode) (*File, error) {
	replaced, err := existingMode(path)
	if err != nil {
		return nil, err
	}
	initial := perm.Perm()
	if replaced != nil {
		initial = 0o600 // not readable for others before it has its final mode
	}
	cleanOnce(filepath.Dir(path))
	f, err := createTemp(path, initial)
	if err != nil {
		return nil, fmt.Errorf("writing %s: %w", path, cause(err))
	}
	file := &File{File: f, target: path}
	if replaced != nil {
		if err := f.Chmod(*replaced); err != nil {
			file.Abort()
			return nil, fmt.Errorf("writing %s: %w", path, cause(err))
		}
	}
	return file, nil
}

// existingMode returns the permission bits of the file at path, or nil where
// there is none.
func existingMode(path string) (*fs.FileMode, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("writing %s: %w", path, cause(err))
	case info.IsDir():
		return nil, fmt.Errorf("writing %s: it is a directory; name a file in it", path)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("writing %s: it is not a regular file (%s) and cannot be replaced", path, info.Mode().Type())
	}
	mode := info.Mode().Perm()
	return &mode, nil
}

// createTemp makes a locked temporary file with a fresh name beside target.
func createTemp(target string, perm fs.FileMode) (*os.File, error) {
	const attempts = 100
	dir := filepath.Dir(target)
	for range attempts {
		name := filepath.Join(dir, TempPrefix+rand.Text())
		f, err := openFile(name, target, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		// A CleanStale elsewhere may have taken the file between these two
		// calls: then the name is gone, or the lock is.
		if tryLock(f) != errLocked && stillNamed(f, name) {
			return f, nil
		}
		f.Close()
	}
	return nil, fmt.Errorf("no temporary file could be kept in %s: something else removes it", dir)
}

func stillNamed(f *os.File, name string) bool {
	open, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(name)
	return err == nil && os.SameFile(open, named)
}

// Write is os.File.Write with the target's name in the error, so that a full
// disk is reported for the file that the user asked for.
func (f *File) Write(b []byte) (int, error) {
	n, err := writing(f.before(OpWrite), b, f.File.Write)
	return n, f.rename(err)
}

// WriteAt is os.File.WriteAt with the target's name in the error.
func (f *File) WriteAt(b []byte, off int64) (int, error) {
	n, err := writing(f.before(OpWrite), b, func(b []byte) (int, error) { return f.File.WriteAt(b, off) })
	return n, f.rename(err)
}

// WriteString is os.File.WriteString with the target's name in the error.
func (f *File) WriteString(s string) (int, error) { return f.Write([]byte(s)) }

// ReadFrom is os.File.ReadFrom, which lets the kernel copy from file to file.
// An error of the reader keeps the reader's name.
func (f *File) ReadFrom(r io.Reader) (int64, error) {
	if Hook != nil {
		return io.Copy(struct{ io.Writer }{f}, r)
	}
	n, err := f.File.ReadFrom(r)
	return n, f.rename(err)
}

// rename puts the target's name in the place of the temporary one.
func (f *File) rename(err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) && pathErr.Path == f.Name() {
		return fmt.Errorf("writing %s: %w", f.target, pathErr.Err)
	}
	return err
}

// Close is Abort, so that a File may be passed to code that closes it.
func (f *File) Close() error {
	f.Abort()
	return nil
}

// Abort removes the temporary file. After Commit it does nothing.
func (f *File) Abort() {
	if f.done {
		return
	}
	f.done = true
	// Removed under the lock where the system allows it, else once closed.
	err := Remove(f.Name())
	f.File.Close()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		Remove(f.Name())
	}
}

// Commit makes the content durable and puts it in the target's place. Where it
// fails the target is as it was and the temporary file is gone, with one
// exception that the error names: the new file is in place, but the system
// could not promise that its name survives a power failure.
func (f *File) Commit() error {
	if f.done {
		return fmt.Errorf("writing %s: it was already committed or aborted", f.target)
	}
	defer f.Abort()
	dir, err := openDir(filepath.Dir(f.target))
	if err != nil {
		return fmt.Errorf("writing %s: %w", f.target, cause(err))
	}
	if dir != nil {
		defer dir.Close()
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := replace(f.File, f.target); err != nil {
		return fmt.Errorf("writing %s: %w", f.target, cause(err))
	}
	f.done = true
	if dir == nil {
		return nil
	}
	return syncDir(dir, f.target)
}

// ErrInPlace is wrapped by the error of a file that is in place, whole, but whose
// name may not survive a power failure.
var ErrInPlace = errors.New("the file is in place, but its directory could not be synced")

// syncDir makes the name of target durable, which was renamed into dir.
func syncDir(dir *os.File, target string) error {
	err := before(OpSyncDir, target)
	if err == nil {
		err = dir.Sync()
	}
	if err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("writing %s: %w: %w", target, ErrInPlace, cause(err))
	}
	return nil
}

// Sync is os.File.Sync with the target's name in the error.
func (f *File) Sync() error {
	if err := f.before(OpSync); err != nil {
		return f.rename(err)
	}
	return f.rename(f.File.Sync())
}

// cause strips the file names of the os package's errors.
func cause(err error) error {
	var linkErr *os.LinkError
	if errors.As(err, &linkErr) {
		return linkErr.Err
	}
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}

// cleaned are the directories in which this process looked for the leavings of dead ones.
var cleaned sync.Map

// cleanOnce is [CleanStale], the first time that something is written in dir.
func cleanOnce(dir string) {
	if _, done := cleaned.LoadOrStore(dir, true); !done {
		CleanStale(dir)
	}
}

// CleanStale removes the temporary files and directories in dir whose writer is gone, and
// returns their paths. One that a live process is writing is kept, and so is
// any on a file system without locks, where nobody can tell.
func CleanStale(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var removed []string
	var failed error
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), TempPrefix) || !e.Type().IsRegular() && !e.IsDir() {
			continue
		}
		path := filepath.Join(dir, e.Name())
		remove := removeStale
		if e.IsDir() {
			remove = removeStaleDir
		}
		ok, err := remove(path)
		if err != nil {
			failed = errors.Join(failed, err)
		}
		if ok {
			removed = append(removed, path)
		}
	}
	return removed, failed
}

func removeStale(path string) (bool, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // committed or aborted since the listing
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	if err := tryLock(f); err != nil {
		return false, nil
	}
	return removeLocked(f)
}

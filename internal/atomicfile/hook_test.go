package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// failing lets the n-th operation fail, from 1, until the test ends.
func failing(t *testing.T, n int, as error) {
	seen := 0
	Hook = func(Op, string) error {
		if seen++; seen == n {
			return as
		}
		return nil
	}
	t.Cleanup(func() { Hook = nil })
}

// TestEveryOperationFails lets each operation of each way to write fail in turn: the
// target is absent, old or new, the error names it, and nothing is left beside it
// that the next start does not remove.
func TestEveryOperationFails(t *testing.T) {
	ways := map[string]struct {
		old   bool
		write func(path string) error
	}{
		"replace": {true, func(path string) error { return WriteFile(path, []byte("new"), 0o600) }},
		"create":  {false, func(path string) error { return WriteFile(path, []byte("new"), 0o600) }},
		"new":     {false, func(path string) error { return WriteNew(path, []byte("new"), 0o600) }},
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			for n := 1; ; n++ {
				dir := t.TempDir()
				path := filepath.Join(dir, "target")
				if way.old {
					put(t, path, "old", 0o600)
				}
				done := 0
				for _, as := range []error{syscall.EIO, ErrShort} {
					failing(t, n, as)
					err := way.write(path)
					Hook = nil
					b, readErr := os.ReadFile(path)
					switch {
					case err == nil && string(b) == "new":
						done++
					case err == nil:
						t.Errorf("operation %d: no error, and the target holds %q", n, b)
					case !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), TempPrefix):
						t.Errorf("operation %d: the error does not name the target alone: %v", n, err)
					case string(b) == "new" && !errors.Is(err, ErrInPlace) && way.old:
						t.Errorf("operation %d: the target is replaced, but: %v", n, err)
					case string(b) != "new" && (way.old && string(b) != "old" || !way.old && !errors.Is(readErr, fs.ErrNotExist)):
						t.Errorf("operation %d: the target holds %q (%v)", n, b, readErr)
					}
					if !way.old {
						os.Remove(path)
					}
				}
				CleanStale(dir)
				for _, left := range names(t, dir) {
					if left != "target" {
						t.Errorf("operation %d: left behind: %s", n, left)
					}
				}
				if done == 2 && n > 6 {
					return
				}
			}
		})
	}
}

func TestWriteNew(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "target")
	if err := WriteNew(path, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := WriteNew(path, []byte("other"), 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a file: %v, want fs.ErrExist", err)
	}
	wantFile(t, path, "new")
	link := filepath.Join(dir, "link")
	if err := os.Symlink("nowhere", link); err == nil {
		if err := WriteNew(link, []byte("other"), 0o600); !errors.Is(err, fs.ErrExist) {
			t.Errorf("over a dangling link: %v, want fs.ErrExist", err)
		}
	}
}

// TestCreateCleans: the first file that is written in a folder removes what a dead
// process left there.
func TestCreateCleans(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, TempPrefix+"DEAD"), "part", 0o600)
	if err := WriteFile(filepath.Join(dir, "target"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("the folder holds %v", got)
	}
}

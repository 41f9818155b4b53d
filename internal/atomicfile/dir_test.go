package atomicfile

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func TestCleanStaleDir(t *testing.T) {
	parent := t.TempDir()
	live, err := TempDir(parent)
	if err != nil {
		t.Fatal(err)
	}
	dead, err := TempDir(parent)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dead.Path, "part"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	dead.lock.Close() // as the end of its process does
	removed, err := CleanStale(parent)
	if err != nil || len(removed) != 1 || removed[0] != dead.Path {
		t.Fatalf("CleanStale = %v, %v; want only %s", removed, err, dead.Path)
	}
	if _, err := os.Stat(live.Path); err != nil {
		t.Errorf("the directory in use is gone: %v", err)
	}
	if err := live.Remove(); err != nil {
		t.Error(err)
	}
}

// TestCleanStaleDirWithoutLock: a maker that was killed before it took its lock leaves
// an empty directory, which goes; one that is alive is not disturbed.
func TestCleanStaleDirWithoutLock(t *testing.T) {
	parent := t.TempDir()
	empty, full := filepath.Join(parent, TempPrefix+"1"), filepath.Join(parent, TempPrefix+"2")
	for _, dir := range []string{empty, full} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(full, "something"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if removed, err := CleanStale(parent); err != nil || len(removed) != 1 || removed[0] != empty {
		t.Errorf("CleanStale = %v, %v; want only %s", removed, err, empty)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				CleanStale(parent)
				d, err := TempDir(parent)
				if err != nil {
					t.Error(err)
					return
				}
				if err := os.WriteFile(filepath.Join(d.Path, "part"), nil, 0o600); err != nil {
					t.Error(err)
				}
				if err := d.Remove(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if list, err := filepath.Glob(filepath.Join(parent, TempPrefix+"*")); err != nil || len(list) != 1 {
		t.Errorf("left behind: %v (%v)", list, err)
	}
}

func TestRenameReplaces(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	for p, s := range map[string]string{from: "new", to: "old"} {
		if err := os.WriteFile(p, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := Rename(from, to); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(to); string(b) != "new" {
		t.Errorf("target holds %q, want new", b)
	}
	if err := Rename(to, dir); err == nil {
		t.Error("renaming over a directory succeeded")
	}
}

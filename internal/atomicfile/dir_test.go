package atomicfile

import (
	"os"
	"path/filepath"
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

package atomicfile

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// names lists dir, to show that nothing is left behind.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func wantFile(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s holds %q, want %q", path, got, want)
	}
}

func put(t *testing.T, path, content string, mode fs.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "model.onnx")
	for _, content := range []string{"first", "second, longer", ""} {
		if err := WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		wantFile(t, path, content)
	}
	if diff := cmp.Diff([]string{"model.onnx"}, names(t, dir)); diff != "" {
		t.Errorf("directory (-want +got):\n%s", diff)
	}
}

func TestMode(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("permission bits: not on Windows")
	}
	dir := t.TempDir()
	kept := filepath.Join(dir, "kept")
	put(t, kept, "old", 0o640)
	fresh := filepath.Join(dir, "fresh")
	for path, want := range map[string]fs.FileMode{kept: 0o640, fresh: 0o600} {
		if err := WriteFile(path, []byte("new"), 0o600); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", path, info.Mode().Perm(), want)
		}
	}
}

func TestAbortKeepsTarget(t *testing.T) {
	end := map[string]func(*File){
		"abort": (*File).Abort,
		"close": func(f *File) { f.Close() },
		"twice": func(f *File) { f.Abort(); f.Abort() },
	}
	for name, end := range end {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "target")
			put(t, path, "old", 0o644)
			f, err := Create(path, 0o644)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.Write([]byte("new")); err != nil {
				t.Fatal(err)
			}
			end(f)
			if err := f.Commit(); err == nil {
				t.Error("commit after abort succeeded")
			}
			wantFile(t, path, "old")
			if diff := cmp.Diff([]string{"target"}, names(t, dir)); diff != "" {
				t.Errorf("directory (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAbortAfterCommitKeepsNew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "target")
	f, err := Create(path, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadFrom(strings.NewReader("con")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("tent"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("K"), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	f.Abort()
	wantFile(t, path, "Kontent")
}

func TestCommitFailureKeepsTarget(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "target")
	f, err := Create(path, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	// A directory that takes the name in the meantime cannot be renamed over.
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	err = f.Commit()
	if err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), TempPrefix) {
		t.Errorf("error %v; want one that names %s and no temporary file", err, path)
	}
	if diff := cmp.Diff([]string{"target"}, names(t, dir)); diff != "" {
		t.Errorf("directory (-want +got):\n%s", diff)
	}
}

func TestRefused(t *testing.T) {
	dir := t.TempDir()
	tests := map[string]struct{ path, want string }{
		"directory":         {dir, "it is a directory"},
		"device":            {os.DevNull, "not a regular file"},
		"missing directory": {filepath.Join(dir, "no", "file"), "no such file or directory"},
		"file as directory": {filepath.Join(dir, "plain", "file"), "not a directory"},
	}
	put(t, filepath.Join(dir, "plain"), "", 0o644)
	if runtime.GOOS == "windows" {
		t.Skip("messages of the system differ on Windows")
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := WriteFile(tt.path, []byte("x"), 0o644)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), tt.path) {
				t.Errorf("error %v, want %q and the path", err, tt.want)
			}
		})
	}
	if diff := cmp.Diff([]string{"plain"}, names(t, dir)); diff != "" {
		t.Errorf("directory (-want +got):\n%s", diff)
	}
}

func TestSymlinkIsReplaced(t *testing.T) {
	dir := t.TempDir()
	store, link := filepath.Join(dir, "store"), filepath.Join(dir, "link")
	put(t, store, "stored", 0o644)
	if err := os.Symlink("store", link); err != nil {
		t.Skipf("symbolic links: %v", err)
	}
	if err := WriteFile(link, []byte("new"), 0o644); err != nil {
		t.Fatal(err)
	}
	wantFile(t, store, "stored")
	wantFile(t, link, "new")
}

// TestFullDisk writes to a file system that holds 64 KiB.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=64k", "lapidary-test", dir).CombinedOutput(); err != nil {
		t.Skipf("mounting a small file system for the test: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("unmounting: %v: %s", err, out)
		}
	})
	path := filepath.Join(dir, "target")
	put(t, path, "old", 0o644)
	err := WriteFile(path, bytes.Repeat([]byte("x"), 1<<20), 0o644)
	if err == nil || err.Error() != "writing "+path+": no space left on device" {
		t.Errorf("error %v; want it to say that no space is left, for %s", err, path)
	}
	wantFile(t, path, "old")
	if diff := cmp.Diff([]string{"target"}, names(t, dir)); diff != "" {
		t.Errorf("directory (-want +got):\n%s", diff)
	}
}

// writerEnv makes the test binary a process that starts a file and stays.
const writerEnv = "ATOMICFILE_TEST_WRITER"

func TestMain(m *testing.M) {
	if path := os.Getenv(writerEnv); path != "" {
		f, err := Create(path, 0o644)
		if err != nil {
			os.Exit(1)
		}
		f.WriteString("half")
		os.Stdout.WriteString("writing\n")
		os.Stdin.Read(make([]byte, 1)) // until killed
		f.Abort()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestCleanStale(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "target")
	put(t, path, "old", 0o644)
	put(t, filepath.Join(dir, ".lapidary-tmpfile"), "not ours", 0o644)

	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), writerEnv+"="+path)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := stdout.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}

	removed, err := CleanStale(dir)
	if err != nil || removed != nil {
		t.Fatalf("while the writer lives: removed %v, error %v; want nothing", removed, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	removed, err = CleanStale(dir)
	if err != nil || len(removed) != 1 || !strings.HasPrefix(filepath.Base(removed[0]), TempPrefix) {
		t.Fatalf("after the writer died: removed %v, error %v; want its file", removed, err)
	}
	wantFile(t, path, "old")
	if diff := cmp.Diff([]string{".lapidary-tmpfile", "target"}, names(t, dir)); diff != "" {
		t.Errorf("directory (-want +got):\n%s", diff)
	}
}

func TestCleanStaleOwn(t *testing.T) {
	dir := t.TempDir()
	f, err := Create(filepath.Join(dir, "target"), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if removed, err := CleanStale(dir); err != nil || removed != nil {
		t.Fatalf("removed %v, error %v; want nothing", removed, err)
	}
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := CleanStale(filepath.Join(dir, "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want fs.ErrNotExist", err)
	}
}

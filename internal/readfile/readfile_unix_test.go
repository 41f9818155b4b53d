//go:build unix

package readfile

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func fifo(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestPipes: nothing waits for a pipe that nobody writes to, and a passphrase may come through one.
func TestPipes(t *testing.T) {
	path := fifo(t)
	if _, err := All(path, 100); err == nil || !strings.Contains(err.Error(), "it is a pipe") {
		t.Errorf("a pipe is read as a file: %v", err)
	}
	start := time.Now()
	if _, err := Line(path, 100); err == nil || !strings.Contains(err.Error(), "nobody writes") || time.Since(start) > 10*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	done := make(chan error)
	go func() { done <- os.WriteFile(path, []byte("secret\n"), 0) }()
	if b, err := Line(path, 100); err != nil || string(b) != "secret" {
		t.Errorf("%q, %v", b, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestSwap exchanges a file for a pipe again and again while it is opened: what was
// opened is a file, or an error comes at once.
func TestSwap(t *testing.T) {
	dir := t.TempDir()
	file, pipe, name := filepath.Join(dir, "file"), fifo(t), filepath.Join(dir, "name")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	stop, swapped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(swapped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			link := filepath.Join(dir, "next")
			if os.Symlink([]string{file, pipe}[i%2], link) == nil {
				_ = os.Rename(link, name)
			}
		}
	}()
	for range 500 {
		if b, err := All(name, 10); err == nil && string(b) != "x" {
			t.Fatalf("read %q", b)
		}
	}
	close(stop)
	<-swapped
}

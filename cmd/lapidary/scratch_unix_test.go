//go:build unix

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
)

// TestScratch kills a command with SIGKILL in its work: its folder of temporary
// files was private, and the next command removes it. One that lives keeps its own.
func TestScratch(t *testing.T) {
	dir, temp := t.TempDir(), t.TempDir()
	src := filepath.Join(dir, "big.onnx")
	bigModel(t, src)
	small := filepath.Join("..", "..", "testdata", "tabular-mlp.onnx")
	fuse := func(in, out string) *exec.Cmd {
		c := exec.Command("lapidary", "fuse", in, "-o", filepath.Join(dir, out), "--no-verify", "-q")
		c.Env = append(os.Environ(), "TMPDIR="+temp)
		return c
	}
	folders := func() []string {
		list, err := filepath.Glob(filepath.Join(temp, atomicfile.TempPrefix+"*"))
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	appear := func(n int) []string {
		for range 2000 {
			if list := folders(); len(list) >= n {
				return list
			}
			time.Sleep(time.Millisecond)
		}
		t.Fatalf("no folder of temporary files appeared, have %v", folders())
		return nil
	}
	killed := fuse(src, "a.onnx")
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	left := appear(1)[0]
	info, err := os.Stat(left)
	killed.Process.Kill()
	killed.Wait()
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Fatalf("%v, mode %v; want 0700", err, info.Mode())
	}
	if len(folders()) == 0 {
		t.Skip("the command ended before it was killed")
	}
	alive := fuse(src, "b.onnx") // removes what the killed one left
	if err := alive.Start(); err != nil {
		t.Fatal(err)
	}
	for range 2000 {
		if _, err := os.Stat(left); err != nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if _, err := os.Stat(left); err == nil {
		t.Error("the next command left the folder of the killed one")
	}
	must(t, fuse(small, "c.onnx")) // does not take the folder of one that works
	if err := alive.Wait(); err != nil {
		t.Errorf("a command beside another: %v", err)
	}
	if list := folders(); len(list) > 0 {
		t.Errorf("left behind: %v", list)
	}
}

package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// TestHostile runs the commands that read a model on every broken or odd file
// of the corpus: each works or says in one sentence why not, and where it does
// not, nothing is written.
func TestHostile(t *testing.T) {
	var files []string
	for _, folder := range []string{"hostile", "external-data"} {
		err := filepath.WalkDir(zootest.Path(t, folder), func(path string, d os.DirEntry, err error) error {
			if err == nil && filepath.Ext(path) == ".onnx" {
				files = append(files, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	lib := zootest.Library(t)
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			dir := t.TempDir()
			out := filepath.Join(dir, "out.onnx")
			if code := hostile(t, lib, []int{0, 1}, "fuse", f, "-o", out); (code == 0) != exists(out) {
				t.Errorf("fuse ended with %d, output written: %v", code, exists(out))
			}
			if code := hostile(t, lib, []int{0, 1}, "diff", f, f); code == 0 && exists(out) {
				hostile(t, lib, []int{0}, "diff", f, out)
			}
			hostile(t, lib, []int{0, 1}, "bisect", f)
			small := filepath.Join(dir, "small.onnx")
			hostile(t, lib, []int{0, 1, 3}, "bisect", f, "--command", "none", "--reduce", small)
			left, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range left {
				if strings.HasPrefix(e.Name(), ".") {
					t.Errorf("%s was left behind", e.Name())
				}
			}
		})
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// hostile runs the program and checks exit code and messages.
func hostile(t *testing.T, lib string, want []int, args ...string) int {
	t.Helper()
	c := exec.CommandContext(t.Context(), "lapidary", args...)
	c.Env = append(os.Environ(), "LAPIDARY_ORT_LIB="+lib)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	code := c.ProcessState.ExitCode()
	if !slices.Contains(want, code) {
		t.Errorf("%v: exit code %d, want one of %v\n%s", args, code, want, stderr.String())
	}
	text := stderr.String()
	if strings.Contains(text, "internal fault") || strings.Contains(text, "goroutine ") {
		t.Errorf("%v: %s", args, text)
	}
	if code == 1 {
		lines := strings.Split(strings.TrimSpace(text), "\n")
		if last := lines[len(lines)-1]; !strings.HasPrefix(last, "lapidary: error: ") {
			t.Errorf("%v: the error is not one line:\n%s", args, text)
		}
	}
	return code
}

//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The limits of a command on hostile input. Time is of CPU, so that a busy machine
// does not matter; a command that waits for something is ended after the other one.
const (
	hostileMemory = 512 << 20
	hostileCPU    = 10 * time.Second
	hostileWait   = 90 * time.Second
)

// bench is a folder with what commands need beside their hostile input.
type bench struct {
	dir, lib                      string
	model, key, pub, policy, data string
}

// newBench makes a small model, a pair of keys, a policy and a table.
func newBench(t *testing.T, lib string) *bench {
	t.Helper()
	b := &bench{dir: t.TempDir(), lib: lib}
	b.model = b.write(t, "small.onnx", pbModel(pbGraph([][]byte{pbNode("Relu", []string{"x"}, []string{"y"})}, nil, [][]byte{pbValue("x", 1, 2)}, [][]byte{pbValue("y", 1, 2)})))
	b.policy = b.write(t, "policy.yaml", []byte("name: p\ngates: {max-drop: 1pt}\n"))
	b.data = b.write(t, "data.csv", []byte("a,b\n1,2\n3,4\n"))
	if code, text := b.run(t, "keygen", b.path("k"), "--unencrypted"); code != 0 {
		t.Fatal(text)
	}
	b.key, b.pub = b.path("k.key"), b.path("k.pub")
	return b
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

func (b *bench) write(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := b.path(name)
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// run runs the program within the limits and returns its exit code and messages.
func (b *bench) run(t *testing.T, args ...string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hostileWait)
	defer cancel()
	c := exec.CommandContext(ctx, "lapidary", args...)
	c.Dir = b.dir
	c.Env = append(os.Environ(), "LAPIDARY_ORT_LIB="+b.lib, "LAPIDARY_ROOFLINE=never", "XDG_CACHE_HOME="+b.path("cache"))
	c.WaitDelay = time.Second
	var stderr bytes.Buffer
	c.Stderr = &stderr
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	text := stderr.String()
	if ctx.Err() != nil {
		t.Errorf("%v did not end within %v\n%s", args, hostileWait, text)
	}
	if cpu := c.ProcessState.UserTime() + c.ProcessState.SystemTime(); cpu > hostileCPU {
		t.Errorf("%v took %v of CPU", args, cpu)
	}
	if peak := peakOf(c.ProcessState); peak > hostileMemory {
		t.Errorf("%v took %d MiB of memory", args, peak>>20)
	}
	if strings.Contains(text, "internal fault") || strings.Contains(text, "goroutine ") {
		t.Errorf("%v: %s", args, text)
	}
	return c.ProcessState.ExitCode(), text
}

// peakOf returns the most memory that a process had, in bytes.
func peakOf(p *os.ProcessState) int64 {
	peak := p.SysUsage().(*syscall.Rusage).Maxrss
	if runtime.GOOS != "darwin" {
		peak *= 1024
	}
	return peak
}

// endure runs the program on hostile input: its exit code is one of want, an error
// is one line that names the file, if one is given, and that file is as it was before.
func (b *bench) endure(t *testing.T, want []int, input string, args ...string) int {
	t.Helper()
	before := fingerprint(input)
	code, text := b.run(t, args...)
	if !slices.Contains(want, code) {
		t.Errorf("%v: exit code %d, want one of %v\n%s", args, code, want, text)
	}
	if after := fingerprint(input); after != before {
		t.Errorf("%v changed its input: %s before, %s after", args, before, after)
	}
	if code == 1 || code == 2 {
		lines := strings.Split(strings.TrimSpace(text), "\n")
		last := lines[len(lines)-1]
		if !strings.HasPrefix(last, "lapidary: error: ") || input != "" && !strings.Contains(last, filepath.Base(input)) {
			t.Errorf("%v: the error does not name %s:\n%.500s", args, filepath.Base(input), text)
		}
	}
	return code
}

// fingerprint tells whether a file was touched.
func fingerprint(path string) string {
	info, err := os.Lstat(path)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(info.Mode(), info.Size(), info.ModTime().UnixNano())
}

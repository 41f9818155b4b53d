//go:build unix

package main

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/ort/ortlib"
)

// TestAtOnce runs a command eight times at once for one output, with one cache and
// one folder of temporary files, from two inputs: the output is one of the two
// results, whole, and who could not write says so.
func TestAtOnce(t *testing.T) {
	const small, large = "$DATA/tabular-mlp.onnx", "$DATA/digits-cnn.onnx"
	for _, c := range []*faultyCommand{
		{name: "fuse", args: []string{"fuse", "-o", "out.onnx", "--no-verify", "-q"}},
		{name: "fuse with external data", args: []string{"fuse", "-o", "out.onnx", "--no-verify", "-q", "--external-data", "always"}},
		{name: "prune with external data", args: []string{"prune", "-o", "out.onnx", "--sparsity", "0.5", "--no-verify", "-q", "--external-data", "always"}},
		{name: "quantize", args: []string{"quantize", "-o", "out.onnx", "--to", "int4", "--no-verify", "-q"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &faultsScene{t: t, c: c, library: runtimeLibrary(), base: t.TempDir()}
			results := map[string]bool{}
			for name, input := range map[string]string{"small": small, "large": large} {
				r := s.run(name)
				if code, stderr := r.lapidary(append(c.args, input), nil); code != 0 {
					t.Fatalf("exit code %d: %s", code, stderr)
				}
				results[r.files()["out.onnx"]] = true
			}
			r := s.run("shared")
			for range 3 {
				r.eight(append(c.args[:len(c.args):len(c.args)], small), append(c.args[:len(c.args):len(c.args)], large))
				if !results[r.files()["out.onnx"]] {
					t.Fatalf("the output is of neither input: %.200s", r.files()["out.onnx"])
				}
			}
			if left := r.leavings(); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			if list, err := filepath.Glob(r.path("*.data")); err != nil || len(list) > 1 {
				t.Errorf("data of models that are gone: %v, %v", list, err)
			}
		})
	}
}

// eight runs two commands four times each, all at once.
func (r *faultsRun) eight(a, b []string) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	done := 0
	for i := range 8 {
		wg.Go(func() {
			args := a
			if i%2 == 1 {
				args = b
			}
			code, stderr := r.lapidary(args, nil)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case code == 0:
				done++
			case code != exitFailed || !strings.Contains(stderr, "another program wrote out.onnx meanwhile"):
				r.t.Errorf("exit code %d: %s", code, stderr)
			}
		})
	}
	wg.Wait()
	if done == 0 {
		r.t.Error("none of eight wrote the output")
	}
}

// TestInstallAtOnce installs two runtime libraries at once, over each other and again and again, while others look for one:
// the library there is one of the two, whole, at any time.
func TestInstallAtOnce(t *testing.T) {
	if host := ortlib.Host().String(); host != "linux/amd64" {
		t.Skip("the library of the test is not for " + host)
	}
	c := &faultyCommand{name: "runtime install", outputs: []string{installed + ortlib.ManifestName}}
	r := (&faultsScene{t: t, c: c, library: "", base: t.TempDir()}).run("shared")
	if err := otherLibrary(r); err != nil {
		t.Fatal(err)
	}
	one, other := installArgs("$DATA/../internal/ort/ortlib/testdata/libonnxruntime.so"), installArgs("other.so")
	if code, stderr := r.lapidary(one, nil); code != exitOK {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	done, looked := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		defer func() { looked <- n }()
		for ; ; n++ {
			select {
			case <-done:
				return
			default:
			}
			if _, err := os.ReadFile(r.path(installed + "libonnxruntime.so.1")); err != nil {
				t.Errorf("there is no library: %v", err)
				return
			}
		}
	}()
	r.eight(one, other)
	close(done)
	if n := <-looked; n == 0 {
		t.Error("nobody looked")
	}
	if err := libraryWhole(r); err != nil {
		t.Error(err)
	}
	if left := r.leavings(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lapidary-ml/lapidary/internal/ort/ortlib"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// runtimes makes runtimes with faults around the real one.
type runtimes struct {
	cc, dir, real string
	symbols       string // the version script that makes them look like the real one
}

func newRuntimes(t *testing.T) *runtimes {
	t.Helper()
	lib := zootest.Library(t)
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("there is no C compiler")
	}
	info, err := ortlib.Inspect(lib)
	if err != nil {
		t.Fatal(err)
	}
	r := &runtimes{cc: cc, dir: t.TempDir()}
	r.real, r.symbols = filepath.Join(r.dir, "real.so"), filepath.Join(r.dir, "symbols")
	if err := os.WriteFile(r.real, readAll(t, lib), 0o700); err != nil { // a worker may read only what lies beside its library
		t.Fatal(err)
	}
	if err := os.WriteFile(r.symbols, fmt.Appendf(nil, "VERS_%s { global: OrtGetApiBase; local: *; };\n", info.Version), 0o600); err != nil {
		t.Fatal(err)
	}
	return r
}

// with compiles the runtime with a fault.
func (r *runtimes) with(t *testing.T, fault string) string {
	t.Helper()
	lib := filepath.Join(r.dir, "libonnxruntime-"+fault+".so")
	out, err := exec.CommandContext(t.Context(), r.cc, "-shared", "-fPIC", "-w", "-D"+fault, `-DREAL="`+r.real+`"`, "-Wl,--version-script="+r.symbols,
		"-o", lib, filepath.Join("testdata", "faultyruntime.c"), "-ldl").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return lib
}

// TestFaultyRuntime runs commands with runtimes that hang, crash, end, or give NaN: each command ends soon with an error that
// names the model and what happened, and writes and leaves nothing.
func TestFaultyRuntime(t *testing.T) {
	r := newRuntimes(t)
	b := newBench(t, r.real)
	data := filepath.Join(corpusData, "digits-val.npz")
	model := b.write(t, "model.onnx", readAll(t, filepath.Join(corpusData, "digits-cnn.onnx")))
	before := readAll(t, model)
	for fault, want := range map[string][]string{
		"HANG_AT_LOAD":  {"loading it takes longer than 1s", "--max-run-time"},
		"HANG_IN_RUN":   {"takes longer than 1s", "--max-run-time"},
		"CRASH_AT_LOAD": {"opening", "worker process", "SIGSEGV: segmentation violation"},
		"ABORT_AT_LOAD": {"opening", "worker process", "SIGABRT: abort"},
		"CRASH_IN_RUN":  {"worker process", "SIGSEGV: segmentation violation"},
		"EXIT_IN_RUN":   {"worker process ended with status 0"},
		"NAN":           {"NaN"},
	} {
		lib := r.with(t, fault)
		for name, args := range map[string][]string{
			"fuse":     {"fuse", model, "-o", b.path("out.onnx"), "--data", data},
			"quantize": {"quantize", model, "-o", b.path("out.onnx"), "--to", "int8", "--for", "size", "--data", data},
			"validate": {"validate", model, model, "--data", data, "--no-explain", "--max-drop", "5pt", "--report", b.path("r")},
			"profile":  {"profile", model, "--data", data},
		} {
			if strings.HasPrefix(fault, "HANG") && name == "quantize" || fault == "NAN" && (name == "profile" || name == "quantize") {
				continue // which takes time and tells nothing new, does not look at values, or says that none can be quantized
			}
			t.Run(fault+"/"+name, func(t *testing.T) {
				t.Parallel()
				code, text := b.run(t, append(args, "--ort-lib", lib, "--max-run-time", "1s", "--limit", "40")...)
				line := lastLine(text)
				for _, w := range append(want, "model.onnx") {
					if !strings.Contains(line, w) {
						t.Errorf("the error does not say %q: %s", w, line)
					}
				}
				if code != exitFailed || !strings.HasPrefix(line, "lapidary: error: ") {
					t.Errorf("exit code %d: %s", code, text)
				}
			})
		}
	}
	t.Cleanup(func() {
		if left, err := filepath.Glob(b.path(".*lapidary*")); err != nil || len(left) > 0 || exists(b.path("out.onnx")) || exists(b.path("r")) {
			t.Errorf("something was written or left: %v, %v", left, err)
		}
		if string(readAll(t, model)) != string(before) {
			t.Error("the input is another one")
		}
	})
}

// TestFaultyLibrary names libraries that crash, end or hang while they are loaded: that takes nothing else down, and the error names the library.
func TestFaultyLibrary(t *testing.T) {
	r := newRuntimes(t)
	b := newBench(t, r.real)
	model := filepath.Join(corpusData, "tabular-mlp.onnx")
	for fault, want := range map[string]string{"CRASH_AT_OPEN": "SIGSEGV: segmentation violation", "EXIT_AT_OPEN": "says nothing"} {
		lib := r.with(t, fault)
		code, text := b.run(t, "fuse", model, "-o", b.path("out.onnx"), "--ort-lib", lib)
		if line := lastLine(text); code != exitFailed || exists(b.path("out.onnx")) || strings.Contains(text, "goroutine") ||
			!strings.HasPrefix(line, "lapidary: error: loading "+lib) || !strings.Contains(line, want) {
			t.Errorf("%s: exit code %d, %s", fault, code, text)
		}
	}
	defer func(limit time.Duration) { describeLimit = limit }(describeLimit)
	describeLimit = 300 * time.Millisecond
	e := systemEnv()
	start := time.Now()
	_, err := (&app{env: e}).library(t.Context(), r.with(t, "HANG_AT_OPEN"))
	if err == nil || !strings.Contains(err.Error(), "takes longer than 300ms") || time.Since(start) > 10*time.Second {
		t.Errorf("a library that hangs gives %v after %v", err, time.Since(start))
	}
}

// TestLeakingRuntime runs commands with runtimes that take memory and never give it back, in a group of processes that has
// little: they are ended before the kernel has to kill, and the error says so and names the flag.
func TestLeakingRuntime(t *testing.T) {
	r := newRuntimes(t)
	b := newBench(t, r.real)
	g := newMemoryGroup(t, 640<<20)
	data := filepath.Join(corpusData, "tabular-val.npz")
	model := b.write(t, "model.onnx", readAll(t, filepath.Join(corpusData, "tabular-mlp.onnx")))
	killed := g.killed(t)
	for _, fault := range []string{"LEAK_AT_LOAD", "LEAK_IN_RUN"} {
		for name, args := range map[string][]string{
			"fuse":     {"fuse", model, "-o", b.path("out.onnx"), "--data", data},
			"validate": {"validate", model, model, "--data", data, "--limit", "40", "--no-explain", "--max-drop", "5pt", "--report", b.path("r")},
		} {
			code, text := g.run(t, b, append(args, "--ort-lib", r.with(t, fault))...)
			line := lastLine(text)
			for _, w := range []string{"model.onnx", "the worker process was ended: it has taken", "MiB are left", "--max-worker-memory 0"} {
				if !strings.Contains(line, w) {
					t.Errorf("%s, %s: the error does not say %q: %s", name, fault, w, line)
				}
			}
			if code != exitFailed || exists(b.path("out.onnx")) || exists(b.path("r")) {
				t.Errorf("%s, %s: exit code %d, or an output is written", name, fault, code)
			}
		}
	}
	if g.killed(t) != killed {
		t.Error("the kernel had to kill")
	}
}

// TestLeakIsMeasured: a runtime that leaks 100 MiB and then stops is seen in the memory that validate reports.
func TestLeakIsMeasured(t *testing.T) {
	r := newRuntimes(t)
	b := newBench(t, r.real)
	model, data := filepath.Join(corpusData, "tabular-mlp.onnx"), filepath.Join(corpusData, "tabular-val.npz")
	peak := func(lib string) int64 {
		code, text := b.run(t, "validate", model, model, "--data", data, "--limit", "40", "--no-explain", "--max-drop", "5pt", "--latency-budget", "1s", "--report", b.path("r"), "--ort-lib", lib)
		if code != exitOK && code != exitInconclusive {
			t.Fatalf("exit code %d: %s", code, text)
		}
		var rep report.Report
		if err := json.Unmarshal(readAll(t, b.path("r/report.json")), &rep); err != nil {
			t.Fatal(err)
		}
		return rep.Latency.Memory.CandidatePeakBytes
	}
	if clean, leaking := peak(r.real), peak(r.with(t, "LEAK_A_LITTLE=100")); leaking-clean < 90<<20 {
		t.Errorf("the peak is %d MiB with the leak, %d MiB without", leaking>>20, clean>>20)
	}
}

//go:build unix

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/worker"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// turning is a model with a weight and a Loop that takes as many turns as the
// input n says.
func turning() []byte {
	body := pbGraph([][]byte{pbNode("Identity", []string{"c"}, []string{"c1"}), pbNode("Sin", []string{"v"}, []string{"v1"})}, nil,
		[][]byte{pbValue("i", 7), pbValue("c", 9), pbValue("v", 1, 1, 2)}, [][]byte{pbValue("c1", 9), pbValue("v1", 1, 1, 2)})
	weight := pbTensor("w", 1, []byte{0, 0, 0x80, 0x3f, 0, 0, 0, 0x40, 0, 0, 0x40, 0x40, 0, 0, 0x80, 0x40}, 2, 2)
	return pbModel(pbGraph([][]byte{
		pbNode("MatMul", []string{"x", "w"}, []string{"m"}),
		pbNode("Loop", []string{"n", "", "m"}, []string{"y"}, pbSub("body", body)),
	}, [][]byte{weight}, [][]byte{pbValue("x", 1, 1, 2), pbValue("n", 7, 1)}, [][]byte{pbValue("y", 1, 1, 2)}))
}

// turns is data for it: three samples of so many turns.
func turns(t *testing.T, n int64) []byte {
	t.Helper()
	var b bytes.Buffer
	err := dataset.WriteNpz(&b, map[string]*onnx.Tensor{
		"x": onnx.FromFloats("x", []int64{3, 2}, []float32{1, 2, 3, 4, 5, 6}),
		"n": {Name: "n", DType: onnx.Int64, Shape: []int64{3}, Data: onnx.Raw(int64s(n, n, n))},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestEndlessOnData runs a model that ends never on data that say so: every command
// that runs models gives up after the time that it was given, and says so in a
// sentence that names the model and the flag.
func TestEndlessOnData(t *testing.T) {
	b := newBench(t, zootest.Library(t))
	model, out := b.write(t, "endless.onnx", turning()), b.path("out.onnx")
	ends, never := b.write(t, "ends.npz", turns(t, 3)), b.write(t, "never.npz", turns(t, 1<<62))
	for name, args := range map[string][]string{
		"fuse":     {"fuse", model, "-o", out},
		"prune":    {"prune", model, "-o", out, "--sparsity", "0.5"},
		"wanda":    {"prune", model, "-o", out, "--pattern", "1:2", "--importance", "wanda", "--no-verify"},
		"ranges":   {"quantize", model, "-o", out, "--to", "int8", "--for", "size", "--no-verify"},
		"dynamic":  {"quantize", model, "-o", out, "--to", "int8", "--dynamic", "--for", "size"},
		"static":   {"quantize", model, "-o", out, "--to", "int8", "--for", "size"},
		"half":     {"quantize", model, "-o", out, "--to", "fp16"},
		"profile":  {"profile", model},
		"validate": {"validate", model, model, "--no-explain", "--max-drop", "5pt"},
		"bisect":   {"bisect", model},
	} {
		t.Run(name, func(t *testing.T) {
			code, text := b.run(t, append(args, "--data", never, "--max-run-time", "300ms")...)
			line := lastLine(text)
			if code != 1 || exists(out) || !strings.Contains(line, "endless.onnx") || !strings.Contains(line, "--max-run-time") {
				t.Errorf("exit code %d, output written: %v, the error is: %s", code, exists(out), line)
			}
		})
	}
	b.write(t, "lapidary.yaml", []byte("max-run-time: 200ms\n"))
	if code, text := b.run(t, "fuse", model, "-o", out, "--data", never); code != 1 || !strings.Contains(lastLine(text), "200ms") {
		t.Errorf("by the configuration: exit code %d: %s", code, text)
	}
	if code, text := b.run(t, "fuse", model, "-o", out, "--data", ends, "--max-run-time", "1m"); code != 0 || !exists(out) {
		t.Errorf("on data with which it ends: exit code %d: %s", code, text)
	}
	if code, text := b.run(t, "fuse", model, "-o", out, "--data", ends, "--max-run-time", "-1s"); code != 2 || !strings.Contains(text, "--max-run-time -1s") {
		t.Errorf("a time below zero: exit code %d: %s", code, text)
	}
}

// TestEndlessLoad has commands load a model with a computation on constants that never ends: each gives up after the time
// that it was given, says so in a sentence that names the model, the loading and the flag, and leaves nothing.
func TestEndlessLoad(t *testing.T) {
	b := newBench(t, zootest.Library(t))
	model, out := b.write(t, "endless.onnx", longToLoad()), b.path("out.onnx")
	for name, args := range map[string][]string{
		"fuse":     {"fuse", model, "-o", out},
		"static":   {"quantize", model, "-o", out, "--to", "int8", "--for", "size", "--data", "synthetic:3"},
		"profile":  {"profile", model},
		"validate": {"validate", model, model, "--no-explain", "--max-drop", "5pt", "--data", "synthetic:3"},
		"bisect":   {"bisect", model},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, text := b.run(t, append(args, "--max-run-time", "1s")...)
			line := lastLine(text)
			if code != 1 || exists(out) || !strings.Contains(line, "endless.onnx") || !strings.Contains(line, "loading it takes longer than 1s") ||
				!strings.Contains(line, "more with --max-run-time") || strings.Contains(line, "has its operators") {
				t.Errorf("exit code %d, output written: %v, the error is: %s", code, exists(out), line)
			}
		})
	}
	t.Cleanup(func() {
		if left, err := filepath.Glob(b.path(".lapidary*")); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	})
}

// filling is a model that makes as many floats as the input n says.
func filling() []byte {
	weight := pbTensor("w", 1, []byte{0, 0, 0x80, 0x3f, 0, 0, 0, 0x40, 0, 0, 0x40, 0x40, 0, 0, 0x80, 0x40}, 2, 2)
	return pbModel(pbGraph([][]byte{
		pbNode("MatMul", []string{"x", "w"}, []string{"m"}),
		pbNode("ConstantOfShape", []string{"n"}, []string{"big"}),
		pbNode("ReduceMax", []string{"big"}, []string{"one"}),
		pbNode("Add", []string{"m", "one"}, []string{"y"}),
	}, [][]byte{weight}, [][]byte{pbValue("x", 1, 1, 2), pbValue("n", 7, 1)}, [][]byte{pbValue("y", 1)}))
}

// TestWorkerWithoutMemory runs a model that takes more memory than its process may have, and kills that of one that
// runs, as a system without memory does: the command says so, writes nothing and leaves nothing.
func TestWorkerWithoutMemory(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("there is no limit on memory on " + runtime.GOOS)
	}
	b := newBench(t, zootest.Library(t))
	greedy, endless, out := b.write(t, "greedy.onnx", filling()), b.write(t, "endless.onnx", turning()), b.path("out.onnx")
	small, large, never := b.write(t, "small.npz", turns(t, 8)), b.write(t, "large.npz", turns(t, 1<<28)), b.write(t, "never.npz", turns(t, 1<<62))
	if code, text := b.run(t, "fuse", greedy, "-o", out, "--data", small, "--max-worker-memory", "256"); code != 0 {
		t.Errorf("within the limit: exit code %d: %s", code, text)
	}
	os.Remove(out)
	for _, args := range [][]string{{"fuse", greedy, "-o", out}, {"quantize", greedy, "-o", out, "--to", "fp16"}, {"profile", greedy}, {"validate", greedy, greedy, "--max-drop", "5pt"}} {
		code, text := b.run(t, append(args, "--data", large, "--max-worker-memory", "256")...)
		if line := lastLine(text); code != 1 || exists(out) || !strings.Contains(line, "greedy.onnx") || !strings.Contains(line, "alloc") {
			t.Errorf("%s: exit code %d, output written: %v, the error is: %s", args[0], code, exists(out), line)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		killWorker(endless)
	}()
	code, text := b.run(t, "fuse", endless, "-o", out, "--data", never)
	<-done
	if line := lastLine(text); code != 1 || exists(out) || !strings.Contains(line, "endless.onnx") || !strings.Contains(line, "the system had no memory left") {
		t.Errorf("killed: exit code %d, output written: %v, the error is: %s", code, exists(out), line)
	}
	if left, err := filepath.Glob(b.path(".lapidary*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

// killWorker kills the process that has a model open and takes processor time for it, once there is one.
func killWorker(model string) {
	for end := time.Now().Add(hostileWait); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		list, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, path := range list {
			text, _ := os.ReadFile(path)
			parent, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "status"))
			if !bytes.Contains(text, []byte("\x00"+worker.Argument+"\x00")) || !childOf(parent, model) || used(filepath.Dir(path)) < 50 {
				continue
			}
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
				syscall.Kill(pid, syscall.SIGKILL)
				return
			}
		}
	}
}

// childOf reports whether the process of that status is a child of a command for the model.
func childOf(status []byte, model string) bool {
	_, rest, _ := bytes.Cut(status, []byte("\nPPid:"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	text, err := os.ReadFile("/proc/" + string(bytes.TrimSpace(line)) + "/cmdline")
	return err == nil && bytes.Contains(text, []byte("\x00"+model+"\x00"))
}

// used is the processor time of a process in ticks.
func used(dir string) int {
	text, _ := os.ReadFile(filepath.Join(dir, "stat"))
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 12 {
		return 0
	}
	n, _ := strconv.Atoi(string(fields[11]))
	return n
}

// lastLine is the last line of what a command printed.
func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

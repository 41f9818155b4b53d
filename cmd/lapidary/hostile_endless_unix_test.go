//go:build unix

package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
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

// lastLine is the last line of what a command printed.
func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

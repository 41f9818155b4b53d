//go:build unix

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// external writes a model with its weights in a file beside it, and returns both.
func (b *bench) external(t *testing.T, name string) (model, weights string) {
	t.Helper()
	m := onnx.NewModel(17)
	x := m.Graph.AddInput("x", onnx.TensorType(onnx.Float, onnx.ShapeOf(1024)))
	v := x
	for i := range 2 { // two factors, so that there is something to fuse
		w := make([]float32, 1024)
		for k := range w {
			w[k] = float32(k%7) + 0.5
		}
		c := m.Graph.AddInitializer(onnx.FromFloats([]string{"a", "b"}[i], []int64{1024}, w))
		n := onnx.NewNode("Mul", []*onnx.Value{v, c}, []string{"m", "y"}[i])
		m.Graph.Append(n)
		v = n.Output(0)
	}
	v.Type = x.Type
	m.Graph.AddOutput(v)
	model = b.path(name)
	wrote, err := onnxfile.Write(model, m, onnxfile.WriteOptions{External: onnxfile.ExternalAlways})
	if err != nil {
		t.Fatal(err)
	}
	return model, b.path(wrote.External[0])
}

// TestOutputOverInput names an input, or a file that one has its weights in, as
// every file that a command writes: it is refused, and nothing is touched.
func TestOutputOverInput(t *testing.T) {
	b := newBench(t, zootest.Library(t))
	model, weights := b.external(t, "m.onnx")
	before := [2][]byte{read(t, model), read(t, weights)}
	out := b.path("out.onnx")
	link := b.path("link.onnx")
	if err := os.Symlink(model, link); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{model, weights, link} {
		for _, args := range [][]string{
			{"fuse", model, "--no-verify", "-o", target},
			{"prune", model, "--sparsity", "0.5", "--no-verify", "-o", target},
			{"quantize", model, "--to", "fp16", "--no-verify", "-o", target},
			{"fuse", model, "-o", out, "--no-verify", "--log", target},
			{"fuse", model, "-o", out, "--no-verify", "--audit-log", target},
			{"fuse", model, "-o", out, "--save-optimized", target},
			{"quantize", model, "-o", out, "--to", "int8", "--data", "synthetic", "--statistics", target},
			{"quantize", model, "-o", out, "--to", "int8", "--data", "synthetic", "--max-drop", "1pt", "--checkpoint", target},
			{"quantize", model, "-o", out, "--to", "int8", "--data", "synthetic", "--layers", target},
			{"profile", model, "--static", "--html", target},
			{"profile", model, "--trace", target}, {"profile", model, "--bench", target}, {"profile", model, "--prometheus", target},
			{"sign", model, "--key", b.key, "-o", target},
			{"bisect", model, "--command", "none", "--reduce", target},
		} {
			if code, text := b.run(t, args...); code != 1 && code != 2 {
				t.Errorf("%v: exit code %d\n%s", args, code, text)
			}
			if !bytes.Equal(before[0], read(t, model)) || !bytes.Equal(before[1], read(t, weights)) {
				t.Fatalf("%v changed its input", args)
			}
		}
	}
	if code, text := b.run(t, "policy", "lock", b.policy, "--data", b.data, "--key", b.key, "-o", b.policy); code != 2 {
		t.Errorf("a policy over itself: exit code %d\n%s", code, text)
	}
}

// TestSharedWeights replaces a model whose data file another one reads too, here the
// input: the file stays.
func TestSharedWeights(t *testing.T) {
	b := newBench(t, zootest.Library(t))
	fused, weights := b.external(t, "fused.onnx")
	copied := b.write(t, "copy.onnx", read(t, fused)) // reads fused.onnx.data as well
	before := read(t, weights)
	if code, text := b.run(t, "fuse", copied, "-o", fused, "--no-verify"); code != 0 {
		t.Fatal(text)
	}
	if !bytes.Equal(before, read(t, weights)) {
		t.Error("the weights of the input are another file now")
	}
	for _, path := range []string{copied, fused} {
		if code, text := b.run(t, "profile", path, "--static"); code != 0 {
			t.Errorf("%s cannot be read any more: %s", filepath.Base(path), text)
		}
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

package prune

import (
	"context"
	"path/filepath"
	"slices"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
)

// TestKeepsNoOldWeights writes a model that goes on referring to the data file of
// the original: what was pruned must not.
func TestKeepsNoOldWeights(t *testing.T) {
	for _, pattern := range []string{"unstructured", "2:4"} {
		dir := t.TempDir()
		src, dst := filepath.Join(dir, "a.onnx"), filepath.Join(dir, "b.onnx")
		m := chain(slices.Repeat([]float32{1, -2, 3, -4}, 256), slices.Repeat([]float32{9}, 16), onnx.Float)
		m.Graph.Initializers()[1].SetConst(onnx.FromFloats("w2", []int64{256, 4}, slices.Repeat([]float32{9, 8}, 512)))
		if _, err := onnxfile.Write(src, m, onnxfile.WriteOptions{External: onnxfile.ExternalAlways}); err != nil {
			t.Fatal(err)
		}
		o := Options{Sparsity: 0.5, External: onnxfile.ExternalKeep, Include: []string{"w1"}}
		o.Pattern = pattern
		if _, err := File(context.Background(), dst, src, o); err != nil {
			t.Fatal(err)
		}
		got, err := onnxfile.Open(dst, onnxfile.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer got.Close()
		if n := zeros(values(t, got, "w1")); n != 512 {
			t.Errorf("%s: %d of 1024 weights are zero in the file, want 512", pattern, n)
		}
		for _, v := range got.Graph.Initializers() {
			if (v.Const.External != nil) != (v.Name() == "w2") {
				t.Errorf("%s: %s is in a file of its own: %v", pattern, v.Name(), v.Const.External)
			}
		}
	}
}

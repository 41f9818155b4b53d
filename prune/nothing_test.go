package prune_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
	"github.com/lapidary-ml/lapidary/prune"
)

// TestNothing: a model of which nothing was removed is not written again, and
// the error says why; but to look for what is dead and find nothing is no failure.
func TestNothing(t *testing.T) {
	m, err := onnxtext.Parse("relu", []byte(`<ir_version: 8, opset_import: ["" : 17]>
relu (float[1,4] x) => (float[1,4] y) { y = Relu(x) }`))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	src, dst := filepath.Join(dir, "m.onnx"), filepath.Join(dir, "p.onnx")
	if _, err := onnxfile.Write(src, m, onnxfile.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	shrink := func(sparsity float64) error {
		_, err := prune.Shrink(t.Context(), dst, src, prune.ShrinkOptions{StructureOptions: prune.StructureOptions{
			Pattern: prune.Channels, Importance: prune.ByL2, Sparsity: sparsity, Repair: "none"}})
		return err
	}
	_, masks := prune.File(t.Context(), dst, src, prune.Options{Sparsity: 0.5})
	for pattern, err := range map[string]error{"unstructured": masks, "channels": shrink(0.5)} {
		var nothing *prune.Nothing
		if !errors.As(err, &nothing) || !strings.Contains(err.Error(), "no weights that pattern "+pattern) {
			t.Errorf("%s: %v", pattern, err)
		}
	}
	if _, err := os.Stat(dst); !os.IsNotExist(err) {
		t.Errorf("%s was written: %v", dst, err)
	}
	if err := shrink(0); err != nil {
		t.Errorf("nothing is dead, which is no error: %v", err)
	}
}

// TestStaleShapes: a declared shape that was wrong before is not laid to the pruning.
func TestStaleShapes(t *testing.T) {
	m, err := onnxtext.Parse("stale", []byte(`<ir_version: 8, opset_import: ["" : 17]>
stale (float[1,2] x) => (float[1,2] y) <float[2,3] v = {1, 2, 0, 3, 4, 0}, float[3,2] w = {1, 2, 3, 4, 5, 6}, float[1,7] z> {
	h = MatMul(x, v) r = Relu(h) z = MatMul(r, w) y = Relu(z) }`))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	src, dst := filepath.Join(dir, "m.onnx"), filepath.Join(dir, "p.onnx")
	if _, err := onnxfile.Write(src, m, onnxfile.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	r, err := prune.Shrink(t.Context(), dst, src, prune.ShrinkOptions{StructureOptions: prune.StructureOptions{Pattern: prune.Channels}})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Structure.Groups) != 1 || r.Structure.Groups[0].Removed != 1 {
		t.Errorf("groups %+v", r.Structure.Groups)
	}
}

package produce

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// TestTypesAreForgotten: what a rewrite infers on its way is not written for
// values that stated nothing, and stays where the model stated it or a rewrite made the value.
func TestTypesAreForgotten(t *testing.T) {
	m, err := onnxtext.Parse("m", []byte(`<ir_version: 8, opset_import: ["" : 17]>
g (float[2] x) => (float[2] y) <float[2] told> { a = Abs(x) told = Neg(a) y = Relu(told) }`))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	src, dst := filepath.Join(dir, "a.onnx"), filepath.Join(dir, "b.onnx")
	if _, err := onnxfile.Write(src, m, onnxfile.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	infer := func(_ context.Context, m *onnx.Model, _ rewrite.Options) (*rewrite.Log, error) {
		_, err := opset.Infer(m, opset.Options{})
		for v := range m.Graph.Values() {
			if v.Type == nil {
				t.Errorf("%s has no type while the model is rewritten", v.Name())
			}
		}
		return rewrite.NewLog(), err
	}
	if _, err := File(t.Context(), dst, src, infer, Options{}); err != nil {
		t.Fatal(err)
	}
	got, err := onnxfile.Open(dst, onnxfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	for v := range got.Graph.Values() {
		if (v.Type == nil) != (v.Name() == "a") {
			t.Errorf("%s has type %v", v.Name(), v.Type)
		}
	}
}

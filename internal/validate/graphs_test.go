package validate

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
)

// Weights become what float16 holds; what it cannot hold, and what is no float32, stays.
func TestRoundWeights(t *testing.T) {
	m, err := onnxtext.Parse("m", []byte(`<ir_version: 9, opset_import: ["" : 17]>
main (float[3] x) => (float[3] y) <float[3] w = {0.1, 100000, 0.5}, float[3] v = {1, 2, 0.25}, int64[1] i = {3}> {
  a = Mul (x, w)
  y = Add (a, v)
}`))
	if err != nil {
		t.Fatal(err)
	}
	changed, err := roundWeights(m)
	if err != nil || !changed {
		t.Fatalf("changed %v, %v", changed, err)
	}
	got := map[string][]float64{}
	for _, v := range m.Graph.Initializers() {
		if v.Const.DType == onnx.Float {
			if got[v.Name()], err = v.Const.Float64s(); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := map[string][]float64{"w": {0.0999755859375, 100000, 0.5}, "v": {1, 2, 0.25}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if changed, err := roundWeights(m); err != nil || changed {
		t.Errorf("a second time: changed %v, %v", changed, err)
	}
}

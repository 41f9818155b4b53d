package explain

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lapidary-ml/lapidary/internal/eval"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
)

const header = `<ir_version: 9, opset_import: ["" : 17]>
`

// weights are constants that the models below share.
const weights = `<float[4,2,1,1] k = {1, -1, 0.5, 2, -0.25, 1, 3, 0.125}, float[4,3] w = {1, 2, 3, -1, 0, 1, 2, -2, 1, 0.5, 1, -1}, int64[2] flat = {1, -1}, float[12,3] v = {
1, 2, 3, -1, 0, 1, 2, -2, 1, 0.5, 1, -1, 1, 2, 3, -1, 0, 1, 2, -2, 1, 0.5, 1, -1, 1, 2, 3, -1, 0, 1, 2, -2, 1, 0.5, 1, -1},
float s = {0.05}, int8 z = {0}>`

// Where a model is cut, and that its halves compute what it computes.
func TestSplitModel(t *testing.T) {
	for _, tt := range []struct{ name, feature, body string }{
		{"global average pooling", "f", `main (float[1,2,1,3] x) => (float[1,3] y) ` + weights + ` {
  c = Conv (x, k)
  f = Relu (c)
  p = GlobalAveragePool (f)
  q = Flatten (p)
  y = MatMul (q, w)
}`},
		{"a mean over positions, then softmax", "f", `main (float[1,2,1,3] x) => (float[1,3] y) ` + weights + ` {
  f = Conv (x, k)
  p = ReduceMean <axes = [2, 3], keepdims = 0> (f)
  q = MatMul (p, w)
  y = Softmax (q)
}`},
		{"flattened", "f", `main (float[1,2,1,3] x) => (float[1,3] y) ` + weights + ` {
  c = Conv (x, k)
  f = Relu (c)
  q = Reshape (f, flat)
  y = MatMul (q, v)
}`},
		{"the class map itself is pooled", "f", `main (float[1,2,1,3] x) => (float[1,4] y) ` + weights + ` {
  c = Conv (x, k)
  f = Relu (c)
  p = GlobalAveragePool (f)
  y = Flatten (p)
}`},
		{"quantized and dequantized", "f", `main (float[1,2,1,3] x) => (float[1,3] y) ` + weights + ` {
  c = Conv (x, k)
  i = QuantizeLinear (c, s, z)
  f = DequantizeLinear (i, s, z)
  p = GlobalAveragePool (f)
  j = QuantizeLinear (p, s, z)
  d = DequantizeLinear (j, s, z)
  q = Flatten (d)
  y = MatMul (q, w)
}`},
		{"an output beside", "f", `main (float[1,2,1,3] x) => (float[1,3] y, float[1,4,1,3] f) ` + weights + ` {
  f = Conv (x, k)
  p = GlobalAveragePool (f)
  q = Flatten (p)
  y = MatMul (q, w)
}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := onnxtext.Parse(tt.name, []byte(header+tt.body))
			if err != nil {
				t.Fatal(err)
			}
			h, err := SplitModel(m, "y", map[string]onnx.Shape{"x": onnx.ShapeOf(1, 2, 1, 3)})
			if err != nil {
				t.Fatal(err)
			}
			if h.Feature != tt.feature || len(h.Tail.Graph.Inputs()) != 1 || h.Tail.Graph.Inputs()[0].Name() != h.Input {
				t.Errorf("cut at %q, tail of %d inputs", h.Feature, len(h.Tail.Graph.Inputs()))
			}
			for _, half := range []*onnx.Model{h.Body, h.Tail} {
				if err := half.Check(); err != nil {
					t.Errorf("not a valid model: %v", err)
				}
			}
			x, err := onnx.FromFloat64s("x", onnx.Float, []int64{1, 2, 1, 3}, []float64{1, -0.5, 2, 0.25, 3, -1})
			if err != nil {
				t.Fatal(err)
			}
			want := computed(t, m, "x", x, "y")
			f := computed(t, h.Body, "x", x, h.Feature)
			got := computed(t, h.Tail, h.Input, f, "y")
			if d := cmp.Diff(numbers(t, want), numbers(t, got), cmpopts.EquateApprox(0, 1e-6)); d != "" {
				t.Error(d)
			}
			if len(numbers(t, f)) != 12 {
				t.Errorf("feature map %v", f.Shape)
			}
		})
	}
}

func computed(t *testing.T, m *onnx.Model, in string, x *onnx.Tensor, out string) *onnx.Tensor {
	t.Helper()
	got, err := eval.Graph(t.Context(), m, map[string]*onnx.Tensor{in: x}, eval.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return got[out]
}

func numbers(t *testing.T, x *onnx.Tensor) []float64 {
	t.Helper()
	v, err := x.Float64s()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range v {
		if math.IsNaN(f) {
			t.Fatal("not a number")
		}
	}
	return v
}

func TestSplitRefuses(t *testing.T) {
	for _, tt := range []struct{ name, want, body string }{
		{"the image itself is flattened", `input "x" itself`, `main (float[1,2,1,3] x) => (float[1,6] y) {
  y = Flatten (x)
}`},
		{"patches as tokens", "no feature map that is pooled or flattened", `main (float[1,2,1,3] x) => (float[1,3,4] y) <float[4,2,1,1] k = {1, 2, 3, 4, 5, 6, 7, 8}, int64[3] s = {0, 4, -1}> {
  c = Conv (x, k)
  r = Reshape (c, s)
  t = Transpose <perm = [0, 2, 1]> (r)
  y = Softmax (t)
}`},
		{"two maps", "2 feature maps are pooled apart", `main (float[1,2,1,3] x) => (float[1,2,1,1] y) {
  a = Relu (x)
  b = Sigmoid (x)
  p = GlobalAveragePool (a)
  q = GlobalMaxPool (b)
  y = Add (p, q)
}`},
		{"a way around", `output "y" reads input "x"`, `main (float[1,2,1,3] x) => (float[1,2,1,3] y) {
  a = Relu (x)
  p = GlobalAveragePool (a)
  y = Mul (p, x)
}`},
		{"no such output", `no output "z"`, ""},
	} {
		output := "y"
		if tt.body == "" {
			tt.body, output = `main (float[1,2,1,3] x) => (float[1,6] y) {
  y = Flatten (x)
}`, "z"
		}
		m, err := onnxtext.Parse(tt.name, []byte(header+tt.body))
		if err != nil {
			t.Fatal(err)
		}
		_, err = SplitModel(m, output, map[string]onnx.Shape{"x": onnx.ShapeOf(1, 2, 1, 3)})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}

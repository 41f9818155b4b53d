package fuse_test

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/fuse"
	"github.com/lapidary-ml/lapidary/internal/eval"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
)

// normParts are normalizations as frameworks write them, in float16 with the
// statistics in float32 where the name says so.
var normParts = map[string]string{
	"llama": `<ir_version: 10, opset_import: ["" : 23]>
main (float16[N,8,4] u, float16[N,8,4] w) => (float16[N,8,4] y, float16[N,8,4] x) <int64[1] a = {-1}, float two = {2}, float eps = {0.00001}, float16[4] g = {1, 2, 3, 4}> {
  x = Add (u, w)
  c = Cast <to = 1> (x)
  q = Pow (c, two)
  v = ReduceMean (q, a)
  e = Add (v, eps)
  r = Sqrt (e)
  i = Reciprocal (r)
  n = Mul (c, i)
  h = Cast <to = 10> (n)
  y = Mul (g, h)
}`,
	"layer norm in float32": `<ir_version: 10, opset_import: ["" : 23]>
main (float16[N,8,4] x) => (float16[N,8,4] y) <int64[1] a = {-1}, float eps = {0.00001}, float[4] g = {1, 2, 3, 4}, float[4] b = {1, 2, 3, 4}> {
  c = Cast <to = 1> (x)
  m = ReduceMean (c, a)
  d = Sub (c, m)
  q = Mul (d, d)
  v = ReduceMean (q, a)
  e = Add (v, eps)
  r = Sqrt (e)
  n = Div (d, r)
  k = Mul (n, g)
  l = Add (k, b)
  y = Cast <to = 10> (l)
}`,
	"softmax in float32": `<ir_version: 10, opset_import: ["" : 23]>
main (float16[N,8,4] x) => (float16[N,8,4] y) <int64[1] a = {-1}> {
  c = Cast <to = 1> (x)
  m = ReduceMax (c, a)
  d = Sub (c, m)
  e = Exp (d)
  s = ReduceSum (e, a)
  p = Div (e, s)
  y = Cast <to = 10> (p)
}`,
	"Keras groups": `<ir_version: 10, opset_import: ["" : 21]>
main (float[N,6,4,5] x) => (float[N,6,4,5] y) <int64[3] a = {1, 2, 4}, int64[5] s = {0, 4, 5, 2, 3}, int64[4] t = {0, 4, 5, 6}, float eps = {0.001}, float[1,1,1,2,3] g = {1, 2, 3, 4, 5, 6}, float[2,3] b = {0.5, 1, 1.5, 2, 2.5, 3}> {
  z = Transpose <perm = [0, 2, 3, 1]> (x)
  f = Reshape (z, s)
  m = ReduceMean (f, a)
  d = Sub (f, m)
  q = Mul (d, d)
  v = ReduceMean (q, a)
  e = Add (v, eps)
  r = Sqrt (e)
  i = Reciprocal (r)
  k = Mul (i, g)
  o = Mul (f, k)
  mk = Mul (m, k)
  c = Sub (b, mk)
  p = Add (o, c)
  u = Reshape (p, t)
  y = Transpose <perm = [0, 3, 1, 2]> (u)
}`,
	"PyTorch groups, decomposed": `<ir_version: 10, opset_import: ["" : 21]>
main (float[2,6,4,5] x) => (float[2,6,4,5] y) <int64[2] a = {2, 3}, int64[4] s = {2, 2, 3, 20}, int64[4] t = {2, 6, 4, 5}, float eps = {0.001}, float n = {60}, float[1,6,1,1] g = {1, 2, 3, 4, 5, 6}, float[1,6,1,1] b = {0.5, 1, 1.5, 2, 2.5, 3}> {
  f = Reshape (x, s)
  m = ReduceMean (f, a)
  d = Sub (f, m)
  q = ReduceSumSquare (d, a)
  v = Div (q, n)
  e = Add (v, eps)
  r = Sqrt (e)
  i = Reciprocal (r)
  o = Mul (d, i)
  u = Reshape (o, t)
  k = Mul (u, g)
  y = Add (k, b)
}`,
}

// TestWholeNorms fuses each with all rules at once, counts what is left for each
// target, and computes it.
func TestWholeNorms(t *testing.T) {
	cases := []struct{ name, target, want string }{
		{"llama", "portable", "Add=1 Cast=2 Mul=1 RMSNormalization=1"},
		{"llama", "tensorrt", "Add=2 Cast=2 Mul=2 Pow=1 Reciprocal=1 ReduceMean=1 Sqrt=1"}, // which lacks the operator
		{"llama", "openvino", "Add=1 RMSNormalization=1"},
		{"llama", "ort-cuda", "com.microsoft:SkipSimplifiedLayerNormalization=1"},
		{"layer norm in float32", "ort-cpu", "Cast=2 LayerNormalization=1"},
		{"layer norm in float32", "openvino", "LayerNormalization=1"},
		{"softmax in float32", "ort-cuda", "Cast=2 Softmax=1"},
		{"Keras groups", "ort-cpu", "Add=1 InstanceNormalization=1 Mul=1 Reshape=2"},
		{"Keras groups", "openvino", "GroupNormalization=1"},
		{"PyTorch groups, decomposed", "portable", "Add=1 InstanceNormalization=1 Mul=1 Reshape=2"},
		{"PyTorch groups, decomposed", "tensorrt", "GroupNormalization=1"},
	}
	for _, c := range cases {
		m, err := onnxtext.Parse(c.name, []byte(normParts[c.name]))
		if err != nil {
			t.Fatal(err)
		}
		in := map[string]*onnx.Tensor{}
		for _, v := range m.Graph.Inputs() {
			x := randomFor(v)
			f, err := x.Float64s()
			if err != nil {
				t.Fatal(err)
			}
			if in[v.Name()], err = onnx.FromFloat64s(v.Name(), v.DType(), x.Shape, f); err != nil {
				t.Fatal(err)
			}
		}
		before, err := eval.Graph(t.Context(), m, in, eval.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fuse.Model(t.Context(), m, fuse.Options{Target: stubTarget(c.target)}); err != nil {
			t.Fatal(err)
		}
		if err := m.Check(); err != nil {
			t.Error(err)
		}
		count := opCounts(m)
		var got []string
		for _, op := range slices.Sorted(maps.Keys(count)) {
			got = append(got, op+"="+strconv.Itoa(count[op]))
		}
		if got := strings.Join(got, " "); got != c.want {
			t.Errorf("%s for %s: %s, want %s", c.name, c.target, got, c.want)
		}
		after, err := eval.Graph(t.Context(), m, in, eval.Options{})
		if err == nil {
			err = agree(before, after)
		}
		if err != nil {
			t.Errorf("%s for %s: %v", c.name, c.target, err)
		}
	}
}

package fuse_test

import (
	"path/filepath"
	"testing"

	"github.com/lapidary-ml/lapidary/fuse"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
)

// TestAttentionKernels runs causal attention over three products with padding on
// the left, which hides all of what the first rows may see: the kernels of ONNX
// Runtime hide by numbers, as the padding does.
func TestAttentionKernels(t *testing.T) {
	open := runtimeOpener(t)
	for _, low := range []string{"-3.4028235e+38", "-1e+30", "-10000"} {
		for _, target := range []string{"ort-cpu", "ort-cuda"} {
			m, err := onnxtext.Parse("padded", []byte(`<ir_version: 8, opset_import: ["" : 17]>
main (float[2,3,4] x, float[2,1,1,3] seen) => (float[2,3,4] y)
<
  float[4,4] wq = {1, 2, 3, 4, 0, 1, 0, 1, 1, 1, 0, 0, 2, 1, 0, 1}, float[4,4] wk = {0, 1, 2, 0, 1, 1, 1, 0, 1, 0, 0, 1, 1, 2, 1, 0},
  float[4,4] wv = {1, 0, 1, 0, 2, 0, 1, 1, 0, 0, 1, 0, 1, 1, 1, 1}, float[4] bq = {1, 2, 3, 4}, float[4] bk = {1, 0, 0, 1}, float[4] bv = {-1, 0, 1, 0.5},
  int64[4] cut = {0, 0, 2, 2}, int64[3] join = {0, 0, 4}, float[3,3] m = {0, -inf, -inf, 0, 0, -inf, 0, 0, 0}, float one = {1}, float low = {`+low+`}
> {
  q0 = MatMul (x, wq)
  q1 = Add (bq, q0)
  k0 = MatMul (x, wk)
  k1 = Add (k0, bk)
  v0 = MatMul (x, wv)
  v1 = Add (v0, bv)
  q4 = Reshape (q1, cut)
  k4 = Reshape (k1, cut)
  v4 = Reshape (v1, cut)
  q = Transpose <perm = [0, 2, 1, 3]> (q4)
  kt = Transpose <perm = [0, 2, 3, 1]> (k4)
  v = Transpose <perm = [0, 2, 1, 3]> (v4)
  s = MatMul (q, kt)
  a = Add (s, m)
  u = Sub (one, seen)
  pad = Mul (u, low)
  b = Add (a, pad)
  p = Softmax <axis = -1> (b)
  o = MatMul (p, v)
  t = Transpose <perm = [0, 2, 1, 3]> (o)
  y = Reshape (t, join)
}`))
			if err != nil {
				t.Fatal(err)
			}
			in := map[string]*onnx.Tensor{"x": randomFor(m.Graph.Inputs()[0]), "seen": onnx.FromFloats("seen", []int64{2, 1, 1, 3}, []float32{0, 0, 1, 0, 1, 1})}
			dir := t.TempDir()
			want := outputsOf(t, open, filepath.Join(dir, "original.onnx"), m, in)
			log, err := fuse.Model(t.Context(), m, fuse.Options{Target: stubTarget(target)})
			if err != nil {
				t.Fatal(err)
			}
			if firings(log, "packed-attention") != 1 {
				t.Errorf("%s, %s: not fused: %s", target, low, refusals(log, "packed-attention"))
			}
			if err := agree(want, outputsOf(t, open, filepath.Join(dir, "fused.onnx"), m, in)); err != nil {
				t.Errorf("%s, %s: %v", target, low, err)
			}
		}
	}
}

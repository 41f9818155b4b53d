package fuse_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/lapidary-ml/lapidary/fuse"
	"github.com/lapidary-ml/lapidary/internal/eval"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
)

// TestRectifiers: every way to write the positive part and the negative part of
// a value, in every function that is made of them, becomes the one operator, and
// that computes the same of numbers, zeros and what is no number.
func TestRectifiers(t *testing.T) {
	positive := []string{
		"p = Relu (x)", "p = Max (x, zero)", "p = Max (zero, x)", "p = Clip (x, zero)",
		"pa = Abs (x) pb = Add (pa, x) p = Mul (pb, half)", "pc = Less (x, zero) p = Where (pc, zero, x)",
		"pm = Neg (x) pn = Min (pm, zero) p = Neg (pn)",
	}
	negative := []string{
		"n = Min (x, zero)", "n = Min (zero, x)", "n = Clip (x, , zero)",
		"na = Neg (x) nb = Relu (na) n = Neg (nb)", "na = Abs (x) nb = Sub (x, na) n = Div (nb, two)",
		"nc = Greater (x, zero) n = Where (nc, zero, x)", "nr = Max (x, zero) n = Sub (x, nr)",
	}
	functions := map[string]string{
		"LeakyRelu": "s = Mul (n, alpha) y = Add (p, s)",
		"PRelu":     "s = Mul (w, n) y = Add (p, s)",
		"Elu":       "e = Exp (n) f = Sub (e, one) s = Mul (f, alpha) y = Add (s, p)",
		"Celu":      "q = Div (n, alpha) e = Exp (q) f = Sub (e, one) s = Mul (f, alpha) y = Add (p, s)",
		"Selu":      "e = Exp (n) f = Sub (e, one) s = Mul (f, alpha) u = Add (p, s) y = Mul (u, gamma)",
		"Abs":       "y = Sub (p, n)",
	}
	for op, f := range functions {
		for _, p := range positive {
			for _, n := range negative {
				oneRectifier(t, op, p+" "+n+" "+f)
			}
		}
	}
}

func oneRectifier(t *testing.T, op, body string) {
	text := fmt.Sprintf(`<ir_version: 10, opset_import: ["" : 22]>
main (float[2,5] x) => (float[2,5] y)
<float zero = {0}, float one = {1}, float two = {2}, float half = {0.5}, float alpha = {0.25}, float gamma = {1.5}, float[5] w = {0.1, 0.2, 0.3, 0.4, 0.5}>
{ %s }`, body)
	m, err := onnxtext.Parse(op, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	before := m.Clone()
	if _, err := fuse.Model(t.Context(), m, fuse.Options{}); err != nil {
		t.Fatal(err)
	}
	if got := opCounts(m); len(got) != 1 || got[op] != 1 {
		t.Errorf("%s: %s becomes %v", op, body, got)
	}
	nan := float32(math.NaN())
	x := onnx.FromFloats("x", []int64{2, 5}, []float32{-30, -1.5, -0.25, 0, float32(math.Copysign(0, -1)), 0.25, 2, 30, nan, nan})
	want, got := evaluated(t, before, x), evaluated(t, m, x)
	for i := range want {
		if d := math.Abs(want[i] - got[i]); !(d <= 1e-6) && !(math.IsNaN(want[i]) && math.IsNaN(got[i])) {
			t.Errorf("%s: %s computes %v instead of %v", op, body, got, want)
			break
		}
	}
}

func evaluated(t *testing.T, m *onnx.Model, x *onnx.Tensor) []float64 {
	t.Helper()
	out, err := eval.Graph(t.Context(), m, map[string]*onnx.Tensor{"x": x}, eval.Options{Wide: true})
	if err != nil {
		t.Fatal(err)
	}
	v, err := out["y"].Float64s()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

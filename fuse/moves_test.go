package fuse

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/eval"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

func parseText(t *testing.T, text string) *onnx.Model {
	t.Helper()
	m, err := onnxtext.Parse("model", []byte(`<ir_version: 8, opset_import: ["" : 17]>`+"\n"+text))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Check(); err != nil {
		t.Fatal(err)
	}
	return m
}

// wave returns n numbers that no low rank approximates.
func wave(n int) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(math.Sin(float64(i*i%977) * 1.7))
	}
	return out
}

// lowRankLayer returns a model of one layer whose weight of k×n elements has the given rank.
func lowRankLayer(t *testing.T, text string, shape []int64, k, n, rank int) *onnx.Model {
	t.Helper()
	a, b := wave(k*rank), wave(rank*n)
	w := make([]float32, k*n)
	for i := range k {
		for j := range n {
			for r := range rank {
				w[i*n+j] += a[i*rank+r] * b[r*n+j]
			}
		}
	}
	m := parseText(t, text)
	for _, v := range m.Graph.Initializers() {
		if v.Name() == "w" {
			v.SetConst(onnx.FromFloats("w", shape, w))
		}
	}
	for _, v := range m.Graph.Inputs() {
		if v.Name() == "w" {
			v.SetConst(onnx.FromFloats("w", shape, w))
		}
	}
	return m
}

// TestFactor: a weight of rank 6 is factored without loss in every kind of layer.
func TestFactor(t *testing.T) {
	for name, c := range map[string]struct {
		text  string
		shape []int64
		in    []int64
		k, n  int // of the weight as it is stored
	}{
		"matmul": {"main (float[2,80] x) => (float[2,64] y) <float[1] w = {0}> { y = MatMul (x, w) }", []int64{80, 64}, []int64{2, 80}, 80, 64},
		"matmul in front of a batch": {"main (float[2,3,64] x) => (float[2,3,80] y) <float[1] w = {0}> { y = MatMul (x, w) }",
			[]int64{64, 80}, []int64{2, 3, 64}, 64, 80},
		"gemm": {"main (float[2,80] x) => (float[2,64] y) <float[1] w = {0}, float[1] c = {3}> { y = Gemm <transB = 1, alpha = 2.0, beta = 0.5> (x, w, c) }",
			[]int64{64, 80}, []int64{2, 80}, 64, 80},
		"conv": {"main (float[1,80,5,5] x) => (float[1,64,4,4] y) <float[1] w = {0}, float[64] c = {" + strings.Repeat("1, ", 63) +
			"2}> { y = Conv <strides = [2, 2], pads = [1, 1, 1, 1], kernel_shape = [1, 1]> (x, w, c) }", []int64{64, 80, 1, 1}, []int64{1, 80, 5, 5}, 64, 80},
	} {
		t.Run(name, func(t *testing.T) {
			m := lowRankLayer(t, c.text, c.shape, c.k, c.n, 6)
			size := 1
			for _, d := range c.in {
				size *= int(d)
			}
			x := onnx.FromFloats("x", c.in, wave(size))
			want := evaluate(t, m, x)
			f, err := factor(m.Graph.First(), 0.2)
			if err != nil {
				t.Fatal(err)
			}
			if f.rank != 7 || f.lost > 1e-9 {
				t.Errorf("rank %d, %g lost", f.rank, f.lost)
			}
			if _, err := f.apply(m.Graph); err != nil {
				t.Fatal(err)
			}
			m.Graph.Sweep()
			if err := m.Check(); err != nil || m.Graph.Len() != 2 {
				t.Fatalf("%d nodes, %v", m.Graph.Len(), err)
			}
			got := evaluate(t, m, x)
			for i := range want {
				if math.Abs(got[i]-want[i]) > 1e-4 {
					t.Fatalf("element %d is %v, want %v", i, got[i], want[i])
				}
			}
		})
	}
}

func evaluate(t *testing.T, m *onnx.Model, x *onnx.Tensor) []float64 {
	t.Helper()
	out, err := eval.Graph(t.Context(), m, map[string]*onnx.Tensor{"x": x}, eval.Options{})
	if err != nil {
		t.Fatal(err)
	}
	v, err := out["y"].Float64s()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestFactorLarge: a weight whose shorter side is beyond the exact method, too.
func TestFactorLarge(t *testing.T) {
	for _, side := range [][2]int{{300, 400}, {400, 300}} {
		k, n := side[0], side[1]
		m := lowRankLayer(t, fmt.Sprintf("main (float[2,%d] x) => (float[2,%d] y) <float[1] w = {0}> { y = MatMul (x, w) }", k, n),
			[]int64{int64(k), int64(n)}, k, n, 9)
		f, err := factor(m.Graph.First(), 0.06)
		if err != nil {
			t.Fatal(err)
		}
		if f.rank != 10 || f.lost > 1e-9 {
			t.Errorf("%v: rank %d, %g lost", side, f.rank, f.lost)
		}
		if f.lost > 0.5 || f.a.RawMatrix().Rows != k || f.b.RawMatrix().Cols != n {
			t.Errorf("%v: factors of %d and %d", side, f.a.RawMatrix().Rows, f.b.RawMatrix().Cols)
		}
	}
}

// TestFactorDeclines: what cannot be factored, or would not gain.
func TestFactorDeclines(t *testing.T) {
	for reason, text := range map[string]string{
		"the weight is not constant":        "main (float[2,80] x, float[80,64] w) => (float[2,64] y) { y = MatMul (x, w) }",
		"too few to gain by factoring":      "main (float[2,3] x) => (float[2,2] y) <float[3,2] w = {1, 2, 3, 4, 5, 6}> { y = MatMul (x, w) }",
		"the weight has other readers":      "main (float[2,2] x) => (float[2,2] y) <float[2,2] w = {1, 2, 3, 4}> { a = MatMul (x, w)\n y = Add (a, w) }",
		"the first input is transposed":     "main (float[2,2] x) => (float[2,2] y) <float[2,2] w = {1, 2, 3, 4}> { y = Gemm <transA = 1> (x, w) }",
		"only convolutions of one group":    "main (float[1,2,3,3] x) => (float[1,2,3,3] y) <float[2,1,1,1] w = {1, 2}> { y = Conv <group = 2> (x, w) }",
		"only 1×1 convolutions":             "main (float[1,1,3,3] x) => (float[1,1,2,2] y) <float[1,1,2,2] w = {1, 2, 3, 4}> { y = Conv (x, w) }",
		"the weight has shape [2], not two": "main (float[2,2] x) => (float[2] y) <float[2] w = {1, 2}> { y = MatMul (x, w) }",
		"the weight is int32":               "main (int32[2,2] x) => (int32[2,2] y) <int32[2,2] w = {1, 2, 3, 4}> { y = MatMul (x, w) }",
	} {
		_, err := factor(parseText(t, text).Graph.First(), 0.5)
		var d *rewrite.Declined
		if !errors.As(err, &d) || !strings.Contains(d.Reason, reason) {
			t.Errorf("%v, want %q", err, reason)
		}
	}
}

func TestTrimTails(t *testing.T) {
	const model = `main (float[N,3] x) => (float[N,3] p, int64[N] best, float[N,3] raw) {
  raw = Exp (x)
  z = Neg (x)
  p = Softmax (z)
  best = ArgMax <axis = 1, keepdims = 0> (p)
}`
	for name, c := range map[string]struct {
		tails []Tail
		said  int
		ops   []string
	}{
		"softmax": {[]Tail{TailSoftmax}, 1, []string{"Exp", "Neg", "Softmax", "ArgMax"}}, // best still needs it
		"argmax":  {[]Tail{TailArgMax}, 0, []string{"Exp", "Neg", "Softmax", "ArgMax"}},  // p is an output already
		"both":    {[]Tail{TailArgMax, TailSoftmax}, 2, []string{"Exp", "Neg", "Softmax"}},
	} {
		m := parseText(t, model)
		said, err := trimTails(m, c.tails)
		if (err != nil) != (c.said == 0) || len(said) != c.said {
			t.Errorf("%s: said %q, %v", name, said, err)
		}
		if err := m.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var ops, outs []string
		for n := range m.Graph.Nodes() {
			ops = append(ops, n.Op)
		}
		for _, v := range m.Graph.Outputs() {
			outs = append(outs, v.Name())
		}
		if !slices.Equal(ops, c.ops) || !slices.Equal(outs, []string{"p", "best", "raw"}) {
			t.Errorf("%s: operators %v, outputs %v", name, ops, outs)
		}
	}
	if _, err := ParseTails([]string{"sigmoid"}); err == nil {
		t.Error("an unknown tail is accepted")
	}
}

// TestConstantOutputs: an output that is constant only once shapes are folded.
func TestConstantOutputs(t *testing.T) {
	m := parseText(t, `main (float[2,3] x) => (float[2,3] y, int64[2] s) { y = Exp (x)  s = Shape (x) }`)
	log, err := Model(t.Context(), m.Clone(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(log.Notices, func(s string) bool { return strings.Contains(s, `output "s" does not depend`) }) {
		t.Errorf("notices: %q", log.Notices)
	}
	said, err := dropConstantOutputs(t.Context(), m, Options{})
	if err != nil || len(said) != 1 || len(m.Graph.Outputs()) != 1 {
		t.Errorf("said %q, %v; %d outputs", said, err, len(m.Graph.Outputs()))
	}
	only := parseText(t, `main (float[2,3] x) => (int64[2] s) { s = Shape (x) }`)
	if _, err := dropConstantOutputs(t.Context(), only, Options{}); err == nil {
		t.Error("the last output was dropped")
	}
}

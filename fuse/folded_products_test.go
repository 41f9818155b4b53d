package fuse_test

import (
	"math/rand/v2"
	"testing"

	"github.com/lapidary-ml/lapidary/fuse"
	"github.com/lapidary-ml/lapidary/internal/eval"
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// TestFoldedProducts is TestFoldedRandom for products of matrices, with weights
// on either side, alone or in batches.
func TestFoldedProducts(t *testing.T) {
	fired := map[string]int{}
	for seed := range uint64(250) {
		m := randomProducts(seed)
		in := randomInput(m)
		want, err := eval.Graph(t.Context(), m, in, eval.Options{Wide: true})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		log, err := fuse.Model(t.Context(), m, fuse.Options{})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		got, err := eval.Graph(t.Context(), m, in, eval.Options{Wide: true})
		if err != nil {
			t.Fatalf("seed %d, fused: %v", seed, err)
		}
		if err := agree(want, got); err != nil {
			var rules []string
			for _, f := range log.Fired {
				rules = append(rules, f.Key)
			}
			t.Errorf("seed %d: %v after %v", seed, err, rules)
		}
		for _, f := range log.Fired {
			fired[f.Rule]++
		}
	}
	for _, rule := range []string{"matmul-mul", "matmul-add", "gemm-add", "gemm-mul", "matmul-input", "gemm-input", "matmul-chain", "arithmetic-through", "matmul-batchnorm", "gemm-batchnorm"} {
		if fired[rule] < 3 {
			t.Errorf("%s fired %d times only", rule, fired[rule])
		}
	}
}

// product is a random network of matrices [b,] rows, columns; b 0 is no batch.
type product struct {
	*layers
	b, rows, columns int64
}

func randomProducts(seed uint64) *onnx.Model {
	r := rand.New(rand.NewPCG(seed, 2))
	s := &product{b: int64(2 * r.IntN(2)), rows: int64(2 + r.IntN(3)), columns: int64(2 + r.IntN(3))}
	shape := []int64{s.rows, s.columns}
	if s.b > 0 {
		shape = []int64{s.b, s.rows, s.columns}
	}
	s.layers = newLayers(shape...)
	s.layers.r = r
	steps := []func(){s.right, s.right, s.left, s.arithmetic, s.arithmetic, s.arithmetic, s.gemm, s.gemm, s.normalize, s.transpose, s.relu}
	for range 3 + r.IntN(6) {
		steps[r.IntN(len(steps))]()
		if r.IntN(12) == 0 { // another reader
			s.m.Graph.AddOutput(s.v)
			s.relu()
		}
	}
	s.relu()
	return s.outputs(s.v)
}

func (s *product) relu() { s.op("Relu", nil) }

func (s *product) right() {
	out := int64(1 + s.r.IntN(4))
	shape := []int64{s.columns, out}
	if s.b > 0 && s.r.IntN(4) == 0 {
		shape = []int64{s.b, s.columns, out}
	}
	s.op("MatMul", one(s.weights(-1, 1, shape...)))
	s.columns = out
}

func (s *product) left() {
	out := int64(1 + s.r.IntN(4))
	s.on(s.weights(-1, 1, out, s.rows), "MatMul", one(s.v))
	s.rows = out
}

func (s *product) arithmetic() {
	shapes := [][]int64{{}, {1}, {s.columns}, {1, s.columns}, {s.rows, 1}, {1, 1}}
	c := s.weights(0.5, 1.5, shapes[s.r.IntN(len(shapes))]...)
	op := []string{"Add", "Sub", "Mul", "Div"}[s.r.IntN(4)]
	if s.r.IntN(3) == 0 && op != "Div" {
		s.on(c, op, one(s.v))
		return
	}
	s.op(op, one(c))
}

func (s *product) gemm() {
	if s.b > 0 {
		s.right()
		return
	}
	out := int64(1 + s.r.IntN(4))
	transA, transB := int64(s.r.IntN(4)/3), int64(s.r.IntN(2))
	if transA == 1 {
		s.rows, s.columns = s.columns, s.rows
	}
	shape := []int64{s.columns, out}
	if transB == 1 {
		shape = []int64{out, s.columns}
	}
	in := one(s.weights(-1, 1, shape...))
	if s.r.IntN(2) == 0 {
		in = append(in, s.weights(-1, 1, [][]int64{{out}, {1}, {1, out}, {s.rows, 1}}[s.r.IntN(4)]...))
	}
	s.op("Gemm", in, onnx.IntAttr("transA", transA), onnx.IntAttr("transB", transB), onnx.FloatAttr("alpha", 0.5+s.r.Float32()), onnx.FloatAttr("beta", 0.5+s.r.Float32()))
	s.columns = out
}

func (s *product) normalize() {
	if s.b > 0 {
		s.batchNorm(s.rows)
		return
	}
	s.batchNorm(s.columns)
}

func (s *product) transpose() {
	perm := []int64{1, 0}
	if s.b > 0 {
		perm = []int64{0, 2, 1}
	}
	s.op("Transpose", nil, onnx.IntsAttr("perm", perm...))
	s.rows, s.columns = s.columns, s.rows
}

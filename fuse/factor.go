package fuse

import (
	"fmt"
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
	"gonum.org/v1/gonum/mat"
)

const (
	minFactored = 4096 // elements below which a weight is not worth factoring
	maxEigen    = 2048 // largest shorter side whose eigenvectors are computed
)

// factored is a layer y = x·W + b whose weight W [K, N] is approximated by
// A [K, rank] · B [rank, N].
type factored struct {
	node *onnx.Node
	w    *onnx.Tensor
	rank int
	lost float64 // energy of W outside the approximation, as a share
	a, b *mat.Dense
}

// factorable reports whether n is an operator whose second input can be a weight
// to factor: MatMul, Gemm, or Conv.
func factorable(n *onnx.Node) bool { return n.Is("MatMul") || n.Is("Gemm") || n.Is("Conv") }

// factor approximates the weight of n in the least squares sense (Eckart and
// Young, 1936) with at most ratio of its multiplications, or declines.
func factor(n *onnx.Node, ratio float64) (*factored, error) {
	w, transposed, err := factorWeight(n)
	if err != nil {
		return nil, err
	}
	k, c := int(w.Shape[0]), int(w.Shape[1])
	if transposed {
		k, c = c, k
	}
	rank := int(ratio * float64(k) * float64(c) / float64(k+c))
	switch {
	case k*c < minFactored:
		return nil, rewrite.Decline("the weight has %d elements, too few to gain by factoring", k*c)
	case rank < 1:
		return nil, rewrite.Decline("a weight of %d×%d has no rank with a share %v of the multiplications", k, c, ratio)
	case min(k, c) > maxEigen:
		return nil, rewrite.Decline("a weight of %d×%d is too large to factor: the shorter side is above %d", k, c, maxEigen)
	}
	values, err := w.Float64s()
	if err != nil {
		return nil, err
	}
	for _, x := range values {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return nil, rewrite.Decline("the weight has elements that are not finite")
		}
	}
	m := mat.NewDense(int(w.Shape[0]), int(w.Shape[1]), values)
	if transposed {
		m = mat.DenseCopyOf(m.T())
	}
	f := &factored{node: n, w: w, rank: rank}
	return f, f.approximate(m)
}

// factorWeight returns the constant weight of n, and whether it is stored as
// [N, K], the outputs first.
func factorWeight(n *onnx.Node) (*onnx.Tensor, bool, error) {
	v := n.Input(1)
	w := v.Constant()
	switch {
	case w == nil:
		return nil, false, rewrite.Decline("the weight is not constant")
	case !w.DType.IsFloat():
		return nil, false, rewrite.Decline("the weight is %v", w.DType)
	case len(v.Uses()) > 1 || v.IsOutput():
		return nil, false, rewrite.Decline("the weight has other readers, and would be kept beside its factors")
	}
	switch n.Op {
	case "Conv":
		if n.Int("group", 1) != 1 || len(w.Shape) < 3 || w.Size() == 0 {
			return nil, false, rewrite.Decline("only convolutions of one group are factored")
		}
		for _, d := range w.Shape[2:] {
			if d != 1 {
				return nil, false, rewrite.Decline("only 1×1 convolutions are factored, this one has filters of %s", dims(w.Shape))
			}
		}
		return w, true, nil
	case "Gemm":
		if n.Int("transA", 0) != 0 {
			return nil, false, rewrite.Decline("the first input is transposed")
		}
	}
	if len(w.Shape) != 2 {
		return nil, false, rewrite.Decline("the weight has shape %s, not two dimensions", dims(w.Shape))
	}
	return w, n.Op == "Gemm" && n.Int("transB", 0) != 0, nil
}

// approximate projects m onto the rank strongest directions of its shorter
// side, the eigenvectors of its Gram matrix.
func (f *factored) approximate(m *mat.Dense) error {
	rows, cols := m.Dims()
	wide := rows <= cols
	gram := mat.NewSymDense(min(rows, cols), nil)
	if wide {
		gram.SymOuterK(1, m)
	} else {
		gram.SymOuterK(1, m.T())
	}
	var e mat.EigenSym
	if !e.Factorize(gram, true) {
		return rewrite.Decline("the weight's singular values did not converge")
	}
	var vectors mat.Dense
	e.VectorsTo(&vectors)
	n := min(rows, cols)
	top := mat.DenseCopyOf(vectors.Slice(0, n, n-f.rank, n))
	f.a, f.b = &mat.Dense{}, &mat.Dense{}
	if wide {
		f.a = top
		f.b.Mul(top.T(), m)
	} else {
		f.a.Mul(m, top)
		f.b = mat.DenseCopyOf(top.T())
	}
	var kept, all float64
	for i, x := range e.Values(nil) {
		all += math.Max(x, 0)
		if i >= n-f.rank {
			kept += math.Max(x, 0)
		}
	}
	if all > 0 {
		f.lost = math.Max(0, 1-kept/all)
	}
	return nil
}

// text describes the factors.
func (f *factored) text() string {
	k, _ := f.a.Dims()
	_, n := f.b.Dims()
	return fmt.Sprintf("%d×%d as rank %d, %.0f %% of the multiplications, %.2g of the weight's energy lost",
		k, n, f.rank, 100*float64(f.rank*(k+n))/float64(k*n), f.lost)
}

// apply puts two nodes in the place of f.node, which must be in g, and returns
// the values that they compute.
func (f *factored) apply(g *onnx.Graph) ([]*onnx.Value, error) {
	n := f.node
	model, x := g.Model(), n.Input(0)
	hidden, out := model.Fresh(n.Output(0).Name()+"_rank"), model.Fresh(n.Output(0).Name()+"_out")
	first := onnx.NewNode("MatMul", nil, hidden)
	second := onnx.NewNode("MatMul", nil, out)
	a, b := f.a, f.b
	shapeA, shapeB := shape2(a), shape2(b)
	switch n.Op {
	case "Gemm":
		second.Op = "Gemm"
		for _, t := range n.Attrs {
			if t.Name != "transB" && t.Name != "transA" {
				second.Attrs = append(second.Attrs, t)
			}
		}
	case "Conv": // filters have the outputs first
		a, b = mat.DenseCopyOf(f.a.T()), mat.DenseCopyOf(f.b.T())
		ones := make([]int64, len(f.w.Shape)-2)
		for i := range ones {
			ones[i] = 1
		}
		shapeA, shapeB = append(shape2(a), ones...), append(shape2(b), ones...)
		first.Op, second.Op = "Conv", "Conv"
		first.Attrs = n.Attrs // strides and padding: the second layer sees each position once
		second.Attrs = []*onnx.Attr{onnx.IntsAttr("kernel_shape", ones...)}
	}
	inA, err := f.constant(g, "_a", shapeA, a)
	if err != nil {
		return nil, err
	}
	inB, err := f.constant(g, "_b", shapeB, b)
	if err != nil {
		return nil, err
	}
	first.Name, second.Name = hidden, out
	first.SetInput(0, x)
	first.SetInput(1, inA)
	g.InsertBefore(first, n)
	second.SetInput(0, first.Output(0))
	second.SetInput(1, inB)
	if bias := n.Input(2); bias != nil {
		second.SetInput(2, bias)
	}
	g.InsertBefore(second, n)
	return []*onnx.Value{first.Output(0), second.Output(0)}, g.Replace(n.Output(0), second.Output(0))
}

func shape2(m *mat.Dense) []int64 {
	r, c := m.Dims()
	return []int64{int64(r), int64(c)}
}

func (f *factored) constant(g *onnx.Graph, suffix string, shape []int64, m *mat.Dense) (*onnx.Value, error) {
	t, err := onnx.FromFloat64s(f.w.Name+suffix, f.w.DType, shape, m.RawMatrix().Data)
	if err != nil {
		return nil, err
	}
	return g.NewConst(t), nil
}

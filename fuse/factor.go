package fuse

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
	lapack "gonum.org/v1/gonum/lapack/gonum"
	"gonum.org/v1/gonum/mat"
)

const (
	minFactored = 4096 // elements below which a weight is not worth factoring
	maxSide     = 8192 // largest shorter side of a weight that is factored
	exactSide   = 256  // largest shorter side whose eigenvectors are computed
	powerSteps  = 4    // iterations of a random subspace
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
	case min(k, c) > maxSide:
		return nil, rewrite.Decline("a weight of %d×%d is too large to factor: the shorter side is above %d", k, c, maxSide)
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

// approximate projects m onto the rank strongest directions of its shorter side.
func (f *factored) approximate(m *mat.Dense) error {
	rows, cols := m.Dims()
	wide := rows <= cols
	w := m
	if !wide {
		w = mat.DenseCopyOf(m.T())
	}
	top, err := directions(w, f.rank)
	if err != nil {
		return err
	}
	var rest mat.Dense // [rank, the longer side]
	rest.Mul(top.T(), w)
	if f.a, f.b = top, &rest; !wide {
		f.a, f.b = mat.DenseCopyOf(rest.T()), mat.DenseCopyOf(top.T())
	}
	if all := mat.Norm(w, 2); all > 0 {
		kept := mat.Norm(&rest, 2) / all
		f.lost = math.Max(0, 1-kept*kept)
	}
	return nil
}

// directions returns an orthonormal basis [n, rank] of the strongest directions of
// the columns of w [n, m], n ≤ m: exact for small n, else by iterating a random
// subspace (Halko, Martinsson and Tropp, 2011, algorithm 4.4), which costs a few
// products instead of all eigenvectors. The numbers drawn are the same each time.
func directions(w *mat.Dense, rank int) (*mat.Dense, error) {
	n, m := w.Dims()
	gram := mat.NewSymDense(n, nil)
	gram.SymOuterK(1, w)
	if n <= exactSide {
		var e mat.EigenSym
		if !e.Factorize(gram, true) {
			return nil, rewrite.Decline("the weight's singular values did not converge")
		}
		var vectors mat.Dense
		e.VectorsTo(&vectors)
		return mat.DenseCopyOf(vectors.Slice(0, n, n-rank, n)), nil
	}
	random := rand.New(rand.NewPCG(uint64(n), uint64(m)))
	q := mat.NewDense(n, rank, nil)
	for i := range n {
		for k := range rank {
			q.Set(i, k, random.NormFloat64())
		}
	}
	for range powerSteps {
		var y mat.Dense
		y.Mul(gram, q)
		q = orthonormal(&y)
	}
	return q, nil
}

// orthonormal returns an orthonormal basis of the columns of y, by Householder
// reflections.
func orthonormal(y *mat.Dense) *mat.Dense {
	q := mat.DenseCopyOf(y)
	a, tau, size := q.RawMatrix(), make([]float64, q.RawMatrix().Cols), make([]float64, 1)
	var l lapack.Implementation
	l.Dgeqrf(a.Rows, a.Cols, a.Data, a.Stride, tau, size, -1)
	work := make([]float64, int(size[0]))
	l.Dgeqrf(a.Rows, a.Cols, a.Data, a.Stride, tau, work, len(work))
	l.Dorgqr(a.Rows, a.Cols, a.Cols, a.Data, a.Stride, tau, size, -1)
	work = make([]float64, int(size[0]))
	l.Dorgqr(a.Rows, a.Cols, a.Cols, a.Data, a.Stride, tau, work, len(work))
	return q
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

package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// matmulChain composes two products with constant matrices: (x·W1 + b1)·W2 + b2
// is x·(W1·W2) + (b1·W2 + b2).
func matmulChain(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: "matmul-chain", Doc: "composes two MatMul or Gemm with constant matrices where that takes no more multiplications, or hardly any",
		Pattern: "MatMul|Gemm(MatMul|Gemm|Add(_, ...), w2, ...); MatMul(w2, MatMul(w1, x))",
		Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			if m.Value("x") != nil {
				return composeLeft(m, p, t)
			}
			second, err := layerOf(m, m.Root)
			if err != nil {
				return err
			}
			first, err := layerOf(m, second.x.Producer())
			if err != nil {
				return err
			}
			y, err := composeLayers(m, p, t, first, second)
			if err == nil {
				p.Swap(m.Root.Output(0), y)
			}
			return err
		},
	}
}

// layer is x·W + b.
type layer struct {
	node    *onnx.Node // the outermost of it
	x       *onnx.Value
	w       *onnx.Tensor // [in, out], or [out, in] where flipped
	flipped bool
	alpha   float64
	b       *onnx.Tensor // nil where there is none
	beta    float64
	gemm    bool
}

func (l layer) in() int64 {
	if l.flipped {
		return l.w.Shape[1]
	}
	return l.w.Shape[0]
}

func (l layer) out() int64 {
	if l.flipped {
		return l.w.Shape[0]
	}
	return l.w.Shape[1]
}

// layerOf reads n, a MatMul, a Gemm, or an Add of a constant to a MatMul.
func layerOf(m *rewrite.Match, n *onnx.Node) (layer, error) {
	l := layer{node: n, alpha: 1, beta: 1}
	if n == nil || n.Graph() != m.Root.Graph() {
		return l, rewrite.Decline("the first product is in an enclosing graph")
	}
	if n != m.Root {
		if err := soleUse(n); err != nil {
			return l, err
		}
	}
	var err error
	switch {
	case n.Is("Add"):
		return biasedLayer(m, n)
	case n.Is("Gemm"):
		if n.Int("transA", 0) != 0 || n.OpsetVersion("") < 11 {
			return l, rewrite.Decline("%v transposes its input, or is older than opset 11", n)
		}
		l.gemm, l.flipped = true, n.Int("transB", 0) != 0
		l.alpha, l.beta = float64(n.Float("alpha", 1)), float64(n.Float("beta", 1))
		if n.Input(2) != nil {
			if l.b, err = constant(n.Input(2), "the bias"); err != nil {
				return l, err
			}
		}
	case !n.Is("MatMul"):
		return l, rewrite.Decline("%v is no product", n)
	}
	l.x = n.Input(0)
	if l.w, err = constant(n.Input(1), "the weight"); err != nil {
		return l, err
	}
	if len(l.w.Shape) != 2 || !isReal(l.w.DType) || product(l.w.Shape) == 0 {
		return l, rewrite.Decline("the weights are %v", l.w)
	}
	return l, nil
}

// biasedLayer reads the Add n of a constant row to a MatMul.
func biasedLayer(m *rewrite.Match, n *onnx.Node) (layer, error) {
	i := 0
	if n.Input(0).Constant() != nil {
		i = 1
	}
	mm := n.Input(i).Producer()
	if !mm.Is("MatMul") || n.OpsetVersion("") < 7 {
		return layer{}, rewrite.Decline("%v adds to no product", n)
	}
	l, err := layerOf(m, mm)
	if err != nil {
		return l, err
	}
	if l.b, err = constant(n.Input(1-i), "the addend"); err != nil {
		return l, err
	}
	if len(l.b.Shape) > 1 {
		return l, rewrite.Decline("the addend has shape %s", dims(l.b.Shape))
	}
	l.node = n
	return l, nil
}

// smallProduct is the size of a composed matrix below which a second product
// costs more than the multiplications that it saves: 16×16 in place of 16×4 and
// 4×16 was 1.1 to 1.3 times as fast in ONNX Runtime from 1 to 16,384 rows.
const smallProduct = 256

// composes declines where the composed matrix [n,m] multiplies more than
// [n,k] and [k,m] one after the other, or making it takes too long.
func composes(n, k, m int64) error {
	if n*m > k*(n+m) && n*m > smallProduct {
		return rewrite.Decline("one product would take %d multiplications per row, the two take %d", n*m, k*(n+m))
	}
	if work := float64(n) * float64(k) * float64(m); work > maxCompose {
		return rewrite.Decline("composing the weights takes %.0f multiplications", work)
	}
	return nil
}

func composeLayers(m *rewrite.Match, p *rewrite.Patch, t *Target, first, second layer) (*onnx.Value, error) {
	in, mid, out := first.in(), first.out(), second.out()
	if second.in() != mid || first.w.DType != second.w.DType {
		return nil, rewrite.Decline("the weights are %v and %v", first.w, second.w)
	}
	if err := composes(in, mid, out); err != nil {
		return nil, err
	}
	if grown := in*out*int64(first.w.DType.Bits()/8) - first.w.Size() - second.w.Size(); grown > t.growth() {
		return nil, rewrite.Decline("the weights would grow by %d bytes", grown)
	}
	w1, err := first.weights()
	if err != nil {
		return nil, err
	}
	w2, err := second.weights()
	if err != nil {
		return nil, err
	}
	w, err := floatTensor(second.w.Name, second.w.DType, []int64{in, out}, times(w1, w2, int(in), int(mid), int(out)))
	if err != nil {
		return nil, err
	}
	b, err := composedBias(first, second, w2)
	if err != nil {
		return nil, err
	}
	args := []*onnx.Value{first.x, p.Const(w)}
	switch {
	case b == nil:
		return p.Add("MatMul", args), nil
	case first.gemm || second.gemm || gemmFactors(m, first.x, second.node.Input(1)) == nil:
		return p.Add("Gemm", append(args, p.Const(b))), nil
	}
	return p.Add("Add", []*onnx.Value{p.Add("MatMul", args), p.Const(b)}), nil
}

// weights returns alpha·W as [in, out].
func (l layer) weights() ([]float64, error) {
	v, err := l.w.Float64s()
	if err != nil {
		return nil, err
	}
	for i := range v {
		v[i] *= l.alpha
	}
	if l.flipped {
		v = flip(v, int(l.out()), int(l.in()))
	}
	return v, nil
}

// composedBias returns b1·W2 + b2, nil where neither has one.
func composedBias(first, second layer, w2 []float64) (*onnx.Tensor, error) {
	if first.b == nil && second.b == nil {
		return nil, nil
	}
	out := int(second.out())
	sum := make([]float64, out)
	for _, l := range []layer{first, second} {
		if l.b == nil {
			continue
		}
		t, err := rowBias(l.b, l.beta, l.out())
		if err != nil {
			return nil, err
		}
		b, err := t.Float64s()
		if err != nil {
			return nil, err
		}
		if l.node == first.node {
			b = times(b, w2, 1, len(b), out)
		}
		for i := range sum {
			sum[i] += b[i]
		}
	}
	return floatTensor(second.w.Name+"_bias", second.w.DType, []int64{int64(out)}, sum)
}

// composeLeft composes W2·(W1·x).
func composeLeft(m *rewrite.Match, p *rewrite.Patch, t *Target) error {
	inner := m.Root.Input(1).Producer()
	if inner.Graph() != m.Root.Graph() {
		return rewrite.Decline("%v is in an enclosing graph", inner)
	}
	if err := soleUse(inner); err != nil {
		return err
	}
	w2, err := m.Const("w2")
	if err != nil {
		return err
	}
	w1, err := m.Const("w1")
	if err != nil {
		return err
	}
	if len(m.Facts.Shape(m.Value("x"))) < 2 {
		return rewrite.Decline("the right factor has shape %v", m.Facts.Shape(m.Value("x")))
	}
	if len(w1.Shape) != 2 || len(w2.Shape) != 2 || w1.DType != w2.DType || !isReal(w1.DType) || w2.Shape[1] != w1.Shape[0] {
		return rewrite.Decline("the weights are %v and %v", w2, w1)
	}
	n, k, c := w2.Shape[0], w2.Shape[1], w1.Shape[1]
	if err := composes(n, k, c); err != nil {
		return err
	}
	if grown := n*c*int64(w1.DType.Bits()/8) - w1.Size() - w2.Size(); grown > t.growth() {
		return rewrite.Decline("the weights would grow by %d bytes", grown)
	}
	a, err := w2.Float64s()
	if err != nil {
		return err
	}
	b, err := w1.Float64s()
	if err != nil {
		return err
	}
	w, err := floatTensor(w2.Name, w2.DType, []int64{n, c}, times(a, b, int(n), int(k), int(c)))
	if err != nil {
		return err
	}
	p.Swap(m.Root.Output(0), p.Add("MatMul", []*onnx.Value{p.Const(w), m.Value("x")}))
	return nil
}

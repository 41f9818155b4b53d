package fuse

import (
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// step is one node of a chain of constant arithmetic: what it does with its
// variable operand x and the constant operand c.
type step struct {
	x *onnx.Value
	c *onnx.Tensor
	// sum: s·x + k·c, with s and k 1 or −1; else x·c or, if inverse, x/c.
	sum     bool
	s, k    float64
	inverse bool
}

// stepOf reads n as a step, or declines.
func stepOf(n *onnx.Node) (step, error) {
	a, b := n.Input(0), n.Input(1)
	left, right := a.Constant(), b.Constant()
	if (left == nil) == (right == nil) {
		return step{}, rewrite.Decline("%v has no constant operand beside a variable one", n)
	}
	st := step{x: a, c: right, s: 1, k: 1}
	if left != nil {
		st.x, st.c = b, left
	}
	switch {
	case n.Is("Add"):
		st.sum = true
	case n.Is("Sub"):
		if st.sum = true; left != nil {
			st.s = -1
		} else {
			st.k = -1
		}
	case n.Is("Mul"):
	case n.Is("Div"):
		if st.inverse = true; left != nil {
			return st, rewrite.Decline("%v divides by the variable", n)
		}
	}
	return st, nil
}

// constChain merges the constants of two additions or two multiplications.
//
// Integers wrap around, so that sums and products may be grouped in any way;
// quotients not. Floats are regrouped only where rounding can differ by no more
// than it does anyway: terms of equal sign, and factors that neither overflow
// nor underflow.
var constChain = rewrite.Rule{
	Name: "const-chain", Doc: "merges the constants of two Add and Sub, or of two Mul and Div, in a row",
	Pattern: "outer=Add|Sub|Mul|Div(a, b)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		outer, err := stepOf(m.Root)
		if err != nil {
			return err
		}
		n := outer.x.Producer()
		if n == nil || !n.Is("Add") && !n.Is("Sub") && !n.Is("Mul") && !n.Is("Div") || n.Graph() == nil {
			return rewrite.Decline("no arithmetic with a constant comes before it")
		}
		inner, err := stepOf(n)
		if err != nil {
			return err
		}
		if inner.sum != outer.sum {
			return rewrite.Decline("sum and product do not mix")
		}
		if err := soleUse(n); err != nil {
			return err
		}
		if err := regroups(n, m.Root, m.Facts.DType(outer.x), inner, outer); err != nil {
			return err
		}
		return mergeSteps(m, p, inner, outer)
	},
}

// regroups declines steps whose element type does not allow them to be merged.
func regroups(first, second *onnx.Node, d onnx.DType, steps ...step) error {
	switch {
	case isFloat(d):
		return nil
	case !d.IsInt():
		return rewrite.Decline("the element type is %v", d)
	case steps[0].inverse || steps[1].inverse:
		return rewrite.Decline("%v and %v divide integers", first, second)
	}
	return nil
}

// mergeSteps proposes one node for both steps.
func mergeSteps(m *rewrite.Match, p *rewrite.Patch, inner, outer step) error {
	d := m.Facts.DType(outer.x)
	t, err := mergeConsts(d, inner, outer)
	if err != nil {
		return err
	}
	in := []*onnx.Value{inner.x, p.Const(t)}
	op := "Mul"
	switch {
	case outer.sum && inner.s*outer.s < 0:
		in[0], in[1] = in[1], in[0]
		op = "Sub"
	case outer.sum:
		op = "Add"
	case inner.inverse && outer.inverse:
		op = "Div"
	}
	p.Swap(m.Root.Output(0), p.Add(op, in))
	return nil
}

// mergeConsts returns the constant of the merged step, or declines.
func mergeConsts(d onnx.DType, inner, outer step) (*onnx.Tensor, error) {
	shape, at, err := broadcastConsts(inner.c.Shape, outer.c.Shape)
	if err != nil {
		return nil, err
	}
	if d.IsInt() {
		return mergeInts(d, shape, at, inner, outer)
	}
	a, err := inner.c.Float64s()
	if err != nil {
		return nil, err
	}
	b, err := outer.c.Float64s()
	if err != nil {
		return nil, err
	}
	out := make([]float64, len(at))
	for i, k := range at {
		x, y := a[k[0]], b[k[1]]
		if outer.sum {
			if x, y = outer.s*inner.k*x, outer.k*y; x*y < 0 {
				return nil, rewrite.Decline("the terms %v and %v have opposite signs, so that rounding between them counts", x, y)
			}
			out[i] = x + y
			continue
		}
		if out[i], err = mergeFactors(d, x, y, inner.inverse, outer.inverse); err != nil {
			return nil, err
		}
	}
	return floatTensor(inner.c.Name, d, shape, out)
}

// mergeFactors returns the factor, or where both divide the divisor, that does
// what two factors do, or declines where one of them is of extreme size.
func mergeFactors(d onnx.DType, x, y float64, inverseX, inverseY bool) (float64, error) {
	limit := math.Ldexp(1, 40)
	if d == onnx.Float16 {
		limit = math.Ldexp(1, 6)
	}
	for _, v := range []float64{x, y} {
		if v = math.Abs(v); v != 0 && !(v <= limit && v >= 1/limit) {
			return 0, rewrite.Decline("the factor %v may overflow or vanish on the way", v)
		}
	}
	switch {
	case inverseX && x == 0 || inverseY && y == 0:
		return 0, rewrite.Decline("it divides by 0")
	case inverseX == inverseY:
		return x * y, nil
	case inverseX:
		return y / x, nil
	}
	return x / y, nil
}

// mergeInts is mergeConsts for integers, which wrap around in 64 bits here and
// in their own width when they are stored.
func mergeInts(d onnx.DType, shape []int64, at [][2]int, inner, outer step) (*onnx.Tensor, error) {
	a, err := inner.c.Ints()
	if err != nil {
		return nil, err
	}
	b, err := outer.c.Ints()
	if err != nil {
		return nil, err
	}
	lo, hi := onnx.IntRange(d)
	out := make([]float64, len(at))
	for i, k := range at {
		v := a[k[0]] * b[k[1]]
		if outer.sum {
			v = int64(outer.s*inner.k)*a[k[0]] + int64(outer.k)*b[k[1]]
		}
		if v < lo || v > hi || v > 1<<53 || v < -(1<<53) || d == onnx.Uint64 {
			return nil, rewrite.Decline("the merged constant %d does not fit %v", v, d)
		}
		out[i] = float64(v)
	}
	return onnx.FromFloat64s(inner.c.Name, d, shape, out)
}

// broadcastConsts returns the shape that two constants broadcast to and, for
// each of its elements, that of either constant. It declines where the result
// is larger than both together.
func broadcastConsts(a, b []int64) ([]int64, [][2]int, error) {
	s, ok := broadcastShape(onnx.ShapeOf(a...), onnx.ShapeOf(b...))
	if !ok {
		return nil, nil, rewrite.Decline("the constants of shapes %v and %v do not broadcast", a, b)
	}
	shape, _ := s.Static()
	n, _ := onnx.ElementCount(shape)
	na, _ := onnx.ElementCount(a)
	nb, _ := onnx.ElementCount(b)
	if n > na+nb || n > 1<<22 {
		return nil, nil, rewrite.Decline("the merged constant would have %d elements", n)
	}
	at := make([][2]int, n)
	for i := range at {
		at[i] = [2]int{sourceIndex(i, shape, a), sourceIndex(i, shape, b)}
	}
	return shape, at, nil
}

// sourceIndex returns which element of a constant of shape c broadcasts to
// element i of shape.
func sourceIndex(i int, shape, c []int64) int {
	k, stride := 0, 1
	for j := len(shape) - 1; j >= 0; j-- {
		at := i % int(shape[j])
		i /= int(shape[j])
		if q := j - (len(shape) - len(c)); q >= 0 {
			if c[q] != 1 {
				k += at * stride
			}
			stride *= int(c[q])
		}
	}
	return k
}

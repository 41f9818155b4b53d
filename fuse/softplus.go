package fuse

import (
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/algebra"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// softplus: log(1 + exp(x)), also as max(x, 0) + log(1 + exp(−|x|)), which does
// not overflow.
var softplus = formula{
	name: "softplus", doc: "recognises Softplus in Log and Exp, also where it is kept from overflow",
	roots: "Log", also: "Add", inner: []string{"Exp"}, aside: []string{"Softplus"}, of: slices.Concat(rational, signed, []string{"Exp", "Log", "Softplus"}),
	read: spelled(algebra.Softplus, func(x algebra.Poly) algebra.Poly {
		return algebra.Add(algebra.Clip(x, 0, math.Inf(1)), algebra.Softplus(algebra.Scale(-1, algebra.Call("abs", "", x))))
	}),
	emit: standard("Softplus"),
}

// softplusGuard: where x is large, Softplus is x to the last bit, which exporters
// choose there to keep exp from overflow. The operator needs no guard.
var softplusGuard = rewrite.Rule{
	Name: "softplus-guard", Doc: "takes away the choice of the value itself where Softplus of it, by any factor, is the same",
	Pattern: "Where(c=Greater(s, t), x, y); Where(c=Less(t, s), x, y); Where(c=LessOrEqual(s, t), y, x); Where(c=GreaterOrEqual(t, s), y, x)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		s, y, d := m.Value("s"), m.Value("y"), m.Facts.DType(m.Root.Output(0))
		t, _, ok := scalarConst(m.Value("t"))
		if !ok || !isFloat(d) {
			return rewrite.ErrNotHere
		}
		beta := 1.0
		if x := m.Value("x"); x != s {
			r := &algebra.Reader{Facts: m.Facts, Stop: []*onnx.Value{x}}
			if beta, ok = multiple(r.Of(s), algebra.Var(x)); !ok {
				return rewrite.ErrNotHere
			}
		}
		r := &algebra.Reader{Facts: m.Facts, Stop: []*onnx.Value{s}}
		if !algebra.Close(r.Of(y), algebra.Scale(1/beta, algebra.Softplus(algebra.Var(s))), tolerance(d)) {
			return rewrite.ErrNotHere
		}
		if exact := softplusExact(d); t < exact {
			return rewrite.Decline("Softplus of %v is not the number itself in %v", t, d)
		}
		if !m.Facts.Shape(y).Equal(m.Facts.Shape(m.Root.Output(0))) {
			return rewrite.Decline("the shape may go from %v to %v", m.Facts.Shape(y), m.Facts.Shape(m.Root.Output(0)))
		}
		p.Swap(m.Root.Output(0), y)
		return nil
	},
}

// softplusExact returns the number from which on Softplus is its argument to half
// of the last bit: exp(−x) is less than that.
func softplusExact(d onnx.DType) float64 {
	if d == onnx.Double {
		return 34
	}
	return 15
}

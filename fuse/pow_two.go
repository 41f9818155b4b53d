package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// powTwo: the square of a value is its product with itself.
var powTwo = rewrite.Rule{
	Name: "pow-two", Doc: "turns Pow with the exponent 2 into Mul",
	Pattern: "Pow(x, c)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		c, t, ok := scalarConst(m.Value("c"))
		x := m.Value("x")
		switch {
		case !ok || c != 2:
			return rewrite.Decline("the exponent is not 2")
		case !rankAtMost(t.Shape, m.Facts.Shape(x)):
			return rewrite.Decline("the exponent of shape %v may add axes", t.Shape)
		case !isFloat(m.Facts.DType(x)):
			return rewrite.Decline("the element type is %v", m.Facts.DType(x))
		case readBy(m.Root.Output(0), "ReduceMean", "ReduceSum"):
			return rewrite.Decline("it belongs to a normalization, which engines look for by Pow")
		}
		p.Swap(m.Root.Output(0), p.Add("Mul", []*onnx.Value{x, x}))
		return nil
	},
}

package fuse

import (
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// divToMul: division by a power of two is multiplication by its inverse, to the bit.
var divToMul = rewrite.Rule{
	Name: "div-to-mul", Doc: "turns division by constant powers of two into multiplication, which is exact",
	Pattern: "Div(x, c)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		t, err := m.Const("c")
		if err != nil {
			return err
		}
		if !isFloat(t.DType) {
			return rewrite.Decline("the element type is %v", t.DType)
		}
		if producerOf(m.Value("x"), "MatMul") != nil {
			return rewrite.Decline("it scales a product, as in attention, where engines look for Div")
		}
		v, err := t.Float64s()
		if err != nil {
			return err
		}
		for i, c := range v {
			if f, e := math.Frexp(math.Abs(c)); f != 0.5 || e < -12 || e > 13 {
				return rewrite.Decline("the divisor %v is not a power of two, so that its inverse is rounded", c)
			}
			v[i] = 1 / c
		}
		inv, err := onnx.FromFloat64s(t.Name, t.DType, t.Shape, v)
		if err != nil {
			return err
		}
		p.Swap(m.Root.Output(0), p.Add("Mul", []*onnx.Value{m.Value("x"), p.Const(inv)}))
		return nil
	},
}

package fuse

import (
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// neutral returns a rule that removes an operator whose operand c is constant
// and everywhere equal to want. Where x is −0, x + 0 is +0 and the rule gives −0,
// which is equal to it.
func neutral(name, doc, pattern string, want float64) rewrite.Rule {
	return rewrite.Rule{
		Name: name, Doc: doc, Pattern: pattern,
		Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			t, err := m.Const("c")
			if err != nil {
				return err
			}
			n, _ := t.Elements()
			if n > 1<<20 || t.DType == onnx.String || t.DType == onnx.Bool {
				return rewrite.Decline("c is %v", t)
			}
			values, err := t.Float64s()
			if err != nil {
				return err
			}
			for _, v := range values {
				if v != want || math.IsNaN(v) {
					return rewrite.Decline("c is not %v everywhere", want)
				}
			}
			return swapIfSameShape(m, p, m.Value("x"))
		},
	}
}

var (
	addZero = neutral("add-zero", "removes the addition of zero", "Add(x, c)", 0)
	subZero = neutral("sub-zero", "removes the subtraction of zero", "Sub(x, c)", 0)
	mulOne  = neutral("mul-one", "removes multiplication by one", "Mul(x, c)", 1)
	divOne  = neutral("div-one", "removes division by one", "Div(x, c)", 1)
	powOne  = neutral("pow-one", "removes raising to the power of one", "Pow(x, c)", 1)
)

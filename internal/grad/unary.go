package grad

import (
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// slope returns the derivative of a function of one variable at x, where it is y.
type slope func(c *call, x, y *onnx.Value) *onnx.Value

// unary is the rule of a function of one variable: the chain rule.
func unary(name string, f slope) rule {
	return rule{name: name, do: func(c *call) { c.give(0, c.mul(c.dy(), f(c, c.x(0), c.y()))) }}
}

// unaryRules are the functions of one variable that are no activations.
func unaryRules() []rule {
	return []rule{
		{name: "Neg", do: func(c *call) { c.give(0, c.neg(c.dy())) }},
		unary("Abs", func(c *call, x, _ *onnx.Value) *onnx.Value { return c.op("Sign", x) }),
		unary("Exp", func(c *call, _, y *onnx.Value) *onnx.Value { return y }),
		unary("Log", func(c *call, x, _ *onnx.Value) *onnx.Value { return c.inverse(x) }),
		unary("Sqrt", func(c *call, _, y *onnx.Value) *onnx.Value { return c.div(c.num(y, 0.5), y) }),
		unary("Reciprocal", func(c *call, _, y *onnx.Value) *onnx.Value { return c.neg(c.square(y)) }),
		unary("Erf", func(c *call, x, _ *onnx.Value) *onnx.Value {
			return c.scale(c.op("Exp", c.neg(c.square(x))), 2/math.Sqrt(math.Pi))
		}),
		unary("Sin", func(c *call, x, _ *onnx.Value) *onnx.Value { return c.op("Cos", x) }),
		unary("Cos", func(c *call, x, _ *onnx.Value) *onnx.Value { return c.neg(c.op("Sin", x)) }),
		unary("Tan", func(c *call, _, y *onnx.Value) *onnx.Value { return c.plus(c.square(y), 1) }),
		unary("Asin", func(c *call, x, _ *onnx.Value) *onnx.Value { return c.inverse(c.op("Sqrt", c.oneMinus(c.square(x)))) }),
		unary("Acos", func(c *call, x, _ *onnx.Value) *onnx.Value {
			return c.neg(c.inverse(c.op("Sqrt", c.oneMinus(c.square(x)))))
		}),
		unary("Atan", func(c *call, x, _ *onnx.Value) *onnx.Value { return c.inverse(c.plus(c.square(x), 1)) }),
		unary("Sinh", func(c *call, x, _ *onnx.Value) *onnx.Value { return c.op("Cosh", x) }),
		unary("Cosh", func(c *call, x, _ *onnx.Value) *onnx.Value { return c.op("Sinh", x) }),
		unary("Asinh", func(c *call, x, _ *onnx.Value) *onnx.Value { return c.inverse(c.op("Sqrt", c.plus(c.square(x), 1))) }),
		unary("Acosh", func(c *call, x, _ *onnx.Value) *onnx.Value { return c.inverse(c.op("Sqrt", c.plus(c.square(x), -1))) }),
		unary("Atanh", func(c *call, x, _ *onnx.Value) *onnx.Value { return c.inverse(c.oneMinus(c.square(x))) }),
	}
}

// inverse returns 1/x.
func (b *builder) inverse(x *onnx.Value) *onnx.Value { return b.div(b.num(x, 1), x) }

// oneMinus returns 1 - x.
func (b *builder) oneMinus(x *onnx.Value) *onnx.Value { return b.sub(b.num(x, 1), x) }

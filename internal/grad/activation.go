package grad

import (
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Constants of Selu, as the specification has them.
const (
	seluAlpha = 1.67326319217681884765625
	seluGamma = 1.05070102214813232421875
)

// activationRules are the activations. Slopes at a kink are those of its left side.
func activationRules() []rule {
	return []rule{
		{name: "Relu", do: func(c *call) { c.give(0, c.where(c.greater(c.x(0), 0), c.dy())) }},
		unary("LeakyRelu", func(c *call, x, _ *onnx.Value) *onnx.Value {
			return c.choose(c.greater(x, 0), x, 1, c.float("alpha", 0.01))
		}),
		{name: "ThresholdedRelu", do: func(c *call) { c.give(0, c.where(c.greater(c.x(0), c.float("alpha", 1)), c.dy())) }},
		{name: "PRelu", do: prelu},
		unary("Elu", func(c *call, x, _ *onnx.Value) *onnx.Value { return c.exponential(x, c.float("alpha", 1), 1, 1) }),
		unary("Selu", func(c *call, x, _ *onnx.Value) *onnx.Value {
			alpha, gamma := c.float("alpha", seluAlpha), c.float("gamma", seluGamma)
			return c.exponential(x, alpha*gamma, 1, gamma)
		}),
		unary("Celu", func(c *call, x, _ *onnx.Value) *onnx.Value { return c.exponential(x, 1, 1/c.float("alpha", 1), 1) }),
		unary("Sigmoid", func(c *call, _, y *onnx.Value) *onnx.Value { return c.mul(y, c.oneMinus(y)) }),
		unary("HardSigmoid", func(c *call, x, _ *onnx.Value) *onnx.Value {
			return c.hardSigmoid(x, c.float("alpha", 0.2), c.float("beta", 0.5))
		}),
		unary("HardSwish", hardSwish),
		unary("Tanh", func(c *call, _, y *onnx.Value) *onnx.Value { return c.oneMinus(c.square(y)) }),
		unary("Softplus", func(c *call, x, _ *onnx.Value) *onnx.Value { return c.op("Sigmoid", x) }),
		unary("Softsign", func(c *call, x, _ *onnx.Value) *onnx.Value {
			return c.inverse(c.square(c.plus(c.op("Abs", x), 1)))
		}),
		unary("Mish", mish),
		unary("Gelu", func(c *call, x, _ *onnx.Value) *onnx.Value {
			if c.n.Str("approximate", "none") == "tanh" {
				return c.geluTanh(x)
			}
			return c.gelu(x)
		}),
		unary("Swish", func(c *call, x, _ *onnx.Value) *onnx.Value { return c.swish(x, c.float("alpha", 1)) }),
		{name: "Clip", do: clip},
	}
}

// exponential is the slope of a·(exp(k·x) - 1)/… below 0, a·k·exp(k·x) in all, and right above.
func (b *builder) exponential(x *onnx.Value, a, k, right float64) *onnx.Value {
	below := b.scale(b.op("Exp", b.scale(b.op("Min", x, b.num(x, 0)), k)), a)
	return b.op("Where", b.greater(x, 0), b.num(x, right), below)
}

// hardSigmoid is alpha where alpha·x + beta lies within (0, 1), else 0.
func (b *builder) hardSigmoid(x *onnx.Value, alpha, beta float64) *onnx.Value {
	z := b.plus(b.scale(x, alpha), beta)
	return b.choose(b.op("And", b.greater(z, 0), b.less(z, 1)), x, alpha, 0)
}

// hardSwish is x·max(0, min(1, x/6 + 1/2)), with slope 0 below -3, 1 above 3, and x/3 + 1/2 between.
func hardSwish(c *call, x, _ *onnx.Value) *onnx.Value {
	between := c.plus(c.scale(x, 1.0/3), 0.5)
	upper := c.op("Where", c.less(x, 3), between, c.num(x, 1))
	return c.where(c.greater(x, -3), upper)
}

// mish is x·tanh(softplus(x)).
func mish(c *call, x, _ *onnx.Value) *onnx.Value {
	t := c.op("Tanh", c.op("Softplus", x))
	return c.add(t, c.mul(c.mul(x, c.oneMinus(c.square(t))), c.op("Sigmoid", x)))
}

// gelu is the slope of x·Φ(x): Φ(x) + x·φ(x), with the distribution and density of the normal distribution.
func (b *builder) gelu(x *onnx.Value) *onnx.Value {
	cdf := b.scale(b.plus(b.op("Erf", b.scale(x, math.Sqrt2/2)), 1), 0.5)
	pdf := b.scale(b.op("Exp", b.scale(b.square(x), -0.5)), 1/math.Sqrt(2*math.Pi))
	return b.add(cdf, b.mul(x, pdf))
}

// geluTanh is the slope of x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³))).
func (b *builder) geluTanh(x *onnx.Value) *onnx.Value {
	k := math.Sqrt(2 / math.Pi)
	x2 := b.square(x)
	t := b.op("Tanh", b.mul(b.scale(x, k), b.plus(b.scale(x2, 0.044715), 1)))
	inner := b.scale(b.plus(b.scale(x2, 3*0.044715), 1), k)
	return b.scale(b.add(b.plus(t, 1), b.mul(b.mul(x, b.oneMinus(b.square(t))), inner)), 0.5)
}

// swish is the slope of x·sigmoid(alpha·x).
func (b *builder) swish(x *onnx.Value, alpha float64) *onnx.Value {
	s := b.op("Sigmoid", b.scale(x, alpha))
	return b.add(s, b.scale(b.mul(x, b.mul(s, b.oneMinus(s))), alpha))
}

// prelu is x above 0 and slope·x below; the slope is broadcast to x.
func prelu(c *call) {
	x, s, dy := c.x(0), c.x(1), c.dy()
	above := c.greater(x, 0)
	if c.wants(0) {
		c.give(0, c.op("Where", above, dy, c.mul(dy, s)))
	}
	if c.wants(1) {
		c.giveSum(1, c.op("Where", above, c.num(x, 0), c.mul(dy, x)))
	}
}

// clip passes the gradient within the limits; at them too, as other frameworks do.
func clip(c *call) {
	x, g := c.x(0), c.dy()
	if low := c.n.Input(1); low != nil {
		g = c.where(c.op("GreaterOrEqual", x, low), g)
	}
	if high := c.n.Input(2); high != nil {
		g = c.where(c.op("LessOrEqual", x, high), g)
	}
	c.give(0, g)
}

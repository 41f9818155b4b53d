package grad

import (
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// contribRules are operators that ONNX Runtime adds (its docs/ContribOperators.md).
func contribRules() []rule {
	const ms = "com.microsoft."
	return []rule{
		unary(ms+"Gelu", func(c *call, x, _ *onnx.Value) *onnx.Value { return c.gelu(x) }),
		unary(ms+"QuickGelu", func(c *call, x, _ *onnx.Value) *onnx.Value { return c.swish(x, c.float("alpha", 1.702)) }),
		{name: ms + "BiasGelu", do: func(c *call) { c.biased(c.gelu) }},
		{name: ms + "FastGelu", do: func(c *call) { c.biased(c.geluTanh) }},
		{name: ms + "FusedMatMul", do: fusedMatMul},
		{name: ms + "FusedConv", do: fusedConv},
		{name: ms + "SkipLayerNormalization", do: func(c *call) { c.skipNorm(3, 4, c.normalized) }},
		{name: ms + "SkipSimplifiedLayerNormalization", do: func(c *call) { c.skipNorm(-1, 3, c.scaled) }},
		{name: ms + "MatMulNBits", do: matmulNBits},
		{name: ms + "QuantizeLinear", integers: makes, straight: true, do: quantize},
		{name: ms + "DequantizeLinear", straight: true, do: dequantize},
	}
}

// biased is the rule of an activation of x + bias, where the bias may be left out.
func (c *call) biased(slope func(*onnx.Value) *onnx.Value) {
	z := c.x(0)
	if c.n.Input(1) != nil {
		z = c.add(z, c.x(1))
	}
	g := c.mul(c.dy(), slope(z))
	c.give(0, g)
	c.giveSum(1, g)
}

// fusedMatMul is alpha·A'·B', where the last two axes of either may be exchanged.
func fusedMatMul(c *call) {
	if c.n.Int("transBatchA", 0) != 0 || c.n.Int("transBatchB", 0) != 0 {
		c.fail("no gradient is known for transBatchA and transBatchB")
	}
	a, b := c.x(0), c.x(1)
	ta, tb := c.n.Int("transA", 0) != 0, c.n.Int("transB", 0) != 0
	dy := c.scale(c.dy(), c.float("alpha", 1))
	left, right := a, b
	if ta {
		left = c.swapped(a)
	}
	if tb {
		right = c.swapped(b)
	}
	if c.rank(a) < 2 || c.rank(b) < 2 {
		c.fail("no gradient is known for vectors")
	}
	back := func(g *onnx.Value, swapped bool) *onnx.Value {
		if swapped {
			return c.swapped(g)
		}
		return g
	}
	if c.wants(0) {
		c.give(0, back(c.sumTo(c.matmul(dy, c.swapped(right)), left), ta))
	}
	if c.wants(1) {
		c.give(1, back(c.sumTo(c.matmul(c.swapped(left), dy), right), tb))
	}
}

// fusedConv is an activation of a convolution, with a term added before it. The slope of each activation it knows is a function
// of the result.
func fusedConv(c *call) {
	y, g := c.y(), c.dy()
	params := func(i int, def float64) float64 {
		if a := c.n.Attr("activation_params"); a != nil && i < len(a.Floats) {
			return float64(a.Floats[i])
		}
		return def
	}
	switch name := c.n.Str("activation", ""); name {
	case "":
	case "Relu":
		g = c.where(c.greater(y, 0), g)
	case "LeakyRelu":
		g = c.mul(g, c.choose(c.greater(y, 0), y, 1, params(0, 0.01)))
	case "Sigmoid":
		g = c.mul(g, c.mul(y, c.oneMinus(y)))
	case "Tanh":
		g = c.mul(g, c.oneMinus(c.square(y)))
	case "HardSigmoid":
		within := c.op("And", c.greater(y, 0), c.less(y, 1))
		g = c.scale(c.where(within, g), params(0, 0.2))
	case "Clip":
		within := c.op("And", c.greater(y, params(0, math.Inf(-1))), c.less(y, params(1, math.Inf(1))))
		g = c.where(within, g)
	default:
		c.fail("no gradient is known for activation %q", name)
	}
	c.conv(g, 0, 1, 2, c.x(0), c.x(1))
	c.giveSum(3, g)
}

// skipNorm normalizes input + skip + bias over the last axis; gamma is input 2, beta and bias are inputs beta and bias. Its last
// output is the sum.
func (c *call) skipNorm(beta, bias int, normalized func(*onnx.Value, []int64, float64) (*onnx.Value, func(*onnx.Value) *onnx.Value)) {
	sum := c.add(c.x(0), c.x(1))
	if c.n.Input(bias) != nil {
		sum = c.add(sum, c.x(bias))
	}
	for i := 1; i < min(3, len(c.dys)); i++ {
		if c.dys[i] != nil {
			c.fail("no gradient is known for its output %d", i)
		}
	}
	hat, back := normalized(sum, []int64{int64(c.rank(sum) - 1)}, c.float("epsilon", 1e-12))
	var g *onnx.Value
	if dy := c.dys[0]; dy != nil {
		g = back(c.mul(dy, c.x(2)))
		if c.wants(2) {
			c.giveSum(2, c.mul(dy, hat))
		}
		c.giveSum(beta, dy)
	}
	if len(c.dys) > 3 && c.dys[3] != nil {
		if g == nil {
			g = c.dys[3]
		} else {
			g = c.add(g, c.dys[3])
		}
	}
	for _, i := range []int{0, 1, bias} {
		c.giveSum(i, g)
	}
}

// matmulNBits multiplies by weights of few bits: what it makes of the unit matrix are the weights as they are used.
func matmulNBits(c *call) {
	dy, k := c.dy(), c.n.Int("K", 0)
	unit := c.op("EyeLike", c.op("Expand", c.num(dy, 0), c.ints(k, k)))
	in := append([]*onnx.Value{unit}, c.n.Inputs()[1:]...)
	if len(in) > 5 {
		in = in[:5] // without the bias
	}
	weights := c.again(in, "grad_weights")[0]
	c.give(0, c.matmul(dy, c.transpose(weights, 1, 0)))
	c.giveSum(5, dy)
}

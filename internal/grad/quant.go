package grad

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// quantRules are the quantizations, whose slope is that of a surrogate: rounding counts as the identity within the range of the
// integers. The gradient of an integer is that of the real number between integers that it would be without rounding.
func quantRules() []rule {
	return []rule{
		{name: "QuantizeLinear", integers: makes, straight: true, do: quantize},
		{name: "DequantizeLinear", straight: true, do: dequantize},
		{name: "DynamicQuantizeLinear", integers: makes, straight: true, do: dynamicQuantize},
		{name: "MatMulInteger", integers: passes, straight: true, do: matmulInteger},
		{name: "ConvInteger", integers: passes, straight: true, do: convInteger},
	}
}

// quantize is x/scale + zero within the range of the integers and constant beyond.
func quantize(c *call) {
	x, g := c.x(0), c.dy()
	scale, zero := c.quantization(x)
	d := c.elem(c.y())
	if !d.IsInt() {
		c.fail("no gradient is known for quantization to %v", d)
	}
	lowest, highest := onnx.IntRange(d)
	q := c.div(x, scale)
	if zero != nil {
		q = c.add(q, c.castLike(zero, q))
	}
	low := c.op("GreaterOrEqual", q, c.num(q, float64(lowest)-0.5))
	high := c.op("LessOrEqual", q, c.num(q, float64(highest)+0.5))
	c.give(0, c.castLike(c.where(c.op("And", low, high), c.div(g, scale)), x))
	c.hold(1)
	c.hold(2)
}

// dynamicQuantize is x/scale + zero, with a scale that is held constant: what is dequantized by it later is x whatever the
// scale, and the range fits, so that nothing is cut off.
func dynamicQuantize(c *call) {
	if c.dys[0] == nil {
		c.fail("its first output has no gradient")
	}
	c.give(0, c.div(c.dys[0], c.n.Output(1)))
}

// dequantize is (x - zero)·scale.
func dequantize(c *call) {
	scale, _ := c.quantization(c.x(0))
	c.give(0, c.mul(c.dy(), scale))
	c.hold(1)
	c.hold(2)
}

// quantization returns scale and zero point, nil where that is 0, so that they broadcast to v.
func (c *call) quantization(v *onnx.Value) (scale, zero *onnx.Value) {
	if c.n.Int("block_size", 0) != 0 || c.rank(c.x(1)) > 1 {
		c.fail("no gradient is known through quantization in blocks")
	}
	rank := c.rank(v)
	axis := 0
	if c.rank(c.x(1)) == 1 && rank > 0 {
		if dims, ok := c.facts.Shape(c.x(1)).Static(); !ok || dims[0] != 1 {
			axis = c.axis(c.n.Int("axis", 1), rank)
		}
	}
	scale = c.alongAxis(c.x(1), axis, rank)
	if z := c.n.Input(2); z != nil {
		zero = c.alongAxis(z, axis, rank)
	}
	return scale, zero
}

// centred returns integer input i less its zero point, input z, as real numbers in the type of like; column shapes a vector of
// zero points to go with the rows of a matrix.
func (c *call) centred(i, z int, like *onnx.Value, axis int) *onnx.Value {
	v := c.castLike(c.x(i), like)
	zero := c.n.Input(z)
	if zero == nil {
		return v
	}
	zero = c.castLike(zero, like)
	if dims, ok := c.facts.Shape(zero).Static(); !ok || len(dims) == 1 && dims[0] != 1 {
		zero = c.alongAxis(zero, c.axis(int64(axis), c.rank(v)), c.rank(v))
	}
	return c.sub(v, zero)
}

// matmulInteger is the product of both operands less their zero points.
func matmulInteger(c *call) {
	dy := c.dy()
	a, b := c.x(0), c.x(1)
	if c.wants(0) {
		b = c.centred(1, 3, dy, -1)
	}
	if c.wants(1) {
		a = c.centred(0, 2, dy, -2)
	}
	c.product(dy, 0, 1, a, b)
	c.hold(2)
	c.hold(3)
}

// convInteger is the convolution of both operands less their zero points.
func convInteger(c *call) {
	dy := c.dy()
	x, w := c.x(0), c.x(1)
	if c.wants(0) {
		w = c.centred(1, 3, dy, 0)
	}
	if c.wants(1) {
		x = c.centred(0, 2, dy, 0)
	}
	c.conv(dy, 0, 1, -1, x, w)
	c.hold(2)
	c.hold(3)
}

package eval

import "github.com/lapidary-ml/lapidary/internal/onnx"

// contribQuantOperators are quantization as ONNX Runtime had it first for 16
// bits, and products of integers that it scales to floats in one operator.
func contribQuantOperators() []operator {
	return []operator{
		{"QuantizeLinear", 1, 1, "axis", quantize},
		{"DequantizeLinear", 1, 1, "axis", dequantize},
		{"DynamicQuantizeMatMul", 1, 1, "", dynamicQuantizeMatMul},
		{"MatMulIntegerToFloat", 1, 1, "", matMulIntegerToFloat},
		{"MatMulNBits", 1, 1, "K N accuracy_level bits block_size", matMulNBits},
	}
}

// dynamicQuantizeMatMul quantizes input 0 over its own range and multiplies.
func dynamicQuantizeMatMul(c *call) []*array {
	q := dynamicQuantize(c)
	return one(c.scaledProduct(q[0], c.input(1), q[1], c.input(2), q[2], c.opt(3), c.opt(4)))
}

func matMulIntegerToFloat(c *call) []*array {
	return one(c.scaledProduct(c.input(0), c.input(1), c.input(2), c.input(3), c.opt(4), c.opt(5), c.opt(6)))
}

// scaledProduct returns (a − az)·(b − bz) times the scale of a, of one element,
// and that of b, of one element or one per column, plus a bias per column.
func (c *call) scaledProduct(a, b, as, bs, az, bz, bias *array) *array {
	if a.rank() < 2 || b.rank() < 2 || as.len() != 1 || bs.rank() > 1 || as.dt != onnx.Float || bs.dt != onnx.Float {
		c.unsupported("operands %v and %v with scales %v and %v", a.shape, b.shape, as.shape, bs.shape)
	}
	y := c.matmul(c.centred(a, az, a.rank()-2), c.centred(b, bz, b.rank()-1))
	columns := int(y.shape[y.rank()-1])
	s, sb := load[float64](as)[0], load[float64](bs)
	if len(sb) != 1 && len(sb) != columns {
		c.fail("%d scales for %d columns", len(sb), columns)
	}
	out := load[float64](y)
	for i := range out {
		out[i] *= s * sb[i%columns%len(sb)]
	}
	r := store(c, onnx.Float, y.shape, out)
	if bias == nil {
		return r
	}
	return c.exact(c.withBias(r, bias))
}

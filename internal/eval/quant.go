package eval

import (
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// quantOperators quantize to integers of 8 and 16 bits, and multiply those.
func quantOperators() []operator {
	return []operator{
		{"QuantizeLinear", 10, 12, "", quantize},
		{"QuantizeLinear", 13, 20, "axis saturate", quantize},
		{"QuantizeLinear", 21, latest, "axis saturate block_size output_dtype", quantize},
		{"DequantizeLinear", 10, 12, "", dequantize},
		{"DequantizeLinear", 13, 20, "axis", dequantize},
		{"DequantizeLinear", 21, latest, "axis block_size output_dtype", dequantize},
		{"DynamicQuantizeLinear", 11, latest, "", dynamicQuantize},
		{"MatMulInteger", 10, latest, "", matMulInteger},
		{"ConvInteger", 10, latest, convAttrs, convInteger},
	}
}

// perElement returns, for each element of x, the element of the scale or zero point
// p that belongs to it: one for all, per position of an axis, or per block of it.
func (c *call) perElement(x, p *array) []float64 {
	v := load[float64](p)
	if p.len() == 1 && p.rank() < 2 {
		return slices.Repeat(v, x.len())
	}
	axis, block := c.axis(c.int("axis", 1), x.rank()), c.int("block_size", 0)
	inner, size := product(x.shape[axis+1:]), int(x.shape[axis])
	out := make([]float64, x.len())
	switch {
	case block == 0 && slices.Equal(p.shape, []int64{int64(size)}):
		for i := range out {
			out[i] = v[i/inner%size]
		}
	case block > 0 && p.rank() == x.rank():
		blocks := (int64(size) + block - 1) / block
		want := slices.Clone(x.shape)
		want[axis] = blocks
		if !slices.Equal(p.shape, want) {
			c.fail("parameters of shape %v, want %v", p.shape, want)
		}
		for i := range out {
			b := i / inner % size / int(block)
			out[i] = v[(i/inner/size*int(blocks)+b)*inner+i%inner]
		}
	default:
		c.fail("parameters of shape %v for data of shape %v", p.shape, x.shape)
	}
	return out
}

// zeroPoints returns input i spread like [call.perElement], zeros where omitted.
func (c *call) zeroPoints(x *array, i int) []float64 {
	if c.opt(i) == nil {
		return make([]float64, x.len())
	}
	return c.perElement(x, c.opt(i))
}

// bounds returns the least and greatest integer of a type.
func (c *call) bounds(dt onnx.DType) (lo, hi float64) {
	if !dt.IsInt() || dt.Bits() > 16 {
		c.unsupported("quantization to %v", dt)
	}
	if dt.IsSigned() {
		return -math.Ldexp(1, dt.Bits()-1), math.Ldexp(1, dt.Bits()-1) - 1
	}
	return 0, math.Ldexp(1, dt.Bits()) - 1
}

func quantize(c *call) []*array {
	x, scale := c.input(0), c.input(1)
	dt := onnx.Uint8
	if to := onnx.DType(c.int("output_dtype", 0)); to != onnx.Undefined {
		dt = to
	}
	if z := c.opt(2); z != nil {
		dt = z.dt
	}
	c.sameFloats(x, scale)
	lo, hi := c.bounds(dt)
	c.count(dt, x.shape)
	s, z := c.perElement(x, scale), c.zeroPoints(x, 2)
	v, out := load[float64](x), make([]int64, x.len())
	for i, e := range v {
		q := e / s[i]
		if x.dt != onnx.Double {
			q = float64(float32(q))
		}
		if q != q {
			c.unsupported("NaN, which runtimes quantize differently")
		}
		out[i] = int64(min(max(math.RoundToEven(q)+z[i], lo), hi))
	}
	return one(store(c, dt, x.shape, out))
}

func dequantize(c *call) []*array {
	x, scale := c.input(0), c.input(1)
	dt := scale.dt
	if to := onnx.DType(c.int("output_dtype", 0)); to != onnx.Undefined {
		dt = to
	}
	if !x.dt.IsInt() || !dt.IsFloat() || x.dt.Bits() > 32 {
		c.unsupported("%v scaled by %v", x.dt, dt)
	}
	c.count(dt, x.shape)
	s, z := c.perElement(x, scale), c.zeroPoints(x, 2)
	v, out := load[float64](x), make([]float64, x.len())
	for i, e := range v {
		out[i] = (e - z[i]) * s[i]
	}
	return one(store(c, dt, x.shape, out))
}

// dynamicQuantize chooses scale and zero point from the range of its input,
// which is made to hold 0.
func dynamicQuantize(c *call) []*array {
	x := c.input(0)
	if x.dt != onnx.Float {
		c.unsupported("element type %v", x.dt)
	}
	lo, hi := 0.0, 0.0
	v := load[float64](x)
	for _, e := range v {
		lo, hi = min(lo, e), max(hi, e)
	}
	scale := float64(float32(hi-lo) / 255)
	if !(scale > 0) {
		c.unsupported("a range from %v to %v", lo, hi)
	}
	zero := math.RoundToEven(min(max(float64(float32(-lo/scale)), 0), 255))
	c.count(onnx.Uint8, x.shape)
	out := make([]int64, len(v))
	for i, e := range v {
		out[i] = int64(min(max(math.RoundToEven(float64(float32(e/scale)))+zero, 0), 255))
	}
	return []*array{store(c, onnx.Uint8, x.shape, out), store(c, onnx.Float, nil, []float64{scale}), store(c, onnx.Uint8, nil, []float64{zero})}
}

// centred returns an 8-bit operand less its zero point, spread along axis where
// it is a vector.
func (c *call) centred(a, zero *array, axis int) *array {
	if a.dt != onnx.Int8 && a.dt != onnx.Uint8 || axis < 0 || axis >= a.rank() {
		c.unsupported("an operand %v%v", a.dt, a.shape)
	}
	v := load[int64](a)
	out := slices.Clone(v)
	if zero != nil {
		z, inner := load[int64](zero), product(a.shape[axis+1:])
		if zero.dt != a.dt || zero.rank() > 1 || len(z) != 1 && int64(len(z)) != a.shape[axis] {
			c.unsupported("zero points %v%v of %v%v", zero.dt, zero.shape, a.dt, a.shape)
		}
		for i := range out {
			out[i] -= z[i/inner%len(z)]
		}
	}
	return store(c, onnx.Int32, a.shape, out)
}

func matMulInteger(c *call) []*array {
	a, b := c.input(0), c.input(1)
	if a.rank() < 2 || b.rank() < 2 {
		c.unsupported("operands of shapes %v and %v", a.shape, b.shape)
	}
	return one(c.matmul(c.centred(a, c.opt(2), a.rank()-2), c.centred(b, c.opt(3), b.rank()-1)))
}

func convInteger(c *call) []*array {
	x, w := c.input(0), c.input(1)
	if z := c.opt(2); z != nil && z.len() != 1 {
		c.unsupported("zero points of shape %v of the input", z.shape)
	}
	wide := func(a *array) *array { return &array{dt: onnx.Double, shape: a.shape, wide: load[float64](a)} }
	y := c.conv(wide(c.centred(x, c.opt(2), 0)), wide(c.centred(w, c.opt(3), 0)), nil)
	return one(store(c, onnx.Int32, y.shape, load[float64](y)))
}

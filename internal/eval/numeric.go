package eval

import (
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// numericOperators compute powers, remainders, bits, bounds, and what takes any
// number of operands.
func numericOperators() []operator {
	return []operator{
		{"Pow", 7, latest, "", pow},
		{"Mod", 10, latest, "fmod", mod},
		{"Max", 6, latest, "", folded(binary2{greatest[float32], greatest[float64], greatest[int64], greatest[uint64]})},
		{"Min", 6, latest, "", folded(binary2{least[float32], least[float64], least[int64], least[uint64]})},
		{"Sum", 6, latest, "", averaged(false)},
		{"Mean", 6, latest, "", averaged(true)},
		{"Clip", 6, 10, "max min", clipAttrs},
		{"Clip", 11, latest, "", clip},
		{"IsInf", 10, latest, "detect_negative detect_positive", isInf},
		{"BitwiseAnd", 18, latest, "", bits(func(a, b uint64) uint64 { return a & b })},
		{"BitwiseOr", 18, latest, "", bits(func(a, b uint64) uint64 { return a | b })},
		{"BitwiseXor", 18, latest, "", bits(func(a, b uint64) uint64 { return a ^ b })},
		{"BitwiseNot", 18, latest, "", bitwiseNot},
		{"BitShift", 11, latest, "direction", bitShift},
	}
}

func greatest[T number](a, b T) T { return max(a, b) }
func least[T number](a, b T) T    { return min(a, b) }

// floats2 computes f in float64 over two operands, broadcast, into type dt.
func (c *call) floats2(dt onnx.DType, a, b *array, f func(x, y float64) float64) *array {
	shape := c.broadcastShape(a.shape, b.shape)
	c.count(dt, shape)
	return store(c, dt, shape, zip2(shape, load[float64](a), a.shape, load[float64](b), b.shape, f))
}

// pow raises to powers. Integers raised to something else than small powers of
// integers are computed in float64 where that is exact.
func pow(c *call) []*array {
	x, y := c.input(0), c.input(1)
	if x.dt.IsFloat() && kindOf(y) != kindNone {
		return one(c.floats2(x.dt, x, y, math.Pow))
	}
	if kindOf(x) != kindI64 || x.dt == onnx.Bool || kindOf(y) == kindNone {
		c.unsupported("%v raised to %v", x.dt, y.dt)
	}
	return one(c.floats2(x.dt, x, y, func(a, b float64) float64 {
		p := math.Pow(a, b)
		if p != math.Trunc(p) || math.Abs(p) >= exactInts {
			c.unsupported("%v raised to %v, which is not an exact integer", a, b)
		}
		return p
	}))
}

// mod gives the remainder with the sign of the divisor, with fmod that of the dividend.
func mod(c *call) []*array {
	x, y := c.input(0), c.input(1)
	fmod := c.int("fmod", 0) != 0
	if x.dt.IsFloat() {
		if !fmod {
			c.fail("%v elements need the attribute \"fmod\"", x.dt)
		}
		return one(binary2{f32: mod32, f64: math.Mod}.apply(c, x, y))
	}
	signed := func(a, b int64) int64 {
		if b == 0 {
			c.fail("division of integers by zero")
		}
		r := a % b
		if !fmod && r != 0 && (r < 0) != (b < 0) {
			r += b
		}
		return r
	}
	unsigned := func(a, b uint64) uint64 {
		if b == 0 {
			c.fail("division of integers by zero")
		}
		return a % b
	}
	return one(binary2{i64: signed, u64: unsigned}.apply(c, x, y))
}

func mod32(a, b float32) float32 { return float32(math.Mod(float64(a), float64(b))) }

// operands returns all inputs, which have one shape before opset 8.
func (c *call) operands() []*array {
	first := c.input(0)
	for i := range c.in {
		if a := c.input(i); c.version < 8 && !slices.Equal(a.shape, first.shape) {
			c.fail("shapes %v and %v", first.shape, a.shape)
		}
	}
	return c.in
}

// folded computes b over all operands from the left.
func folded(b binary2) func(*call) []*array {
	return func(c *call) []*array {
		list := c.operands()
		acc := list[0]
		for _, a := range list[1:] {
			acc = b.apply(c, acc, a)
		}
		return one(acc)
	}
}

// averaged sums all operands in float64, and divides by their number if mean.
func averaged(mean bool) func(*call) []*array {
	return func(c *call) []*array {
		first := c.input(0)
		list := c.operands()
		c.sameFloats(first, list...)
		shapes := make([][]int64, len(list))
		for i, a := range list {
			shapes[i] = a.shape
		}
		shape := c.broadcastShape(shapes...)
		out := make([]float64, c.count(first.dt, shape))
		for _, a := range list {
			for i, x := range c.stretch(a, shape) {
				out[i] += x
			}
		}
		if mean {
			for i := range out {
				out[i] /= float64(len(list))
			}
		}
		return one(store(c, first.dt, shape, out))
	}
}

// clipAttrs is Clip before opset 11, whose bounds are attributes.
func clipAttrs(c *call) []*array {
	lo, hi := c.float("min", -math.MaxFloat32), c.float("max", math.MaxFloat32)
	return one(c.mapFloats(c.input(0), func(x float64) float64 { return min(max(x, lo), hi) }))
}

func clip(c *call) []*array {
	out := c.input(0)
	for i, b := range []binary2{
		{greatest[float32], greatest[float64], greatest[int64], greatest[uint64]},
		{least[float32], least[float64], least[int64], least[uint64]},
	} {
		bound := c.opt(i + 1)
		if bound == nil {
			continue
		}
		if bound.len() != 1 {
			c.fail("input %d: want a scalar, have shape %v", i+1, bound.shape)
		}
		out = b.apply(c, out, bound.reshaped(nil))
	}
	return one(out)
}

func isInf(c *call) []*array {
	a := c.input(0)
	if !a.dt.IsFloat() {
		c.unsupported("element type %v", a.dt)
	}
	neg, pos := c.int("detect_negative", 1) != 0, c.int("detect_positive", 1) != 0
	return one(predicate(c, a, func(x float64) bool { return pos && math.IsInf(x, 1) || neg && math.IsInf(x, -1) }))
}

// bits computes f on the bits of integers.
func bits(f func(a, b uint64) uint64) func(*call) []*array {
	return func(c *call) []*array {
		signed := func(a, b int64) int64 { return int64(f(uint64(a), uint64(b))) }
		return one(binary2{i64: signed, u64: f}.apply(c, c.input(0), c.input(1)))
	}
}

func bitwiseNot(c *call) []*array {
	a := c.input(0)
	if !a.dt.IsInt() {
		c.unsupported("element type %v", a.dt)
	}
	c.count(a.dt, a.shape)
	if kindOf(a) == kindU64 {
		v := load[uint64](a)
		out := make([]uint64, len(v))
		for i, x := range v {
			out[i] = ^x
		}
		return one(store(c, a.dt, a.shape, out))
	}
	v := load[int64](a)
	out := make([]int64, len(v))
	for i, x := range v {
		out[i] = ^x
	}
	return one(store(c, a.dt, a.shape, out))
}

// bitShift moves the bits of unsigned integers.
func bitShift(c *call) []*array {
	x := c.input(0)
	if x.dt.IsSigned() || !x.dt.IsInt() {
		c.unsupported("element type %v", x.dt)
	}
	var f func(a, b uint64) uint64
	switch d := c.str("direction", ""); d {
	case "LEFT":
		f = func(a, b uint64) uint64 { return a << b }
	case "RIGHT":
		f = func(a, b uint64) uint64 { return a >> b }
	default:
		c.fail("attribute \"direction\" is %q", d)
	}
	signed := func(a, b int64) int64 { return int64(f(uint64(a), uint64(b))) }
	return one(binary2{i64: signed, u64: f}.apply(c, x, c.input(1)))
}

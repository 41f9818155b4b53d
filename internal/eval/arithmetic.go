package eval

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// arithmeticOperators compute two numbers into one of the same type.
func arithmeticOperators() []operator {
	var out []operator
	for name, b := range map[string]binary2{
		"Add": {add[float32], add[float64], add[int64], add[uint64]},
		"Sub": {sub[float32], sub[float64], sub[int64], sub[uint64]},
		"Mul": {mul[float32], mul[float64], mul[int64], mul[uint64]},
	} {
		out = append(out, operator{name, 7, latest, "", func(c *call) []*array { return one(b.apply(c, c.input(0), c.input(1))) }},
			operator{name, 1, 6, "axis broadcast consumed_inputs", func(c *call) []*array { return one(b.apply(c, c.input(0), c.aligned())) }})
	}
	return append(out, operator{"Div", 7, latest, "", func(c *call) []*array { return divide(c, c.input(1)) }},
		operator{"Div", 1, 6, "axis broadcast consumed_inputs", func(c *call) []*array { return divide(c, c.aligned()) }})
}

// aligned returns input 1 as operators before opset 7 broadcast it: its axes are
// some of input 0 from an axis on, or the last ones.
func (c *call) aligned() *array {
	x, y := c.input(0), c.input(1)
	if c.int("broadcast", 0) == 0 {
		if !slices.Equal(x.shape, y.shape) {
			c.fail("shapes %v and %v without the attribute \"broadcast\"", x.shape, y.shape)
		}
		return y
	}
	if y.rank() > x.rank() {
		c.fail("shape %v does not broadcast to %v", y.shape, x.shape)
	}
	axis := int64(x.rank() - y.rank())
	if c.has("axis") {
		axis = int64(c.axis(c.int("axis", 0), max(x.rank(), 1)))
	}
	behind := int64(x.rank()-y.rank()) - axis
	if behind < 0 {
		c.fail("shape %v from axis %d on does not broadcast to %v", y.shape, axis, x.shape)
	}
	return y.reshaped(slices.Concat(y.shape, slices.Repeat([]int64{1}, int(behind))))
}

// binary2 is an operation on two numbers in each type that computes; nil where
// it has no meaning.
type binary2 struct {
	f32 func(a, b float32) float32
	f64 func(a, b float64) float64
	i64 func(a, b int64) int64
	u64 func(a, b uint64) uint64
}

func add[T number](a, b T) T { return a + b }
func sub[T number](a, b T) T { return a - b }
func mul[T number](a, b T) T { return a * b }
func div[T number](a, b T) T { return a / b }

// apply computes b over two arrays of one number type, broadcast.
func (b binary2) apply(c *call, x, y *array) *array {
	if x.dt != y.dt {
		c.fail("operands are %v and %v", x.dt, y.dt)
	}
	if x.dt == onnx.Bool {
		c.fail("operands are bool")
	}
	shape := c.broadcastShape(x.shape, y.shape)
	c.count(x.dt, shape)
	switch k := kindOf(x); {
	case k == kindF32 && b.f32 != nil:
		return store(c, x.dt, shape, zip2(shape, load[float32](x), x.shape, load[float32](y), y.shape, b.f32))
	case k == kindF64 && b.f64 != nil:
		return store(c, x.dt, shape, zip2(shape, load[float64](x), x.shape, load[float64](y), y.shape, b.f64))
	case k == kindI64 && b.i64 != nil:
		return store(c, x.dt, shape, zip2(shape, load[int64](x), x.shape, load[int64](y), y.shape, b.i64))
	case k == kindU64 && b.u64 != nil:
		return store(c, x.dt, shape, zip2(shape, load[uint64](x), x.shape, load[uint64](y), y.shape, b.u64))
	}
	c.unsupported("element type %v", x.dt)
	return nil
}

// divide truncates integers toward zero; dividing one by 0 is an error.
func divide(c *call, y *array) []*array {
	x := c.input(0)
	if !y.dt.IsFloat() {
		for _, d := range load[int64](y) {
			if d == 0 {
				c.fail("division of integers by zero")
			}
		}
	}
	return one(binary2{div[float32], div[float64], div[int64], div[uint64]}.apply(c, x, y))
}

package eval

import (
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// castOperators convert between element types.
func castOperators() []operator {
	return []operator{
		{"Cast", 6, latest, "to saturate", cast},
		{"CastLike", 15, latest, "saturate", castLike},
	}
}

func cast(c *call) []*array {
	if !c.has("to") {
		c.fail("attribute \"to\" is missing")
	}
	return one(c.castTo(c.input(0), onnx.DType(c.int("to", 0))))
}

func castLike(c *call) []*array { return one(c.castTo(c.input(0), c.input(1).dt)) }

// castTo converts a as Cast does.
func (c *call) castTo(a *array, to onnx.DType) *array {
	if !to.Valid() {
		c.fail("there is no element type %d", to)
	}
	if a.dt == to {
		return a
	}
	c.count(to, a.shape)
	if a.dt == onnx.String || to == onnx.String || kindOf(a) == kindNone || to == onnx.Complex64 || to == onnx.Complex128 {
		c.unsupported("conversion of %v to %v", a.dt, to)
	}
	if c.int("saturate", 1) == 0 && isFloat8(to) {
		c.unsupported("conversion to %v without saturation", to)
	}
	switch kindOf(a) {
	case kindF32, kindF64:
		v := load[float64](a)
		if to.IsInt() {
			return c.truncated(v, to, a.shape)
		}
		return c.rounded(store(c, to, a.shape, v))
	case kindU64:
		return c.rounded(store(c, to, a.shape, load[uint64](a)))
	}
	return c.rounded(store(c, to, a.shape, load[int64](a)))
}

func isFloat8(dt onnx.DType) bool {
	switch dt {
	case onnx.Float8E4M3FN, onnx.Float8E4M3FNUZ, onnx.Float8E5M2, onnx.Float8E5M2FNUZ, onnx.Float8E8M0:
		return true
	}
	return false
}

// rounded rounds the elements of a float array to its own type, which matters
// only where floats are kept wide.
func (c *call) rounded(a *array) *array {
	if a.wide == nil || a.dt == onnx.Double {
		return a
	}
	narrow := &array{dt: a.dt, shape: a.shape, raw: storeFloats(a.dt, a.wide)}
	return &array{dt: a.dt, shape: a.shape, wide: load[float64](narrow)}
}

// truncated converts floats to integers toward zero. What does not fit has no
// defined result in ONNX and is refused.
func (c *call) truncated(v []float64, to onnx.DType, shape []int64) *array {
	lo, hi := -math.Ldexp(1, to.Bits()-1), math.Ldexp(1, to.Bits()-1)
	if !to.IsSigned() {
		lo, hi = 0, math.Ldexp(1, to.Bits())
	}
	for _, x := range v {
		if t := math.Trunc(x); !(t >= lo && t < hi) {
			c.unsupported("conversion of %v to %v, which runtimes do differently", x, to)
		}
	}
	if to == onnx.Uint64 {
		return store(c, to, shape, convert[uint64](v))
	}
	return store(c, to, shape, convert[int64](v))
}

package eval

import (
	"cmp"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// relationOperators compare, combine truth values, and choose.
func relationOperators() []operator {
	rel := func(name string, from int64, r relation) operator {
		return operator{name, from, latest, "", func(c *call) []*array { return one(r.apply(c, c.input(0), c.input(1))) }}
	}
	logic := func(name string, f func(a, b int64) bool) operator {
		return operator{name, 7, latest, "", func(c *call) []*array {
			a, b := c.input(0), c.input(1)
			if a.dt != onnx.Bool || b.dt != onnx.Bool {
				c.fail("want bool operands, have %v and %v", a.dt, b.dt)
			}
			return one(truth(c, a, b, f))
		}}
	}
	return []operator{
		rel("Equal", 7, relation{eq[float64], eq[int64], eq[uint64]}),
		rel("Less", 7, relation{less[float64], less[int64], less[uint64]}),
		rel("Greater", 7, relation{greater[float64], greater[int64], greater[uint64]}),
		rel("LessOrEqual", 12, relation{lessEq[float64], lessEq[int64], lessEq[uint64]}),
		rel("GreaterOrEqual", 12, relation{greaterEq[float64], greaterEq[int64], greaterEq[uint64]}),
		logic("And", func(a, b int64) bool { return a != 0 && b != 0 }),
		logic("Or", func(a, b int64) bool { return a != 0 || b != 0 }),
		logic("Xor", func(a, b int64) bool { return (a != 0) != (b != 0) }),
		{"Where", 9, latest, "", where},
	}
}

func eq[T cmp.Ordered](a, b T) bool        { return a == b }
func less[T cmp.Ordered](a, b T) bool      { return a < b }
func greater[T cmp.Ordered](a, b T) bool   { return a > b }
func lessEq[T cmp.Ordered](a, b T) bool    { return a <= b }
func greaterEq[T cmp.Ordered](a, b T) bool { return a >= b }

// relation is a comparison in each type that numbers are compared in.
type relation struct {
	f64 func(a, b float64) bool
	i64 func(a, b int64) bool
	u64 func(a, b uint64) bool
}

func (r relation) apply(c *call, a, b *array) *array {
	if a.dt != b.dt {
		c.fail("operands are %v and %v", a.dt, b.dt)
	}
	switch kindOf(a) {
	case kindF32, kindF64:
		return truth(c, a, b, r.f64)
	case kindI64:
		return truth(c, a, b, r.i64)
	case kindU64:
		return truth(c, a, b, r.u64)
	}
	c.unsupported("element type %v", a.dt)
	return nil
}

// truth makes the Bool array of f over two operands, broadcast.
func truth[T number](c *call, a, b *array, f func(x, y T) bool) *array {
	shape := c.broadcastShape(a.shape, b.shape)
	c.count(onnx.Bool, shape)
	return store(c, onnx.Bool, shape, zip2(shape, load[T](a), a.shape, load[T](b), b.shape, func(x, y T) int64 {
		if f(x, y) {
			return 1
		}
		return 0
	}))
}

func where(c *call) []*array {
	cond, x, y := c.input(0), c.input(1), c.input(2)
	if cond.dt != onnx.Bool || x.dt != y.dt {
		c.fail("want a bool condition and equal types, have %v, %v and %v", cond.dt, x.dt, y.dt)
	}
	shape := c.broadcastShape(cond.shape, x.shape, y.shape)
	chosen := load[int64](c.expandTo(cond, shape))
	x, y = c.expandTo(x, shape), c.expandTo(y, shape)
	out := c.blank(x, shape)
	for i, b := range chosen {
		from := y
		if b != 0 {
			from = x
		}
		copyElems(out, i, from, i, 1)
	}
	return one(out)
}

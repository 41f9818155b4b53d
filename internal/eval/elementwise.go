package eval

import (
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// elementwiseOperators compute each element by itself.
func elementwiseOperators() []operator {
	unary := func(name string, from int64, f func(float64) float64) operator {
		return operator{name, from, latest, "", func(c *call) []*array { return one(c.mapFloats(c.input(0), f)) }}
	}
	return []operator{
		unary("Sqrt", 6, math.Sqrt), unary("Exp", 6, math.Exp), unary("Log", 6, math.Log), unary("Erf", 9, math.Erf),
		unary("Tanh", 6, math.Tanh), unary("Sin", 7, math.Sin), unary("Cos", 7, math.Cos), unary("Tan", 7, math.Tan),
		unary("Asin", 7, math.Asin), unary("Acos", 7, math.Acos), unary("Atan", 7, math.Atan), unary("Sinh", 9, math.Sinh),
		unary("Cosh", 9, math.Cosh), unary("Asinh", 9, math.Asinh), unary("Acosh", 9, math.Acosh), unary("Atanh", 9, math.Atanh),
		unary("Reciprocal", 6, func(x float64) float64 { return 1 / x }),
		unary("Floor", 6, math.Floor), unary("Ceil", 6, math.Ceil), unary("Round", 11, math.RoundToEven),
		{"Neg", 6, latest, "", func(c *call) []*array {
			return one(c.mapNumbers(c.input(0), func(x float64) float64 { return -x }, neg))
		}},
		{"Abs", 6, latest, "", func(c *call) []*array { return one(c.mapNumbers(c.input(0), math.Abs, abs)) }},
		{"Sign", 9, latest, "", func(c *call) []*array { return one(c.mapNumbers(c.input(0), sign, signInt)) }},
		{"Not", 1, latest, "", not},
		{"IsNaN", 9, latest, "", isNaN},
	}
}

func neg(x int64) int64 { return -x }

func abs(x int64) int64 { return max(x, -x) }

func sign(x float64) float64 {
	switch {
	case x > 0:
		return 1
	case x < 0:
		return -1
	}
	return x
}

func signInt(x int64) int64 {
	switch {
	case x > 0:
		return 1
	case x < 0:
		return -1
	}
	return 0
}

// mapFloats computes f in float64 and rounds once to the type of a, which must
// be a floating-point type.
func (c *call) mapFloats(a *array, f func(float64) float64) *array {
	if !a.dt.IsFloat() {
		c.unsupported("element type %v", a.dt)
	}
	c.count(a.dt, a.shape)
	v := load[float64](a)
	out := make([]float64, len(v))
	for i, x := range v {
		out[i] = f(x)
	}
	return store(c, a.dt, a.shape, out)
}

// mapNumbers computes f on floats and g on signed integers; unsigned ones are
// refused where g could be negative.
func (c *call) mapNumbers(a *array, f func(float64) float64, g func(int64) int64) *array {
	if a.dt.IsFloat() {
		return c.mapFloats(a, f)
	}
	if kindOf(a) != kindI64 || a.dt == onnx.Bool {
		c.unsupported("element type %v", a.dt)
	}
	c.count(a.dt, a.shape)
	v := load[int64](a)
	out := make([]int64, len(v))
	for i, x := range v {
		out[i] = g(x)
	}
	return store(c, a.dt, a.shape, out)
}

// predicate makes a Bool array of f over the elements of a.
func predicate[T number](c *call, a *array, f func(T) bool) *array {
	c.count(onnx.Bool, a.shape)
	v := load[T](a)
	out := make([]int64, len(v))
	for i, x := range v {
		if f(x) {
			out[i] = 1
		}
	}
	return store(c, onnx.Bool, a.shape, out)
}

func not(c *call) []*array {
	a := c.input(0)
	if a.dt != onnx.Bool {
		c.fail("want bool elements, have %v", a.dt)
	}
	return one(predicate(c, a, func(x int64) bool { return x == 0 }))
}

func isNaN(c *call) []*array {
	a := c.input(0)
	if !a.dt.IsFloat() {
		c.unsupported("element type %v", a.dt)
	}
	return one(predicate(c, a, func(x float64) bool { return x != x }))
}

package eval

import (
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// fillOperators make content from few numbers.
func fillOperators() []operator {
	return []operator{
		{"Constant", 1, latest, "value value_float value_floats value_int value_ints value_string value_strings", constant},
		{"Expand", 8, latest, "", expand},
		{"ConstantOfShape", 9, latest, "value", constantOfShape},
		{"Range", 11, latest, "stash_type", rangeOf},
	}
}

// given returns the constant that the caller of a function gives to a Constant in
// it; nil where it gives none.
func (c *call) given() *onnx.Tensor {
	for _, name := range []string{"value", "value_float", "value_floats", "value_int", "value_ints"} {
		a := c.attr(name)
		if a == nil {
			continue
		}
		switch a.Type {
		case onnx.AttrTensor:
			return a.T
		case onnx.AttrFloat:
			return onnx.FromFloats("", []int64{}, []float32{a.F})
		case onnx.AttrFloats:
			return onnx.FromFloats("", []int64{int64(len(a.Floats))}, a.Floats)
		case onnx.AttrInt:
			return onnx.FromInts("", []int64{}, []int64{a.I})
		case onnx.AttrInts:
			return onnx.FromInts("", []int64{int64(len(a.Ints))}, a.Ints)
		}
	}
	return nil
}

// constant gives what the node holds.
func constant(c *call) []*array {
	v := c.n.Output(0)
	if v == nil {
		c.fail("it has no output")
	}
	t := v.Constant()
	if t == nil {
		t = c.given()
	}
	if t == nil {
		c.unsupported("the constant refers to an attribute of a function, or is malformed")
	}
	a, err := fromTensor(t, c.r.wide)
	if err != nil {
		c.fail("%v", err)
	}
	return one(a)
}

func expand(c *call) []*array {
	a := c.input(0)
	return one(c.expandTo(a, c.broadcastShape(a.shape, c.intInput(1))))
}

func constantOfShape(c *call) []*array {
	shape := c.intInput(0)
	for _, d := range shape {
		if d < 0 {
			c.fail("shape %v has a negative size", shape)
		}
	}
	value := store(c, onnx.Float, []int64{1}, []float32{0})
	if a := c.typed("value", onnx.AttrTensor); a != nil {
		var err error
		if value, err = fromTensor(a.T, c.r.wide); err != nil {
			c.fail("attribute \"value\": %v", err)
		}
		if value.len() != 1 {
			c.fail("attribute \"value\" has %d elements, want 1", value.len())
		}
	}
	return one(c.expandTo(value.reshaped([]int64{}), shape))
}

// rangeOf counts from start to limit, exclusive, in steps of delta.
func rangeOf(c *call) []*array {
	start, limit, delta := c.input(0), c.input(1), c.input(2)
	if start.len() != 1 || limit.len() != 1 || delta.len() != 1 || start.dt != limit.dt || start.dt != delta.dt {
		c.fail("want three scalars of one type")
	}
	if kindOf(start) == kindI64 {
		return one(rangeInts(c, start.dt, load[int64](start)[0], load[int64](limit)[0], load[int64](delta)[0]))
	}
	if start.dt != onnx.Float && start.dt != onnx.Double {
		c.unsupported("element type %v", start.dt)
	}
	a, b, d := load[float64](start)[0], load[float64](limit)[0], load[float64](delta)[0]
	n := math.Ceil((b - a) / d)
	if !(n < 1<<40) || d == 0 {
		c.fail("it counts from %v to %v by %v", a, b, d)
	}
	n = max(n, 0)
	c.count(start.dt, []int64{int64(n)})
	out := make([]float64, int(n))
	for i := range out {
		out[i] = a + float64(i)*d
	}
	return one(store(c, start.dt, []int64{int64(n)}, out))
}

func rangeInts(c *call, dt onnx.DType, a, b, d int64) *array {
	if d == 0 {
		c.fail("the step is 0")
	}
	n := int64(0)
	if d > 0 && b > a {
		n = (b-a-1)/d + 1
	} else if d < 0 && b < a {
		n = (a-b-1)/-d + 1
	}
	c.count(dt, []int64{n})
	out := make([]int64, n)
	for i := range out {
		out[i] = a + int64(i)*d
	}
	return store(c, dt, []int64{n}, out)
}

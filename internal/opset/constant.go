package opset

import (
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// constantRows are the operators that make tensors and read shapes.
func constantRows() []row {
	return []row{
		{"Constant", "1 9 11 12 13 19 21 23 24 25", "", "output", "value:tensor!@..10 sparse_value:sparse_tensor@11 value:tensor@11 " +
			"value_float:float@12 value_floats:floats@12 value_int:int@12 value_ints:ints@12 value_string:string@12 value_strings:strings@12", 0, inferConstant, nil},
		{"ConstantOfShape", "9 20 21 23 24 25", "input", "output", "value:tensor", 0, inferConstantOfShape, nil},
		{"Shape", "1 13 15 19 21 23 24 25", "data", "shape", "end:int@15 start:int=0@15", 0, inferShape, nil},
		{"Size", "1 13 19 21 23 24 25", "data", "size", "", 0, inferSize, nil},
		{"Range", "11 27", "start limit delta", "output", "stash_type:int=1@27", 0, inferRange, nil},
		{"EyeLike", "9 22", "input", "output", "dtype:int k:int=0", 0, inferLike, nil},
	}
}

func inferConstant(c *call) {
	if len(c.out) == 0 {
		return
	}
	scalar, list := onnx.Shape{}, func(n int) onnx.Shape { return onnx.ShapeOf(int64(n)) }
	for _, a := range c.n.Attrs {
		if a = c.attr(a.Name); a == nil {
			continue
		}
		switch {
		case a.Name == "value" && a.T != nil:
			c.out[0] = fact{typ: a.T.Type(), ints: constInts(a.T), real: constFloats(a.T)}
		case a.Name == "sparse_value" && a.Sparse != nil && a.Sparse.Values != nil:
			c.set(0, a.Sparse.Values.DType, onnx.ShapeOf(a.Sparse.Dims...))
		case a.Name == "value_int":
			c.out[0] = fact{typ: onnx.TensorType(onnx.Int64, scalar), ints: []*expr{constant(a.I)}}
		case a.Name == "value_ints":
			c.set(0, onnx.Int64, list(len(a.Ints)))
			c.setInts(0, constants(a.Ints))
		case a.Name == "value_float":
			c.out[0] = fact{typ: onnx.TensorType(onnx.Float, scalar), real: []float64{float64(a.F)}}
		case a.Name == "value_floats":
			c.set(0, onnx.Float, list(len(a.Floats)))
			out := make([]float64, len(a.Floats))
			for i, x := range a.Floats {
				out[i] = float64(x)
			}
			c.setFloats(0, out)
		case a.Name == "value_string":
			c.set(0, onnx.String, scalar)
		case a.Name == "value_strings":
			c.set(0, onnx.String, list(len(a.Strings)))
		}
	}
}

func constants(n []int64) []*expr {
	out := make([]*expr, len(n))
	for i, x := range n {
		out[i] = constant(x)
	}
	return out
}

func inferConstantOfShape(c *call) {
	elem := onnx.Float
	var fill []*expr
	var real []float64
	if a := c.attr("value"); a != nil && a.T != nil {
		elem, fill, real = a.T.DType, constInts(a.T), constFloats(a.T)
	} else {
		real = []float64{0}
	}
	s := c.shapeFrom(0)
	c.set(0, elem, s)
	dims, ok := s.Static()
	if !ok {
		return
	}
	n, ok := onnx.ElementCount(dims)
	if !ok || n > maxElems {
		return
	}
	if len(fill) == 1 {
		out := make([]*expr, n)
		for i := range out {
			out[i] = fill[0]
		}
		c.setInts(0, out)
	}
	if len(real) == 1 {
		out := make([]float64, n)
		for i := range out {
			out[i] = real[0]
		}
		c.setFloats(0, out)
	}
}

func inferShape(c *call) {
	s := c.shape(0)
	if s == nil {
		c.set(0, onnx.Int64, unknownShape(1))
		return
	}
	rank := int64(len(s))
	clamp := func(x int64) int64 {
		if x < 0 {
			x += rank
		}
		return min(max(x, 0), rank)
	}
	start, end := int64(0), rank
	if c.ver() >= 15 {
		start = clamp(c.int("start"))
		if e, ok := c.maybeInt("end"); ok {
			end = clamp(e)
		}
	}
	s = s[start:max(start, end)]
	c.set(0, onnx.Int64, onnx.ShapeOf(int64(len(s))))
	c.setInts(0, c.exprs(s))
}

func inferSize(c *call) {
	c.set(0, onnx.Int64, onnx.Shape{})
	if s := c.shape(0); s != nil {
		c.setInts(0, []*expr{c.product(s)})
	}
}

func inferRange(c *call) {
	elem := c.elem(0)
	if elem == onnx.Undefined {
		elem = c.elem(1)
	}
	c.set(0, elem, unknownShape(1))
	start, limit, delta := c.ints(0), c.ints(1), c.ints(2)
	if elem.IsFloat() {
		a, b, d := c.floats(0), c.floats(1), c.floats(2)
		if len(a) == 1 && len(b) == 1 && len(d) == 1 && d[0] != 0 {
			if n := math.Ceil((b[0] - a[0]) / d[0]); math.Abs(n) < 1<<31 {
				c.set(0, elem, onnx.ShapeOf(int64(max(n, 0))))
			}
		}
		return
	}
	if len(start) != 1 || len(limit) != 1 || len(delta) != 1 {
		return
	}
	step, ok := delta[0].known()
	if !ok || step == 0 || step == math.MinInt64 {
		return
	}
	span := sub(limit[0], start[0])
	if step < 0 {
		span, step = neg(span), -step
	}
	n := maximum(constant(0), neg(floorDiv(neg(span), constant(step))))
	c.set(0, elem, onnx.Shape{c.asDim(n)})
	if k, ok := n.known(); ok && k <= maxElems {
		out := make([]*expr, k)
		for i := range out {
			out[i] = add(start[0], mul(delta[0], constant(int64(i))))
		}
		c.setInts(0, out)
	}
}

// inferLike gives the first input's shape, with the element type of attribute
// dtype where there is one.
func inferLike(c *call) {
	elem := c.elem(0)
	if d, ok := c.maybeInt("dtype"); ok {
		elem = dtypeOf(d)
	}
	c.set(0, elem, c.shape(0))
}

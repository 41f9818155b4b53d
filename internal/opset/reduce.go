package opset

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// reduceRows are the reductions and the operators that normalise along an axis.
func reduceRows() []row {
	const in18, attrs18 = "data|18:data axes?", "axes:ints@..17 keepdims:int=1 noop_with_empty_axes:int=0@18"
	const arg = "axis:int=0 keepdims:int=1 select_last_index:int=0@12"
	one, two := perInput(1), perInput(2)
	return []row{
		{"ReduceL1", "1 11 13 18", in18, "reduced", attrs18, 0, reduce(nil), two},
		{"ReduceL2", "1 11 13 18", in18, "reduced", attrs18, 0, reduce(nil), two},
		{"ReduceLogSum", "1 11 13 18", in18, "reduced", attrs18, 0, reduce(nil), one},
		{"ReduceLogSumExp", "1 11 13 18", in18, "reduced", attrs18, 0, reduce(nil), two},
		{"ReduceMax", "1 11 12 13 18 20", in18, "reduced", attrs18, 0, reduce(maximum), one},
		{"ReduceMean", "1 11 13 18", in18, "reduced", attrs18, 0, reduce(nil), one},
		{"ReduceMin", "1 11 12 13 18 20", in18, "reduced", attrs18, 0, reduce(minimum), one},
		{"ReduceProd", "1 11 13 18", in18, "reduced", attrs18, 0, reduce(mul), one},
		{"ReduceSum", "1 11 13", "data|13:data axes?", "reduced",
			"axes:ints@..12 keepdims:int=1 noop_with_empty_axes:int=0@13", 0, reduce(add), one},
		{"ReduceSumSquare", "1 11 13 18", in18, "reduced", attrs18, 0, reduce(nil), two},
		{"ArgMax", "1 11 12 13", "data", "reduced", arg, 0, inferArg, one},
		{"ArgMin", "1 11 12 13", "data", "reduced", arg, 0, inferArg, one},
		{"Softmax", "1 11 13", "input", "output", "axis:int=1@..12 axis:int=-1@13", 0, sameAsFirst, perOutput(5)},
		{"LogSoftmax", "1 11 13", "input", "output", "axis:int=1@..12 axis:int=-1@13", 0, sameAsFirst, perOutput(5)},
		{"Hardmax", "1 11 13", "input", "output", "axis:int=1@..12 axis:int=-1@13", 0, sameAsFirst, perOutput(1)},
	}
}

// reduce returns the inference of a reduction; f folds the integer content of
// an input that is reduced whole.
func reduce(f func(a, b *expr) *expr) func(*call) {
	return func(c *call) {
		s := c.reducedShape()
		c.set(0, c.elem(0), s)
		in := c.ints(0)
		if dims, ok := s.Static(); f == nil || len(in) == 0 || !ok || len(c.shape(0)) == 0 {
			return
		} else if n, ok := onnx.ElementCount(dims); !ok || n != 1 || len(in) > 1 && s.Equal(c.shape(0)) {
			return
		}
		sum := in[0]
		for _, e := range in[1:] {
			sum = f(sum, e)
		}
		c.setInts(0, c.wrapped(c.elem(0), []*expr{sum}))
	}
}

func (c *call) reducedShape() onnx.Shape {
	s := c.shape(0)
	keep := c.int("keepdims") != 0
	axes, _, ok := c.axes("axes", 1)
	if s == nil {
		return nil
	}
	if !ok {
		if keep {
			return unknownShape(len(s))
		}
		if n, known := c.lengthOf(1); known && n > 0 && n <= len(s) {
			return unknownShape(len(s) - n)
		}
		return nil
	}
	if len(axes) == 0 {
		if c.int("noop_with_empty_axes") != 0 {
			return s
		}
		for i := range s {
			axes = append(axes, int64(i))
		}
	}
	at, ok := axesOf(axes, len(s))
	if !ok {
		return nil
	}
	return without(s, at, keep)
}

// without returns s with the given axes removed, or set to 1 where keep is true.
func without(s onnx.Shape, axes []int, keep bool) onnx.Shape {
	out := onnx.Shape{}
	for i, d := range s {
		if !slices.Contains(axes, i) {
			out = append(out, d)
		} else if keep {
			out = append(out, onnx.Fixed(1))
		}
	}
	return out
}

func inferArg(c *call) {
	s := c.shape(0)
	axis, ok := axisOf(c.int("axis"), len(s))
	if s == nil || !ok {
		c.set(0, onnx.Int64, nil)
		return
	}
	c.set(0, onnx.Int64, without(s, []int{axis}, c.int("keepdims") != 0))
}

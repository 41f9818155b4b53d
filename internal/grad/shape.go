package grad

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// rank returns the number of axes of v.
func (b *builder) rank(v *onnx.Value) int {
	s := b.facts.Shape(v)
	if !s.Ranked() {
		b.fail("the number of axes of %q is not known: export the model with shapes", v.Name())
	}
	return len(s)
}

// axis returns a, which may count from the end, as an axis of a value of that rank.
func (b *builder) axis(a int64, rank int) int {
	if a < 0 {
		a += int64(rank)
	}
	if a < 0 || a >= int64(rank) {
		b.fail("axis %d is outside of rank %d", a, rank)
	}
	return int(a)
}

// shape returns the shape of v: a constant where it is known.
func (b *builder) shape(v *onnx.Value) *onnx.Value {
	s := b.shapes[v]
	if s == nil {
		if dims, ok := b.facts.Shape(v).Static(); ok {
			s = b.ints(dims...)
		} else {
			s = b.op("Shape", v)
		}
		b.shapes[v] = s
	}
	return s
}

// reshapeLike returns g, of as many elements as like, in the shape of like.
func (b *builder) reshapeLike(g, like *onnx.Value) *onnx.Value {
	if b.sameShape(g, like) {
		return g
	}
	return b.opWith("Reshape", attrs{"allowzero": 1}, g, b.shape(like))
}

// reshaped returns x in a shape in which -1 stands for the rest.
func (b *builder) reshaped(x *onnx.Value, dims ...int64) *onnx.Value {
	return b.op("Reshape", x, b.ints(dims...))
}

// expandLike repeats x to the shape of like, with which it broadcasts.
func (b *builder) expandLike(x, like *onnx.Value) *onnx.Value {
	if b.sameShape(x, like) {
		return x
	}
	return b.op("Expand", x, b.shape(like))
}

func (b *builder) sameShape(v, w *onnx.Value) bool { return b.facts.Shape(v).Equal(b.facts.Shape(w)) }

// zeros returns zeros in the shape of like, of type d.
func (b *builder) zeros(like *onnx.Value, d onnx.DType) *onnx.Value {
	return b.op("Expand", b.scalar(d, 0), b.shape(like))
}

// sumTo undoes broadcasting: it adds up g, which has the shape that v was broadcast to, in the shape of v.
func (b *builder) sumTo(g, v *onnx.Value) *onnx.Value {
	from, to := b.facts.Shape(g), b.facts.Shape(v)
	if !from.Ranked() || !to.Ranked() {
		b.fail("the number of axes of %q is not known: export the model with shapes", v.Name())
	}
	lead := len(from) - len(to)
	if lead < 0 {
		b.fail("a gradient of shape %v cannot be added up in shape %v", from, to)
	}
	axes := upTo(lead)
	for i, d := range to {
		switch e := from[lead+i]; {
		case d.Same(e), d.Known() && d.Value != 1:
		case d.Known():
			axes = append(axes, int64(lead+i))
		default:
			return b.sumToAtRun(g, v, lead)
		}
	}
	g = b.reduce("ReduceSum", g, axes, true)
	if lead > 0 {
		g = b.op("Squeeze", g, b.ints(upTo(lead)...))
	}
	return g
}

// sumToAtRun is sumTo where only the run tells which axes were broadcast.
func (b *builder) sumToAtRun(g, v *onnx.Value, lead int) *onnx.Value {
	padded := b.shape(v)
	if lead > 0 {
		padded = b.opWith("Concat", attrs{"axis": 0}, b.ints(slices.Repeat([]int64{1}, lead)...), padded)
	}
	ones := b.op("Equal", padded, b.ints(1))
	axes := b.reshaped(b.op("NonZero", ones), -1)
	sum := b.opWith("ReduceSum", attrs{"keepdims": 1, "noop_with_empty_axes": 1}, g, axes)
	return b.opWith("Reshape", attrs{"allowzero": 1}, sum, b.shape(v))
}

// unreduced gives g, the result of a reduction of x over axes, the rank of x again.
func (b *builder) unreduced(g, x *onnx.Value, axes []int64, kept bool) *onnx.Value {
	if kept || len(axes) == 0 {
		return g
	}
	return b.op("Unsqueeze", g, b.ints(axes...))
}

// alongAxis shapes a vector so that it broadcasts along one axis of a value of that rank; a scalar stays as it is.
func (b *builder) alongAxis(v *onnx.Value, axis, rank int) *onnx.Value {
	if b.rank(v) == 0 || rank <= 1 {
		return v
	}
	dims := slices.Repeat([]int64{1}, rank)
	dims[axis] = -1
	return b.reshaped(v, dims...)
}

// count returns the number of elements of v along axes as a scalar of type d.
func (b *builder) count(v *onnx.Value, axes []int64, d onnx.DType) *onnx.Value {
	shape, n := b.facts.Shape(v), int64(1)
	for _, a := range axes {
		if !shape[a].Known() {
			sizes := b.op("Gather", b.shape(v), b.ints(axes...))
			return b.cast(b.opWith("ReduceProd", attrs{"keepdims": 0}, sizes), d)
		}
		n *= shape[a].Value
	}
	return b.scalar(d, float64(n))
}

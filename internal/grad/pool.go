package grad

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// poolRules are the poolings.
func poolRules() []rule {
	return []rule{
		{name: "MaxPool", integers: passes, do: maxPool},
		{name: "AveragePool", do: averagePool},
		{name: "GlobalAveragePool", do: func(c *call) { c.mean(c.spatial(), true) }},
		{name: "GlobalMaxPool", do: func(c *call) { c.greatest(c.spatial(), true) }},
	}
}

// spatial returns the axes of input 0 behind batch and channels.
func (c *call) spatial() []int64 { return span(2, c.rank(c.x(0))) }

// maxPool sends the gradient to where the operator found the maxima, which its second output tells.
func maxPool(c *call) {
	if c.n.Int("storage_order", 0) != 0 {
		c.fail("no gradient is known for storage_order 1")
	}
	if len(c.dys) > 1 && c.dys[1] != nil {
		c.fail("positions have no gradient")
	}
	x, dy := c.x(0), c.dys[0]
	where := c.n.Output(1)
	switch {
	case !c.elem(x).IsFloat(): // engines have the second output for floats only
		where = c.again([]*onnx.Value{c.castLike(x, dy)}, "grad_max", "grad_argmax")[1]
	case where == nil:
		where = c.n.AddOutput(c.m.Fresh("grad_argmax"))
		c.facts.Infer(c.n)
	}
	c.give(0, c.scattered(x, where, dy))
}

// scattered adds the elements of dy to zeros of the shape of x, each at the position of x, counted row by row, that at tells.
func (b *builder) scattered(x, at, dy *onnx.Value) *onnx.Value {
	narrow := b.elem(dy)
	dy = b.wide(dy)
	flat := b.op("Expand", b.num(dy, 0), b.op("Reshape", b.op("Size", x), b.ints(1)))
	if dims, ok := b.facts.Shape(x).Static(); ok {
		n, _ := onnx.ElementCount(dims)
		flat = b.op("Expand", b.num(dy, 0), b.ints(n))
	}
	sum := b.opWith("ScatterElements", attrs{"axis": 0, "reduction": "add"}, flat, b.reshaped(at, -1), b.reshaped(dy, -1))
	return b.reshapeLike(b.cast(sum, narrow), x)
}

// wide returns v in float32 where it is narrower: ONNX Runtime adds up scattered elements in no narrower type, and a sum of many
// should not be either.
func (b *builder) wide(v *onnx.Value) *onnx.Value {
	if d := b.elem(v); d.IsFloat() && d.Bits() < 32 {
		return b.cast(v, onnx.Float)
	}
	return v
}

// averagePool spreads each element of the gradient evenly over the elements that its window averaged.
func averagePool(c *call) {
	x, dy := c.x(0), c.dy()
	rank := c.rank(x)
	win := c.windows(c.n.Ints("kernel_shape", nil), x, dy)
	spatial := c.sizesOf(dy, 2, rank)
	ones := c.box(win.kernel, dy)
	planes := c.op("Reshape", dy, c.value(c.joined(fixed(-1, 1), spatial)))
	planes = c.div(planes, c.averaged(win, ones))
	c.give(0, c.reshapeLike(c.spread(planes, ones, win, 1), x))
}

// box returns weights [1, 1, kernel…] that are all 1.
func (b *builder) box(kernel []int64, like *onnx.Value) *onnx.Value {
	return b.op("Expand", b.num(like, 1), b.ints(append([]int64{1, 1}, kernel...)...))
}

// averaged returns by how many elements each window of an AveragePool divides, as [1, 1, out…].
func (c *call) averaged(win windows, ones *onnx.Value) *onnx.Value {
	n := len(win.kernel)
	within, begin := win.in, win.begin
	if c.n.Int("count_include_pad", 0) != 0 {
		within = c.plusSizes(within, begin)
		if auto := c.n.Str("auto_pad", "NOTSET"); auto == "NOTSET" || auto == "" {
			within = c.plusSizes(within, fixed(c.n.Ints("pads", make([]int64, 2*n))[n:]...))
		} else {
			within = c.calc("Max", within, win.extent)
		}
		begin = same(n, 0)
	}
	counted := c.op("Expand", c.num(ones, 1), c.value(c.joined(fixed(1, 1), within)))
	counted = c.padded(counted, begin, c.minusSizes(win.extent, c.plusSizes(within, begin)))
	return c.opWith("Conv", attrs{"strides": win.strides, "dilations": win.dilations}, counted, ones)
}

// mean gives the gradient of a mean over axes.
func (c *call) mean(axes []int64, kept bool) {
	x, dy := c.x(0), c.dy()
	g := c.div(dy, c.count(x, axes, c.elem(dy)))
	c.give(0, c.expandLike(c.unreduced(g, x, axes, kept), x))
}

// greatest gives the gradient of a maximum or minimum over axes: equal elements share it.
func (c *call) greatest(axes []int64, kept bool) {
	x := c.x(0)
	y, dy := c.unreduced(c.y(), x, axes, kept), c.unreduced(c.dy(), x, axes, kept)
	chosen := c.castLike(c.op("Equal", x, y), dy)
	share := c.div(dy, c.reduce("ReduceSum", chosen, axes, true))
	c.give(0, c.mul(chosen, share))
}

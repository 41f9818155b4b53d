package grad

import "github.com/lapidary-ml/lapidary/internal/onnx"

// reduceRules are the reductions over axes.
func reduceRules() []rule {
	return []rule{
		{name: "ReduceSum", do: reduction(func(c *call, x, _, dy *onnx.Value) *onnx.Value { return c.expandLike(dy, x) })},
		{name: "ReduceMean", do: func(c *call) {
			axes, kept := c.reduced()
			c.mean(axes, kept)
		}},
		{name: "ReduceMax", do: extremes},
		{name: "ReduceMin", do: extremes},
		{name: "ReduceL1", do: reduction(func(c *call, x, _, dy *onnx.Value) *onnx.Value { return c.mul(dy, c.op("Sign", x)) })},
		{name: "ReduceL2", do: reduction(func(c *call, x, y, dy *onnx.Value) *onnx.Value {
			some := c.greater(y, 0)
			return c.mul(x, c.where(some, c.div(dy, c.op("Where", some, y, c.num(y, 1))))) // 0 at 0
		})},
		{name: "ReduceSumSquare", do: reduction(func(c *call, x, _, dy *onnx.Value) *onnx.Value { return c.scale(c.mul(dy, x), 2) })},
		{name: "ReduceLogSum", do: reduction(func(c *call, x, y, dy *onnx.Value) *onnx.Value {
			return c.expandLike(c.div(dy, c.op("Exp", y)), x)
		})},
		{name: "ReduceLogSumExp", do: reduction(func(c *call, x, y, dy *onnx.Value) *onnx.Value {
			return c.mul(dy, c.op("Exp", c.sub(x, y)))
		})},
	}
}

// reduction is the rule of a reduction; f gets result and gradient with the reduced axes in place.
func reduction(f func(c *call, x, y, dy *onnx.Value) *onnx.Value) func(*call) {
	return func(c *call) {
		axes, kept := c.reduced()
		x := c.x(0)
		c.give(0, f(c, x, c.unreduced(c.y(), x, axes, kept), c.unreduced(c.dy(), x, axes, kept)))
	}
}

func extremes(c *call) {
	axes, kept := c.reduced()
	c.greatest(axes, kept)
}

// reduced returns the axes that the node reduces, in order, and whether they are kept with size 1.
func (c *call) reduced() (axes []int64, kept bool) {
	rank := c.rank(c.x(0))
	axes = c.sorted(c.constInts(1), rank)
	if len(axes) == 0 {
		if c.n.Int("noop_with_empty_axes", 0) != 0 {
			c.fail("no gradient is known for a reduction over no axes")
		}
		axes = upTo(rank)
	}
	return axes, c.n.Int("keepdims", 1) != 0
}

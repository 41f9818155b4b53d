package grad

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// normRules are the normalizations.
func normRules() []rule {
	return []rule{
		{name: "BatchNormalization", do: batchNorm},
		{name: "InstanceNormalization", do: instanceNorm},
		{name: "LayerNormalization", do: layerNorm},
		{name: "GroupNormalization", do: groupNorm},
		{name: "RMSNormalization", do: func(c *call) { c.rmsNorm(c.int("axis", -1)) }},
		{name: "SimplifiedLayerNormalization", do: func(c *call) { c.rmsNorm(c.int("axis", -1)) }},
		{name: "MeanVarianceNormalization", do: meanVariance},
		{name: "LpNormalization", do: lpNorm},
		{name: "LRN", do: lrn},
	}
}

// normalized returns x̂ = (x - mean)/σ over axes, σ² = var + epsilon, and a function that takes the gradient of x̂ to that of x:
//
//	(g - mean(g) - x̂·mean(g·x̂)) / σ
func (b *builder) normalized(x *onnx.Value, axes []int64, epsilon float64) (*onnx.Value, func(g *onnx.Value) *onnx.Value) {
	mean := func(v *onnx.Value) *onnx.Value { return b.reduce("ReduceMean", v, axes, true) }
	centred := b.sub(x, mean(x))
	sigma := b.op("Sqrt", b.plus(mean(b.square(centred)), epsilon))
	hat := b.div(centred, sigma)
	return hat, func(g *onnx.Value) *onnx.Value {
		return b.div(b.sub(b.sub(g, mean(g)), b.mul(hat, mean(b.mul(g, hat)))), sigma)
	}
}

// scaled is normalized without the mean: x̂ = x/√(mean(x²) + epsilon).
func (b *builder) scaled(x *onnx.Value, axes []int64, epsilon float64) (*onnx.Value, func(g *onnx.Value) *onnx.Value) {
	mean := func(v *onnx.Value) *onnx.Value { return b.reduce("ReduceMean", v, axes, true) }
	rms := b.op("Sqrt", b.plus(mean(b.square(x)), epsilon))
	hat := b.div(x, rms)
	return hat, func(g *onnx.Value) *onnx.Value {
		return b.div(b.sub(g, b.mul(hat, mean(b.mul(g, hat)))), rms)
	}
}

// batchNorm is scale·(x - mean)/√(var + epsilon) + bias with statistics that are given.
func batchNorm(c *call) {
	if c.n.Int("training_mode", 0) != 0 {
		c.fail("no gradient is known in training mode")
	}
	x, dy, rank := c.x(0), c.dy(), c.rank(c.x(0))
	channel := func(i int) *onnx.Value { return c.alongAxis(c.x(i), 1, rank) }
	inv := c.inverse(c.op("Sqrt", c.plus(channel(4), c.float("epsilon", 1e-5))))
	if c.wants(0) {
		c.give(0, c.mul(dy, c.mul(channel(1), inv)))
	}
	hat := c.mul(c.sub(x, channel(3)), inv)
	if c.wants(1) {
		c.give(1, c.perChannel(c.mul(dy, hat)))
	}
	if c.wants(2) {
		c.give(2, c.perChannel(dy))
	}
	if c.wants(3) {
		c.give(3, c.perChannel(c.neg(c.mul(dy, c.mul(channel(1), inv)))))
	}
	if c.wants(4) { // d/dvar (var + epsilon)^-½ is -½·(var + epsilon)^-3/2
		c.give(4, c.perChannel(c.scale(c.mul(dy, c.mul(hat, c.mul(channel(1), c.square(inv)))), -0.5)))
	}
}

func instanceNorm(c *call) {
	x, dy, rank := c.x(0), c.dy(), c.rank(c.x(0))
	hat, back := c.normalized(x, c.spatial(), c.float("epsilon", 1e-5))
	if c.wants(0) {
		c.give(0, back(c.mul(dy, c.alongAxis(c.x(1), 1, rank))))
	}
	if c.wants(1) {
		c.give(1, c.perChannel(c.mul(dy, hat)))
	}
	if c.wants(2) {
		c.give(2, c.perChannel(dy))
	}
}

func layerNorm(c *call) {
	x := c.x(0)
	hat, back := c.normalized(x, span(c.axis(c.int("axis", -1), c.rank(x)), c.rank(x)), c.float("epsilon", 1e-5))
	c.affine(c.dy(), hat, back)
}

// rmsNorm is RMSNormalization and what came before it in ONNX Runtime.
func (c *call) rmsNorm(axis int64) {
	x := c.x(0)
	hat, back := c.scaled(x, span(c.axis(axis, c.rank(x)), c.rank(x)), c.float("epsilon", 1e-5))
	c.affine(c.dy(), hat, back)
}

// affine gives the gradients of scale·x̂ + bias, inputs 1 and 2, and of x, input 0.
func (c *call) affine(dy, hat *onnx.Value, back func(*onnx.Value) *onnx.Value) {
	if c.wants(0) {
		c.give(0, back(c.mul(dy, c.x(1))))
	}
	if c.wants(1) {
		c.giveSum(1, c.mul(dy, hat))
	}
	c.giveSum(2, dy)
}

// groupNorm normalizes groups of channels; before opset 21 scale and bias are per group, from there on per channel.
func groupNorm(c *call) {
	x, dy, rank := c.x(0), c.dy(), c.rank(c.x(0))
	groups := c.n.Int("num_groups", 1)
	apart := func(v *onnx.Value) *onnx.Value { return c.reshaped(v, 0, groups, -1) }
	hat, back := c.normalized(apart(x), []int64{2}, c.float("epsilon", 1e-5))
	g := apart(dy)
	if c.row != nil && c.row.Since < 21 {
		if c.wants(0) {
			c.give(0, c.reshapeLike(back(c.mul(g, c.alongAxis(c.x(1), 1, 3))), x))
		}
		if c.wants(1) {
			c.give(1, c.perChannel(c.mul(g, hat)))
		}
		if c.wants(2) {
			c.give(2, c.perChannel(g))
		}
		return
	}
	if c.wants(0) {
		c.give(0, c.reshapeLike(back(apart(c.mul(dy, c.alongAxis(c.x(1), 1, rank)))), x))
	}
	if c.wants(1) {
		c.give(1, c.perChannel(c.mul(dy, c.reshapeLike(hat, x))))
	}
	if c.wants(2) {
		c.give(2, c.perChannel(dy))
	}
}

// meanVariance is (x - mean)/√(var + 1e-9), as the specification's function has it.
func meanVariance(c *call) {
	_, back := c.normalized(c.x(0), c.n.Ints("axes", []int64{0, 2, 3}), 1e-9)
	c.give(0, back(c.dy()))
}

// lpNorm is x/‖x‖ along an axis, with slope (g - y·⟨g, y⟩)/‖x‖ for the Euclidean norm.
func lpNorm(c *call) {
	if p := c.int("p", 2); p != 2 {
		c.fail("no gradient is known for p = %d", p)
	}
	x, y, dy := c.x(0), c.y(), c.dy()
	axes := []int64{int64(c.axis(c.int("axis", -1), c.rank(x)))}
	norm := c.reduce("ReduceL2", x, axes, true)
	c.give(0, c.div(c.sub(dy, c.mul(y, c.reduce("ReduceSum", c.mul(dy, y), axes, true))), norm))
}

// lrn is x·s^-β with s = bias + α/size·Σx² over size channels around each.
func lrn(c *call) {
	x, dy, size := c.x(0), c.dy(), c.n.Int("size", 1)
	alpha, beta, bias := c.float("alpha", 1e-4), c.float("beta", 0.75), c.float("bias", 1)
	k := alpha / float64(size)
	s := c.plus(c.scale(c.overChannels(c.square(x), size, false), k), bias)
	direct := c.mul(dy, c.op("Pow", s, c.num(s, -beta)))
	shared := c.mul(c.mul(dy, x), c.op("Pow", s, c.num(s, -beta-1)))
	c.give(0, c.sub(direct, c.scale(c.mul(x, c.overChannels(shared, size, true)), 2*beta*k)))
}

// overChannels adds up size neighbouring channels of x, [N, C, …]: ⌊(size-1)/2⌋ before each and the rest behind it, or the
// other way round.
func (b *builder) overChannels(x *onnx.Value, size int64, mirrored bool) *onnx.Value {
	before, behind := (size-1)/2, size-1-(size-1)/2
	if mirrored {
		before, behind = behind, before
	}
	columns := b.op("Reshape", x, b.value(b.joined(b.sizesOf(x, 0, 1), fixed(1), b.sizesOf(x, 1, 2), fixed(-1))))
	sum := b.opWith("Conv", attrs{"pads": []int64{before, 0, behind, 0}}, columns, b.box([]int64{size, 1}, x))
	return b.reshapeLike(sum, x)
}

// sorted returns the axes of a value of that rank, counted from the front and in order.
func (b *builder) sorted(axes []int64, rank int) []int64 {
	out := make([]int64, len(axes))
	for i, a := range axes {
		out[i] = int64(b.axis(a, rank))
	}
	slices.Sort(out)
	return out
}

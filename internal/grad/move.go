package grad

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// moveRules are the operators that leave elements as they are and put them elsewhere.
func moveRules() []rule {
	rules := []rule{
		{name: "Identity", integers: passes, do: func(c *call) { c.give(0, c.dy()) }},
		{name: "Dropout", do: dropout},
		{name: "Cast", integers: passes, do: cast},
		{name: "CastLike", integers: passes, do: func(c *call) { cast(c); c.hold(1) }},
		{name: "Transpose", integers: passes, do: transpose},
		{name: "Expand", integers: passes, do: func(c *call) { c.giveSum(0, c.dy()) }},
		{name: "Concat", integers: passes, do: concat},
		{name: "Split", do: split},
		{name: "Pad", integers: passes, do: pad},
		{name: "DepthToSpace", do: depthToSpace},
		{name: "SpaceToDepth", do: spaceToDepth},
		{name: "CumSum", do: func(c *call) {
			a := attrs{"exclusive": c.n.Int("exclusive", 0), "reverse": 1 - c.n.Int("reverse", 0)}
			c.give(0, c.opWith("CumSum", a, c.dy(), c.x(1)))
		}},
		{name: "Trilu", do: func(c *call) {
			c.give(0, c.node("Trilu", 1, []*onnx.Value{c.dy(), c.n.Input(1)}, attrs{"upper": c.n.Int("upper", 1)})[0])
		}},
	}
	for _, name := range []string{"Reshape", "Flatten", "Squeeze", "Unsqueeze"} {
		rules = append(rules, rule{name: name, integers: passes, do: func(c *call) { c.give(0, c.reshapeLike(c.dy(), c.x(0))) }})
	}
	return rules
}

// dropout does nothing outside of training.
func dropout(c *call) {
	if c.n.Input(2) != nil && slices.Contains(c.constInts(2), 1) {
		c.fail("no gradient is known in training mode")
	}
	c.give(0, c.dy())
}

// cast gives the gradient in the type of the input; that of integers which stand for real numbers is real.
func cast(c *call) {
	g := c.dy()
	if d := c.elem(c.x(0)); d.IsFloat() {
		g = c.cast(g, d)
	}
	c.give(0, g)
}

func transpose(c *call) {
	rank := c.rank(c.x(0))
	perm := upTo(rank)
	slices.Reverse(perm)
	perm = c.n.Ints("perm", perm)
	if len(perm) != rank {
		c.fail("permutation %v does not fit rank %d", perm, rank)
	}
	back := make([]int64, rank)
	for i, p := range perm {
		back[c.axis(p, rank)] = int64(i)
	}
	c.give(0, c.transpose(c.dy(), back...))
}

// concat cuts the gradient into the parts.
func concat(c *call) {
	dy, rank := c.dy(), c.rank(c.y())
	axis := c.axis(c.n.Int("axis", 0), rank)
	parts := make([]sizes, len(c.n.Inputs()))
	for i := range parts {
		if c.rank(c.x(i)) != rank {
			c.fail("its input %d has another rank than its output", i)
		}
		parts[i] = c.sizesOf(c.x(i), axis, axis+1)
	}
	if len(parts) == 1 {
		c.give(0, dy)
		return
	}
	out := c.node("Split", len(parts), []*onnx.Value{dy, c.value(c.joined(parts...))}, attrs{"axis": axis})
	for i, g := range out {
		c.give(i, g)
	}
}

// split puts the gradients of the parts together.
func split(c *call) {
	axis := c.axis(c.n.Int("axis", 0), c.rank(c.x(0)))
	d := c.elem(c.x(0))
	parts := make([]*onnx.Value, len(c.dys))
	for i, g := range c.dys {
		if parts[i] = g; g == nil {
			if c.n.Output(i) == nil {
				c.fail("its output %d is left out", i)
			}
			parts[i] = c.zeros(c.n.Output(i), d)
		}
	}
	c.give(0, c.opWith("Concat", attrs{"axis": axis}, parts...))
}

// pad cuts off what was added, and puts zeros where something was cut off; in modes that repeat elements of the input it adds
// their gradients up.
func pad(c *call) {
	if mode := c.n.Str("mode", "constant"); mode != "constant" {
		c.give(0, c.transported())
		return
	}
	in := []*onnx.Value{c.dy(), c.op("Neg", c.x(1)), nil, c.n.Input(3)}
	c.give(0, c.node("Pad", 1, in, nil)[0])
}

// depthToSpace takes blocks of b×b pixels back into channels.
func depthToSpace(c *call) {
	x, dy, b := c.x(0), c.dy(), c.n.Int("blocksize", 1)
	perm := []int64{0, 3, 5, 1, 2, 4} // from [N, C, H, b, W, b] to [N, b, b, C, H, W]
	if c.n.Str("mode", "DCR") == "CRD" {
		perm = []int64{0, 1, 3, 5, 2, 4}
	}
	image := c.sizesOf(x, 2, 4)
	apart := c.joined(c.sizesOf(dy, 0, 2), c.part(image, 0), fixed(b), c.part(image, 1), fixed(b))
	c.give(0, c.reshapeLike(c.transpose(c.op("Reshape", dy, c.value(apart)), perm...), x))
}

// spaceToDepth takes channels back into blocks of b×b pixels: from [N, b, b, C, H, W] to [N, C, H, b, W, b].
func spaceToDepth(c *call) {
	x, dy, b := c.x(0), c.dy(), c.n.Int("blocksize", 1)
	apart := c.joined(c.sizesOf(dy, 0, 1), fixed(b, b), c.sizesOf(x, 1, 2), c.sizesOf(dy, 2, 4))
	c.give(0, c.reshapeLike(c.transpose(c.op("Reshape", dy, c.value(apart)), 0, 3, 4, 1, 5, 2), x))
}

// part returns element i of s.
func (b *builder) part(s sizes, i int) sizes {
	if s.isKnown() {
		return fixed(s.known[i])
	}
	return sizes{at: b.op("Gather", s.at, b.ints(int64(i)))}
}

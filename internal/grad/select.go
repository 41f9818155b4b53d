package grad

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// selectRules are the operators that pick elements by position, and those that put some there.
func selectRules() []rule {
	return []rule{
		{name: "Slice", integers: passes, do: slice},
		{name: "Gather", integers: passes, do: func(c *call) { c.give(0, c.transported()) }},
		{name: "GatherND", do: func(c *call) { c.give(0, c.transported()) }},
		{name: "Tile", do: func(c *call) { c.give(0, c.transported()) }},
		{name: "Compress", do: func(c *call) { c.give(0, c.transported()) }},
		{name: "GatherElements", do: func(c *call) { c.give(0, c.scatteredAlong(c.dy(), c.x(1), c.n.Int("axis", 0))) }},
		{name: "TopK", do: func(c *call) { c.give(0, c.scatteredAlong(c.dy(), c.n.Output(1), c.n.Int("axis", -1))) }},
		{name: "ScatterElements", do: scatterElements},
		{name: "ScatterND", do: scatterND},
	}
}

// transported gives the gradient of an operator whose result holds elements of its first input, each any number of times. The
// operator itself is applied to the positions of these elements: then each element of the gradient is added where its
// position says.
func (c *call) transported() *onnx.Value {
	x := c.x(0)
	zero, one := c.scalar(onnx.Int64, 0), c.scalar(onnx.Int64, 1)
	count := c.op("Size", x)
	positions := c.opWith("Reshape", attrs{"allowzero": 1}, c.op("Range", zero, count, one), c.shape(x))
	in := append([]*onnx.Value{positions}, c.n.Inputs()[1:]...)
	picked := c.again(in, "grad_positions")[0]
	return c.scattered(x, picked, c.dy())
}

// slice puts zeros around the gradient where the steps are 1 and everything is known, which is faster.
func slice(c *call) {
	x := c.x(0)
	dims, static := c.facts.Shape(x).Static()
	starts, starting := c.facts.Ints(c.x(1))
	out, known := c.facts.Shape(c.y()).Static()
	if !static || !starting || !known || !c.allOnes(4) {
		c.give(0, c.transported())
		return
	}
	axes := upTo(len(starts))
	if c.n.Input(3) != nil {
		axes = c.constInts(3)
	}
	begin, end := make([]int64, len(dims)), make([]int64, len(dims))
	for i, a := range axes {
		at := c.axis(a, len(dims))
		if !starts[i].Known {
			c.give(0, c.transported())
			return
		}
		from := starts[i].Value
		if from < 0 {
			from += dims[at]
		}
		begin[at] = min(max(from, 0), dims[at])
		end[at] = dims[at] - out[at] - begin[at]
	}
	c.give(0, c.op("Pad", c.dy(), c.ints(append(begin, end...)...)))
}

// allOnes reports whether input i is omitted or known to hold ones only.
func (c *call) allOnes(i int) bool {
	if c.n.Input(i) == nil {
		return true
	}
	list, ok := c.facts.Ints(c.n.Input(i))
	for _, e := range list {
		ok = ok && e.Known && e.Value == 1
	}
	return ok
}

// scatteredAlong adds the elements of g to zeros of the shape of input 0, at the indices along an axis.
func (c *call) scatteredAlong(g, at *onnx.Value, axis int64) *onnx.Value {
	if at == nil {
		c.fail("the output that says where elements came from is left out")
	}
	w := c.wide(g)
	return c.cast(c.opWith("ScatterElements", attrs{"axis": axis, "reduction": "add"}, c.zeros(c.x(0), c.elem(w)), at, w), c.elem(g))
}

// scatterElements: what was replaced has no gradient; what was put or added there has that of its place.
func scatterElements(c *call) {
	dy, at, axis := c.dy(), c.x(1), c.n.Int("axis", 0)
	if c.wants(0) {
		g := dy
		if c.replaces() {
			g = c.opWith("ScatterElements", attrs{"axis": axis}, dy, at, c.zeros(c.x(2), c.elem(dy)))
		}
		c.give(0, g)
	}
	if c.wants(2) {
		c.give(2, c.opWith("GatherElements", attrs{"axis": axis}, dy, at))
	}
}

func scatterND(c *call) {
	dy, at := c.dy(), c.x(1)
	if c.wants(0) {
		g := dy
		if c.replaces() {
			g = c.op("ScatterND", dy, at, c.zeros(c.x(2), c.elem(dy)))
		}
		c.give(0, g)
	}
	if c.wants(2) {
		c.give(2, c.op("GatherND", dy, at))
	}
}

// replaces reports whether a scatter puts its updates in place of the elements there; it fails if it does not add them either.
func (c *call) replaces() bool {
	switch reduction := c.n.Str("reduction", "none"); reduction {
	case "none":
		return true
	case "add":
		return false
	default:
		c.fail("no gradient is known for reduction %q", reduction)
		return false
	}
}

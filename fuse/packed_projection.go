package fuse

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// projection is some columns of x·w + bias.
type projection struct {
	x, w, bias *onnx.Value // [batch, length, in], [in, columns] and [columns], nil if none
	from, size int64
}

// climb goes from a value to the product that it is part of, while nothing but
// what goes reads what it comes by.
type climb struct {
	facts *opset.Facts
	graph *onnx.Graph
	v     *onnx.Value           // the value come to
	n     *onnx.Node            // what computes v, nil where something else reads that
	from  *onnx.Node            // the node come to last, nil at first
	goes  func(*onnx.Node) bool // whether a reader does not count
	flat  bool                  // rows of all batches are in one axis
	whole onnx.Shape            // [batch, length, width] of what was begun with
	out   projection
}

// projectionOf reads v, rows or the heads [batch, length, heads, width] cut from
// them, which only nodes that go may read: a product of three axes, or of the
// matrix that a Reshape makes of the first two.
func projectionOf(m *rewrite.Match, v *onnx.Value, goes func(*onnx.Node) bool) (projection, error) {
	c := &climb{facts: m.Facts, graph: m.Root.Graph(), v: v, goes: goes}
	c.up(0)
	if err := c.heads(); err != nil {
		return c.out, err
	}
	c.unrolled()
	if err := c.part(); err != nil {
		return c.out, err
	}
	c.unrolled()
	return c.out, c.product()
}

// up goes on to the node that computes the value, of which it takes input i first
// but for the first step.
func (c *climb) up(i int) *onnx.Node {
	if c.from != nil {
		c.v = c.from.Input(i)
	}
	c.n = nil
	n := c.v.Producer()
	if n == nil || n.Graph() != c.graph || c.v.IsOutput() {
		return nil
	}
	for _, u := range c.v.Uses() {
		if u.Node != c.from && !c.goes(u.Node) {
			return nil
		}
	}
	c.n, c.from = n, n
	return n
}

// at reports whether the climb has come to an operator.
func (c *climb) at(op string) bool { return c.n != nil && c.n.Is(op) }

// matrix reports whether the node come to computes from a matrix.
func (c *climb) matrix() bool { return c.n != nil && len(c.facts.Shape(c.n.Input(0))) == 2 }

// heads goes through what takes heads out of rows, and finds how wide they are.
func (c *climb) heads() error {
	v, shape := c.v, c.facts.Shape(c.v)
	c.whole = rowsOf(shape)
	if c.at("Reshape") && len(shape) == 3 && len(c.facts.Shape(c.n.Input(0))) == 4 {
		if c.up(0); c.at("Transpose") && headLayout(permOf4(c.n.Ints("perm", nil))) == byToken {
			c.up(0) // heads put together
		}
	}
	switch {
	case c.at("Gather"), c.at("Squeeze"):
		n, whole, from, ok := c.oneOfThree()
		if !ok {
			return rewrite.Decline("the heads %q are not cut from rows", v.Name())
		}
		c.flat = len(c.facts.Shape(n.Input(0))) == 2
		c.whole, c.out.from = whole, from
		c.up(0)
	case len(shape) == 4 && !(c.at("Reshape") && c.matrix()):
		return rewrite.Decline("the heads %q are not cut from rows", v.Name())
	case len(c.whole) != 3 || !c.whole[2].Known():
		return rewrite.Decline("%q has shape %v, not [batch, length, width]", v.Name(), shape)
	}
	c.out.size = c.whole[2].Value
	return nil
}

// oneOfThree goes from the node come to, which takes one of [3, batch, heads, length, width], to
// the Reshape that makes [batch, length, 3, heads, width] of rows. It returns that
// with [batch, length, heads·width] and the first column of what is taken.
func (c *climb) oneOfThree() (*onnx.Node, onnx.Shape, int64, bool) {
	n, which, ok := c.n, int64(0), false
	if n.Is("Gather") {
		var f float64
		f, ok = numberOf(c.facts, n.Input(1))
		which, ok = int64(f), ok && n.Int("axis", 0) == 0 && f >= 0 && len(c.facts.Shape(n.Input(1))) == 0
	} else if axes, known := squeezedAxes(c.facts, n); known && slices.Equal(axes, []int64{0}) {
		if n = c.up(0); n != nil && n.Is("Split") && n.Int("axis", 0) == 0 {
			which, ok = int64(c.v.Index()), true
			for _, part := range n.Outputs() {
				s := c.facts.Shape(part)
				ok = ok && len(s) == 5 && isOne(s[0])
			}
		}
	}
	if !ok {
		return nil, nil, 0, false
	}
	if n = c.up(0); n == nil || !n.Is("Transpose") || !slices.Equal(n.Ints("perm", nil), []int64{2, 0, 3, 1, 4}) {
		return nil, nil, 0, false
	}
	s := c.facts.Shape(n.Input(0))
	if n = c.up(0); n == nil || !n.Is("Reshape") || len(s) != 5 || !s[3].Known() || !s[4].Known() {
		return nil, nil, 0, false
	}
	width := s[3].Value * s[4].Value
	return n, onnx.Shape{s[0], s[1], onnx.Fixed(width)}, which * width, true
}

// squeezedAxes returns the axes that a Squeeze takes away.
func squeezedAxes(facts *opset.Facts, n *onnx.Node) ([]int64, bool) {
	if n.Input(1) == nil {
		axes := n.Ints("axes", nil)
		return axes, axes != nil
	}
	ints, ok := facts.Ints(n.Input(1))
	var out []int64
	for _, i := range ints {
		out = append(out, i.Value)
		ok = ok && i.Known
	}
	return out, ok
}

// rowsOf joins the last two of four sizes, [batch, length, heads, width].
func rowsOf(s onnx.Shape) onnx.Shape {
	if len(s) != 4 || !s[2].Known() || !s[3].Known() {
		return s
	}
	return onnx.Shape{s[0], s[1], onnx.Fixed(s[2].Value * s[3].Value)}
}

// unrolled goes through a Reshape of the rows of all batches.
func (c *climb) unrolled() {
	if c.at("Reshape") && c.matrix() {
		c.flat = true
		c.up(0)
	}
}

// part goes through a Split of columns.
func (c *climb) part() error {
	if !c.at("Split") || !isLast(c.facts, c.n, c.n.Int("axis", 0)) {
		return nil
	}
	for i, part := range c.n.Outputs() {
		s := c.facts.Shape(part)
		if len(s) == 0 || !s[len(s)-1].Known() || part.IsOutput() || len(part.Uses()) != 1 {
			return rewrite.Decline("the parts of %v are not all known, or read elsewhere too", c.n)
		}
		if i < c.v.Index() {
			c.out.from += s[len(s)-1].Value
		}
	}
	c.up(0)
	return nil
}

// product reads the product and its bias.
func (c *climb) product() error {
	if c.at("Add") {
		for i := range 2 {
			if row := c.n.Input(i).Constant(); row != nil && len(row.Shape) == 1 && row.Shape[0] > 1 {
				c.out.bias = c.n.Input(i)
				c.up(1 - i)
				break
			}
		}
	}
	n := c.n
	if n == nil || !n.Is("MatMul") && !plainGemm(n) || n.Input(1).Constant() == nil || len(n.Input(1).Constant().Shape) != 2 {
		return rewrite.Decline("%q is not the product of a value [batch, length, in] and a constant matrix that is read here only", c.v.Name())
	}
	x, w := n.Input(0), n.Input(1)
	depth := c.facts.Shape(x)
	if n.Is("Gemm") && n.Input(2) != nil {
		c.out.bias = n.Input(2)
	}
	if r := x.Producer(); c.flat && r != nil && r.Is("Reshape") {
		x = r.Input(0)
	}
	c.out.x, c.out.w = x, w
	switch s, b := c.facts.Shape(x), c.out.bias; {
	case len(s) != 3 || !s[0].Same(c.whole[0]) || !s[1].Same(c.whole[1]) || !s[2].Same(depth[len(depth)-1]):
		return rewrite.Decline("%q has shape %v, and the product of it %v", x.Name(), s, c.whole)
	case b != nil && (b.Constant() == nil || !slices.Equal(b.Constant().Shape, w.Constant().Shape[1:])):
		return rewrite.Decline("the bias %q is not a constant for the columns of %q", b.Name(), w.Name())
	}
	return nil
}

// plainGemm reports whether n is a Gemm that only multiplies and adds.
func plainGemm(n *onnx.Node) bool {
	return n.Is("Gemm") && n.Int("transA", 0)|n.Int("transB", 0) == 0 && n.Float("alpha", 1) == 1 && n.Float("beta", 1) == 1
}

package opset

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// call is one node as the rows' inference functions see it: inputs with what is
// known of them, attributes with defaults, and outputs to fill in. An output
// that is not set stays unknown.
type call struct {
	f   *Facts
	s   *scope
	n   *onnx.Node
	op  *Op
	out []fact
}

// complete reports whether the node has the inputs and attributes that its
// operator cannot do without.
func (c *call) complete() bool {
	for i, s := range c.op.Inputs {
		switch {
		case s.Variadic:
			if len(c.n.Inputs())-i < s.AtLeast {
				return false
			}
		case !s.Optional && c.n.Input(i) == nil:
			return false
		}
	}
	for i := range c.op.Attrs {
		if a := &c.op.Attrs[i]; a.Required && a.Name != "consumed_inputs" && c.attr(a.Name) == nil {
			return false
		}
	}
	return true
}

// ver returns the version of the operator's form.
func (c *call) ver() int64 { return c.op.Since }

// has reports whether input i is present.
func (c *call) has(i int) bool { return c.n.Input(i) != nil }

// typ returns the type of input i, nil where nothing is known.
func (c *call) typ(i int) *onnx.Type { return c.f.Type(c.n.Input(i)) }

// shape returns the shape of tensor input i, nil where the rank is unknown.
func (c *call) shape(i int) onnx.Shape { return c.f.Shape(c.n.Input(i)) }

// elem returns the element type of tensor input i.
func (c *call) elem(i int) onnx.DType { return c.f.DType(c.n.Input(i)) }

// dim returns dimension d of input i, unknown where there is none.
func (c *call) dim(i, d int) onnx.Dim {
	s := c.shape(i)
	if d < 0 {
		d += len(s)
	}
	if d < 0 || d >= len(s) {
		return onnx.Symbol("")
	}
	return s[d]
}

// size returns dimension d of input i as an expression.
func (c *call) size(i, d int) *expr { return c.f.sym.expr(c.dim(i, d)) }

// ex returns a dimension as an expression.
func (c *call) ex(d onnx.Dim) *expr { return c.f.sym.expr(d) }

// asDim returns an expression as a dimension.
func (c *call) asDim(e *expr) onnx.Dim { return c.f.sym.dim(e) }

// exprs returns a shape as expressions.
func (c *call) exprs(s onnx.Shape) []*expr {
	out := make([]*expr, len(s))
	for i, d := range s {
		out[i] = c.ex(d)
	}
	return out
}

// asShape returns expressions as a shape; nil for nil.
func (c *call) asShape(e []*expr) onnx.Shape {
	if e == nil {
		return nil
	}
	out := make(onnx.Shape, len(e))
	for i, x := range e {
		out[i] = c.asDim(x)
	}
	return out
}

// ints returns the elements of integer input i, nil where they are not followed.
func (c *call) ints(i int) []*expr {
	if v := c.n.Input(i); v != nil {
		return c.f.ints(v)
	}
	return nil
}

// numbers returns the elements of integer input i where all are numbers.
func (c *call) numbers(i int) ([]int64, bool) { return allKnown(c.ints(i)) }

// number returns the one element of integer input i.
func (c *call) number(i int) (int64, bool) {
	if v := c.ints(i); len(v) == 1 {
		return v[0].known()
	}
	return 0, false
}

func allKnown(e []*expr) ([]int64, bool) {
	if e == nil {
		return nil, false
	}
	out := make([]int64, len(e))
	for i, x := range e {
		n, ok := x.known()
		if !ok {
			return nil, false
		}
		out[i] = n
	}
	return out, true
}

// floats returns the elements of floating-point input i, nil where unknown.
func (c *call) floats(i int) []float64 {
	if v := c.n.Input(i); v != nil {
		return c.f.floats(v)
	}
	return nil
}

// attr returns an attribute of the node, following references to the attributes
// of the function around it; nil where it is absent or of the wrong type.
func (c *call) attr(name string) *onnx.Attr {
	a := c.n.Attr(name)
	if a != nil && a.Ref != "" {
		if c.s.attrs == nil {
			return nil
		}
		a = c.s.attrs(a.Ref)
	}
	if a == nil {
		return nil
	}
	if c.op != nil {
		if spec := c.op.Attr(name); spec != nil && spec.Type != a.Type {
			return nil
		}
	}
	return a
}

// fallback returns the default of an attribute, nil if it has none.
func (c *call) fallback(name string) *onnx.Attr {
	if spec := c.op.Attr(name); spec != nil {
		return spec.Default
	}
	return nil
}

// int returns an int attribute, its default, or 0.
func (c *call) int(name string) int64 {
	n, _ := c.maybeInt(name)
	return n
}

// maybeInt returns an int attribute or its default, and whether there is one.
func (c *call) maybeInt(name string) (int64, bool) {
	if a := c.attr(name); a != nil && a.Type == onnx.AttrInt {
		return a.I, true
	}
	if d := c.fallback(name); d != nil && d.Type == onnx.AttrInt {
		return d.I, true
	}
	return 0, false
}

// str returns a string attribute, its default, or "".
func (c *call) str(name string) string {
	if a := c.attr(name); a != nil && a.Type == onnx.AttrString {
		return string(a.S)
	}
	if d := c.fallback(name); d != nil && d.Type == onnx.AttrString {
		return string(d.S)
	}
	return ""
}

// intList returns an ints attribute or its default; nil where there is none.
func (c *call) intList(name string) []int64 {
	if a := c.attr(name); a != nil && a.Type == onnx.AttrInts {
		if a.Ints == nil {
			return []int64{}
		}
		return a.Ints
	}
	if d := c.fallback(name); d != nil && d.Type == onnx.AttrInts {
		return d.Ints
	}
	return nil
}

// set gives output i a tensor type.
func (c *call) set(i int, elem onnx.DType, s onnx.Shape) { c.setType(i, onnx.TensorType(elem, s)) }

// setType gives output i a type.
func (c *call) setType(i int, t *onnx.Type) {
	if i < len(c.out) {
		c.out[i].typ = t
	}
}

// setInts gives output i its elements, once its shape is set.
func (c *call) setInts(i int, e []*expr) {
	if i < len(c.out) && len(e) <= maxElems && e != nil {
		c.out[i].ints = e
	}
}

// setFloats gives output i its elements, once its shape is set.
func (c *call) setFloats(i int, x []float64) {
	if i < len(c.out) && len(x) <= maxElems && x != nil {
		c.out[i].real = x
	}
}

// same gives output i the type and content of input j.
func (c *call) same(i, j int) {
	if i < len(c.out) {
		v := c.n.Input(j)
		c.out[i] = fact{typ: c.typ(j), ints: c.ints(j)}
		if v != nil {
			c.out[i].real = c.f.floats(v)
		}
	}
}

// axisOf returns attribute value a as an axis of rank, false where it is out of range.
func axisOf(a int64, rank int) (int, bool) {
	if a < 0 {
		a += int64(rank)
	}
	return int(a), a >= 0 && a < int64(rank)
}

// maxRank is the most dimensions that are followed; a shape of more is unknown.
const maxRank = 64

// axesOf resolves axes against rank; false where one is out of range or repeated.
func axesOf(axes []int64, rank int) ([]int, bool) {
	if len(axes) > rank || rank > maxRank {
		return nil, false
	}
	out := make([]int, len(axes))
	for i, a := range axes {
		x, ok := axisOf(a, rank)
		if !ok || slices.Contains(out[:i], x) {
			return nil, false
		}
		out[i] = x
	}
	return out, true
}

// unknownShape returns a shape of the given rank with unknown dimensions.
func unknownShape(rank int) onnx.Shape {
	s := make(onnx.Shape, rank)
	for i := range s {
		s[i] = onnx.Symbol("")
	}
	return s
}

// product returns the product of dimensions; the empty product is 1.
func (c *call) product(s onnx.Shape) *expr {
	p := constant(1)
	for _, d := range s {
		p = mul(p, c.ex(d))
	}
	return p
}

// concatShape joins shapes into a new one; nil if any is nil.
func concatShape(parts ...onnx.Shape) onnx.Shape {
	out := onnx.Shape{}
	for _, p := range parts {
		if p == nil {
			return nil
		}
		out = append(out, p...)
	}
	return out
}

// broadcast returns the shape that multidirectional broadcasting of shapes
// gives; nil where a rank is unknown or shapes do not fit.
func (c *call) broadcast(shapes ...onnx.Shape) onnx.Shape {
	rank := 0
	for _, s := range shapes {
		if s == nil {
			return nil
		}
		rank = max(rank, len(s))
	}
	out := make(onnx.Shape, rank)
	for i := range out {
		d := onnx.Fixed(1)
		for _, s := range shapes {
			if j := i - (rank - len(s)); j >= 0 {
				both, ok := broadcastDim(d, s[j])
				if !ok {
					return nil
				}
				if isUnknown(both) {
					both = c.uncut(d, s[j])
				}
				d = both
			}
		}
		if isUnknown(d) && c.allSized(shapes, rank-i) {
			d = c.f.sym.dim(c.f.sym.unknown(1))
		}
		out[i] = d
	}
	return out
}

// uncut returns the size that n and min(k, n) broadcast to, k being a number of at
// least 1: n, since the other can only be n itself, or 1. Unknown for others.
func (c *call) uncut(a, b onnx.Dim) onnx.Dim {
	for _, p := range [2][2]onnx.Dim{{a, b}, {b, a}} {
		whole, cut := c.ex(p[0]), c.ex(p[1])
		if whole == nil || cut == nil || cut.k != 0 || len(cut.terms) != 1 {
			continue
		}
		t := cut.terms[0]
		if t.c != 1 || len(t.atoms) != 1 || t.atoms[0].kind != minAtom {
			continue
		}
		x, y := t.atoms[0].a, t.atoms[0].b
		if k, ok := y.known(); ok && k >= 1 && x.same(whole) {
			return p[0]
		}
		if k, ok := x.known(); ok && k >= 1 && y.same(whole) {
			return p[0]
		}
	}
	return onnx.Symbol("")
}

// allSized reports whether every shape's dimension k, counted from the last as
// 1, is certainly at least 1 if symbols are: so is what they broadcast to.
func (c *call) allSized(shapes []onnx.Shape, k int) bool {
	for _, s := range shapes {
		if k <= len(s) {
			if e := c.ex(s[len(s)-k]); e == nil || !sized(e) {
				return false
			}
		}
	}
	return true
}

// broadcastDim returns the size that broadcasting two dimensions gives: the
// other one for 1, either where they are equal, a number above 1 against
// anything, else unknown. False where they cannot be broadcast.
func broadcastDim(a, b onnx.Dim) (onnx.Dim, bool) {
	switch {
	case a.Same(b) || b.Known() && b.Value == 1:
		return a, true
	case a.Known() && a.Value == 1:
		return b, true
	case a.Known() && b.Known():
		return a, false
	case a.Known():
		return a, true
	case b.Known():
		return b, true
	}
	return onnx.Symbol(""), true
}

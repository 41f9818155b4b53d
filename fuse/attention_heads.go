package fuse

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// headLayout is a permutation of four axes.
type headLayout [4]int64

var (
	byHead     = headLayout{0, 1, 2, 3}
	byToken    = headLayout{0, 2, 1, 3} // [batch, length, heads, width] and back
	widthFirst = headLayout{0, 1, 3, 2} // [batch, heads, width, length] and back
)

// after returns the permutation of x that equals permuting Transpose(x, perm) by l.
func (l headLayout) after(perm []int64) headLayout {
	var out headLayout
	for i, a := range l {
		out[i] = perm[a]
	}
	return out
}

// headsAt is a tensor that, permuted by how, is [batch, heads, length, width].
type headsAt struct {
	x   *onnx.Value
	how headLayout
}

// shape returns the shape after the permutation, nil where the rank is not that
// of the layout.
func (p headsAt) shape(facts *opset.Facts) onnx.Shape {
	s := facts.Shape(p.x)
	if int64(len(s)) != slices.Max(p.how[:])+1 {
		return nil
	}
	out := make(onnx.Shape, len(p.how))
	for i, a := range p.how {
		if out[i] = onnx.Fixed(1); a >= 0 {
			out[i] = s[a]
		}
	}
	return out
}

// value proposes the permuted tensor.
func (p headsAt) value(patch *rewrite.Patch) *onnx.Value {
	if p.how == byHead {
		return p.x
	}
	return patch.Add("Transpose", []*onnx.Value{p.x}, onnx.IntsAttr("perm", p.how[:]...))
}

// flat returns the tensor [batch, length, heads·width] that p is cut from, nil
// where there is none.
func (p headsAt) flat(facts *opset.Facts) *onnx.Value {
	n := p.x.Producer()
	if p.how != byToken || n == nil || !n.Is("Reshape") {
		return nil
	}
	if !joins(facts.Shape(p.x), facts.Shape(n.Input(0))) {
		return nil
	}
	return n.Input(0)
}

// joins reports whether a Reshape from a to b joins the last two axes of four:
// where one of the others stays, so does the other, since elements are as many.
func joins(a, b onnx.Shape) bool {
	if len(a) != 4 || len(b) != 3 || !a[0].Same(b[0]) && !a[1].Same(b[1]) {
		return false
	}
	return a[2].Known() && a[3].Known() && b[2].Known() && b[2].Value == a[2].Value*a[3].Value
}

// splitsHeads reports whether n is a Reshape between [batch·heads, m, n] and
// [batch, heads, m, n].
func splitsHeads(facts *opset.Facts, n *onnx.Node) bool {
	if !n.Is("Reshape") {
		return false
	}
	a, b := facts.Shape(n.Input(0)), facts.Shape(n.Output(0))
	if len(a)+len(b) != 7 || len(a) != 3 && len(a) != 4 {
		return false
	}
	return a[len(a)-1].Same(b[len(b)-1]) && a[len(a)-2].Same(b[len(b)-2])
}

// isSwap reports whether n is a Transpose of the last two of three axes.
func isSwap(n *onnx.Node) bool {
	return n.Is("Transpose") && settledNode(n) && slices.Equal(n.Ints("perm", nil), []int64{0, 2, 1})
}

// swappedFlat returns the value of four axes the last two of which the Reshape n
// has exchanged by way of three axes, nil if it does not.
func swappedFlat(facts *opset.Facts, n *onnx.Node) *onnx.Value {
	t := n.Input(0).Producer()
	if !splitsHeads(facts, n) || t == nil || !isSwap(t) {
		return nil
	}
	r := t.Input(0).Producer()
	if r == nil || !splitsHeads(facts, r) {
		return nil
	}
	a, b := facts.Shape(r.Input(0)), facts.Shape(n.Output(0))
	if len(a) != 4 || len(b) != 4 || !a[0].Same(b[0]) || !a[1].Same(b[1]) {
		return nil
	}
	return r.Input(0)
}

// attnHeads is an operand of attention.
type attnHeads struct {
	headsAt
	past   *headsAt // what a cache puts before it along length, nil if none
	next   headsAt  // with past: what is new
	repeat int64    // how many heads of the query share one of these
}

// climbHeads follows v, which permuted by l is an operand, up to where it comes from.
// Factors of all elements are taken out where factor is given.
func climbHeads(facts *opset.Facts, v *onnx.Value, l headLayout, factor *float64) attnHeads {
	h := attnHeads{headsAt: headsAt{v, l}, repeat: 1}
	for n := v.Producer(); n != nil && n.Graph() != nil; n = h.x.Producer() {
		x, how, f, r := headStep(facts, n, h.how)
		if x == nil || f != 1 && factor == nil || r > 1 && h.repeat > 1 {
			break
		}
		h.x, h.how, h.repeat = x, how, h.repeat*r
		if factor != nil {
			*factor *= f
		}
	}
	h.cache(facts)
	return h
}

// headStep returns what n permutes, scales, repeats or only reshapes; nil for others.
func headStep(facts *opset.Facts, n *onnx.Node, l headLayout) (x *onnx.Value, how headLayout, factor float64, repeat int64) {
	switch {
	case n.Is("Transpose"):
		if perm := n.Ints("perm", nil); len(perm) == 4 && settledNode(n) {
			return n.Input(0), l.after(perm), 1, 1
		}
	case n.Is("Identity"):
		return n.Input(0), l, 1, 1
	case n.Is("Mul"), n.Is("Div"):
		if v, f, ok := scaledByNumber(facts, n); ok && len(facts.Shape(v)) == 4 {
			return v, l, f, 1
		}
	case n.Is("Reshape"), n.Is("Expand"):
		if v := reshapedFrom(facts, n.Output(0)); v != nil {
			return v, l, 1, 1
		}
		if v := swappedFlat(facts, n); v != nil {
			return v, l.after(widthFirst[:]), 1, 1
		}
		if v, axis, r := repeatedHeads(facts, n); v != nil && axis == l[1] {
			return v, l, 1, r
		}
	}
	return nil, l, 1, 1
}

// scaledByNumber returns what n multiplies by one number, and the number.
func scaledByNumber(facts *opset.Facts, n *onnx.Node) (*onnx.Value, float64, bool) {
	if f, ok := numberOf(facts, n.Input(1)); ok {
		if n.Op == "Div" {
			return n.Input(0), 1 / f, f != 0
		}
		return n.Input(0), f, true
	}
	if f, ok := numberOf(facts, n.Input(0)); ok && n.Op == "Mul" {
		return n.Input(1), f, true
	}
	return nil, 0, false
}

// reshapedFrom returns the value of the same four axes that v is, reached
// through operators that only take axes apart and together; nil if none.
func reshapedFrom(facts *opset.Facts, v *onnx.Value) *onnx.Value {
	shape := facts.Shape(v)
	if len(shape) != 4 {
		return nil
	}
	for n := v.Producer(); n != nil; n = v.Producer() {
		switch {
		case n.Is("Reshape"), n.Is("Unsqueeze"), n.Is("Squeeze"), n.Is("Identity"):
		case n.Is("Expand") && facts.Shape(n.Input(0)).Equal(facts.Shape(v)):
		default:
			return nil
		}
		if v = n.Input(0); facts.Shape(v).Equal(shape) {
			return v
		}
	}
	return nil
}

// repeatedHeads returns the tensor of four axes each slice of which along axis n
// repeats r times in place: by a new axis that is expanded and merged into it,
// or by expanding an axis of length 1.
func repeatedHeads(facts *opset.Facts, n *onnx.Node) (x *onnx.Value, axis, r int64) {
	if n.Is("Expand") {
		return expandedOne(facts, n)
	}
	e := n.Input(0).Producer()
	if e == nil || !e.Is("Expand") {
		return nil, 0, 0
	}
	thin, wide, out := facts.Shape(e.Input(0)), facts.Shape(e.Output(0)), facts.Shape(n.Output(0))
	if len(thin) != 5 || len(wide) != 5 || len(out) != 4 {
		return nil, 0, 0
	}
	at := grownAxis(thin, wide)
	u := e.Input(0).Producer()
	if at < 1 || u == nil || !u.Is("Unsqueeze") && !u.Is("Reshape") {
		return nil, 0, 0
	}
	src := facts.Shape(u.Input(0))
	if len(src) != 4 || u.Is("Reshape") && !src.Equal(slices.Delete(slices.Clone(thin), at, at+1)) {
		return nil, 0, 0
	}
	unknown := 0 // one size may be unknown: elements are as many, so it is the same
	for i := range out {
		switch {
		case i == at-1 || out[i].Same(src[i]):
		case out[i].Known() && src[i].Known():
			return nil, 0, 0
		default:
			unknown++
		}
	}
	if unknown > 1 {
		return nil, 0, 0
	}
	if a, b := src[at-1], out[at-1]; !a.Known() || !b.Known() || b.Value != a.Value*wide[at].Value {
		return nil, 0, 0
	}
	return u.Input(0), int64(at - 1), wide[at].Value
}

// expandedOne handles an Expand of four axes that grows one of length 1.
func expandedOne(facts *opset.Facts, n *onnx.Node) (*onnx.Value, int64, int64) {
	thin, wide := facts.Shape(n.Input(0)), facts.Shape(n.Output(0))
	if len(thin) != 4 || len(wide) != 4 {
		return nil, 0, 0
	}
	at := grownAxis(thin, wide)
	if at < 0 {
		return nil, 0, 0
	}
	return n.Input(0), int64(at), wide[at].Value
}

// grownAxis returns the one axis along which thin has length 1 and wide a known
// greater one, all others being equal; −1 if there is no such axis.
func grownAxis(thin, wide onnx.Shape) int {
	at := -1
	for i := range thin {
		if thin[i].Same(wide[i]) {
			continue
		}
		if at >= 0 || !thin[i].Known() || thin[i].Value != 1 || !wide[i].Known() || wide[i].Value < 2 {
			return -1
		}
		at = i
	}
	return at
}

// cache recognises a Concat of two along length: what was there, and what is new.
func (h *attnHeads) cache(facts *opset.Facts) {
	n := h.x.Producer()
	if n == nil || !n.Is("Concat") || len(n.Inputs()) != 2 || !settledNode(n) {
		return
	}
	axis := n.Int("axis", 0)
	if axis < 0 {
		axis += 4
	}
	if len(facts.Shape(h.x)) != 4 || h.how[2] != axis {
		return
	}
	past := climbHeads(facts, n.Input(0), h.how, nil)
	next := climbHeads(facts, n.Input(1), h.how, nil)
	if past.repeat == 1 && next.repeat == 1 && past.how == byHead {
		h.past, h.next = &past.headsAt, next.headsAt
	}
}

// settledNode reports whether no attribute of n is left to the caller of a function.
func settledNode(n *onnx.Node) bool {
	return !slices.ContainsFunc(n.Attrs, func(a *onnx.Attr) bool { return a.Ref != "" })
}

package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// turning is a rotation of pairs of elements by angles, as rotary embeddings do.
type turning struct {
	facts    *opset.Facts
	version  int64       // of the standard operators
	x        *onnx.Value // what is turned, of width d along the last axis
	out      *onnx.Value
	cos, sin *onnx.Value // as x is multiplied by them: of width d/2, or of d with doubled
	doubled  bool
	strided  bool  // pairs are neighbours, else elements of the two halves
	width    int64 // how many elements are turned; the rest of x stays
}

// findTurning reads the rotation that ends at n, an Add or a Concat. It fails
// with [rewrite.ErrNotHere] where there is none.
func findTurning(facts *opset.Facts, n *onnx.Node) (*turning, error) {
	r := &turning{facts: facts, version: n.OpsetVersion("")}
	var ok bool
	if n.Is("Add") {
		ok = r.byRotatedHalf(n)
	} else {
		ok = r.byParts(n)
	}
	if !ok {
		return nil, rewrite.ErrNotHere
	}
	r.width = lastDim(facts, r.x)
	r.partial()
	return r, nil
}

// byRotatedHalf: x·cos + concat(−second half, first half)·sin.
func (r *turning) byRotatedHalf(n *onnx.Node) bool {
	for i := range 2 {
		a, b := n.Input(i).Producer(), n.Input(1-i).Producer()
		if a == nil || b == nil || !a.Is("Mul") || !b.Is("Mul") {
			return false
		}
		for j := range 2 {
			x := rotatedHalf(r.facts, b.Input(j))
			if x == nil {
				continue
			}
			for k := range 2 {
				if a.Input(k) == x {
					r.x, r.cos, r.sin, r.doubled, r.out = x, a.Input(1-k), b.Input(1-j), true, n.Output(0)
					return true
				}
			}
		}
	}
	return false
}

// rotatedHalf returns the x of concat(−second half of x, first half of x).
func rotatedHalf(facts *opset.Facts, v *onnx.Value) *onnx.Value {
	a, b, ok := concatLast(facts, v.Producer())
	if !ok || a.Producer() == nil || !a.Producer().Is("Neg") {
		return nil
	}
	second, ok1 := partOf(facts, a.Producer().Input(0))
	first, ok2 := partOf(facts, b)
	if !ok1 || !ok2 || !second.second || first.second || first.strided || second.strided || first.whole != second.whole {
		return nil
	}
	return first.whole
}

// byParts: concat(cos·x₁ − sin·x₂, sin·x₁ + cos·x₂), of halves or of neighbours.
func (r *turning) byParts(n *onnx.Node) bool {
	a, b, ok := concatLast(r.facts, n)
	if !ok {
		return false
	}
	strided := false
	if re, im := unsqueezedLast(r.facts, a), unsqueezedLast(r.facts, b); re != nil && im != nil {
		a, b, strided = re, im, true
	}
	re, im := a.Producer(), b.Producer()
	if re == nil || im == nil || !re.Is("Sub") || !im.Is("Add") || !r.complexProduct(re, im) || r.strided != strided {
		return false
	}
	r.out = n.Output(0)
	if !strided {
		return true
	}
	back := soleReader(r.out)
	if back == nil || !back.Is("Reshape") || !joinsPairs(r.facts.Shape(r.out), r.facts.Shape(back.Output(0))) {
		return false
	}
	r.out = back.Output(0)
	return true
}

// joinsPairs reports whether a Reshape from a to b joins the last two axes: where
// all other axes but one stay, so does that one, since elements are as many.
func joinsPairs(a, b onnx.Shape) bool {
	n := len(b)
	if n < 2 || len(a) != n+1 || !a[n-1].Known() || !a[n].Known() || !b[n-1].Known() || b[n-1].Value != a[n-1].Value*a[n].Value {
		return false
	}
	other := 0
	for i := range n - 1 {
		if !a[i].Same(b[i]) {
			other++
		}
	}
	return other <= 1
}

// unsqueezedLast returns what v adds a last axis of length 1 to, nil if it does not.
func unsqueezedLast(facts *opset.Facts, v *onnx.Value) *onnx.Value {
	n := v.Producer()
	if n == nil || !n.Is("Unsqueeze") && !n.Is("Reshape") || lastDim(facts, v) != 1 {
		return nil
	}
	in, out := facts.Shape(n.Input(0)), facts.Shape(v)
	if len(out) != len(in)+1 || !in.Equal(out[:len(in)]) {
		return nil
	}
	return n.Input(0)
}

// complexProduct reads re = c·x₁ − s·x₂ and im = s·x₁ + c·x₂.
func (r *turning) complexProduct(re, im *onnx.Node) bool {
	t1, t2 := re.Input(0).Producer(), re.Input(1).Producer()
	if t1 == nil || t2 == nil || !t1.Is("Mul") || !t2.Is("Mul") {
		return false
	}
	for i := range 2 {
		for j := range 2 {
			x1, c, x2, s := t1.Input(i), t1.Input(1-i), t2.Input(j), t2.Input(1-j)
			first, ok1 := partOf(r.facts, x1)
			second, ok2 := partOf(r.facts, x2)
			if !ok1 || !ok2 || first.whole != second.whole || first.second || !second.second || first.strided != second.strided {
				continue
			}
			if isProduct(im.Input(0), s, x1) && isProduct(im.Input(1), c, x2) || isProduct(im.Input(1), s, x1) && isProduct(im.Input(0), c, x2) {
				r.x, r.cos, r.sin, r.strided = first.whole, c, s, first.strided
				return true
			}
		}
	}
	return false
}

// isProduct reports whether v is a·b.
func isProduct(v, a, b *onnx.Value) bool {
	n := v.Producer()
	return n != nil && n.Is("Mul") && (n.Input(0) == a && n.Input(1) == b || n.Input(0) == b && n.Input(1) == a)
}

// partial widens the rotation to a value of which the first elements alone are
// turned, and the rest is put behind them as it is.
func (r *turning) partial() {
	n := soleReader(r.out)
	a, b, ok := concatLast(r.facts, n)
	if !ok || a != r.out {
		return
	}
	lo, hi, step, whole, ok1 := lanes(r.facts, r.x)
	lo2, hi2, step2, whole2, ok2 := lanes(r.facts, b)
	if !ok1 || !ok2 || whole != whole2 || step != 1 || step2 != 1 || lo != 0 || lo2 != hi || hi2 != lastDim(r.facts, whole) {
		return
	}
	r.x, r.out = whole, n.Output(0)
}

// layout finds which axes of x are heads and positions, by where cosines vary.
func (r *turning) layout() (headLayout, error) {
	s := r.facts.Shape(r.x)
	if len(s) != 4 {
		return headLayout{}, rewrite.Decline("what is turned has shape %v", s)
	}
	for _, l := range []headLayout{byHead, byToken} {
		if r.fits(l) {
			return l, nil
		}
	}
	return headLayout{}, rewrite.Decline("the cosines have shape %v and the sines %v, for %v", r.facts.Shape(r.cos), r.facts.Shape(r.sin), s)
}

// lastOf is the last dimension of v.
func lastOf(facts *opset.Facts, v *onnx.Value) onnx.Dim {
	s := facts.Shape(v)
	if len(s) == 0 {
		return onnx.Fixed(1)
	}
	return s[len(s)-1]
}

// fits reports whether cosines and sines are the same for all heads in layout l.
func (r *turning) fits(l headLayout) bool {
	x := r.facts.Shape(r.x)
	if c, s := lastOf(r.facts, r.cos), lastOf(r.facts, r.sin); mayGrow(c, s) || mayGrow(s, c) {
		return false
	}
	for _, v := range []*onnx.Value{r.cos, r.sin} {
		s := r.facts.Shape(v)
		if len(s) < 2 || len(s) > 4 {
			return false
		}
		at := func(axis int64) onnx.Dim {
			if i := int(axis) - 4 + len(s); i >= 0 {
				return s[i]
			}
			return onnx.Fixed(1)
		}
		one := onnx.Fixed(1)
		if place := at(l[2]); !place.Same(x[l[2]]) && (place.Known() || mayGrow(x[l[2]], place)) {
			return false
		}
		if !at(l[1]).Same(one) || !at(0).Same(one) && !at(0).Same(x[0]) {
			return false
		}
	}
	return true
}

package fuse

import (
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// agree declines unless the shapes are known to fit without broadcasting. Widths
// of query and key are equal, and lengths of key and value, since the products
// sum over them.
func (b *attnBlock) agree() error {
	q, k, v := b.q.shape(b.facts), b.k.shape(b.facts), b.v.shape(b.facts)
	if q == nil || k == nil || v == nil {
		return rewrite.Decline("the shapes of query %v, key %v and value %v are not all [batch, heads, length, width]",
			b.facts.Shape(b.q.x), b.facts.Shape(b.k.x), b.facts.Shape(b.v.x))
	}
	if b.q.repeat != 1 {
		return rewrite.Decline("the heads of the query are repeated")
	}
	for _, c := range []struct {
		what string
		a, b onnx.Dim
	}{
		{"batch of query and key", q[0], k[0]}, {"batch of key and value", k[0], v[0]}, {"number of heads of key and value", k[1], v[1]},
	} {
		if !c.a.Same(c.b) {
			return rewrite.Decline("the %s are %v and %v, which are not known to be equal", c.what, c.a, c.b)
		}
	}
	if mayGrow(k[2], v[2]) {
		return rewrite.Decline("there are %v keys and %v values", k[2], v[2])
	}
	if b.k.repeat != b.v.repeat {
		return rewrite.Decline("each key serves %d heads and each value %d", b.k.repeat, b.v.repeat)
	}
	return b.groups(q[1], k[1])
}

// fills declines where a mask may have more batches, heads or rows than the scores.
func (b *attnBlock) fills() error {
	q := b.q.shape(b.facts)
	for _, t := range b.terms {
		v := t.added
		if v == nil {
			v = t.cond
		}
		s := b.apart(b.facts.Shape(v))
		if s == nil {
			return rewrite.Decline("the shape of the mask %q is not known", v.Name())
		}
		for i, want := range q[:3] {
			if k := len(s) - 4 + i; k >= 0 && mayGrow(want, s[k]) && !(i == 2 && oneRow(b.facts, v)) || len(s) > 4 {
				return rewrite.Decline("the mask has shape %v, and the scores [%v,%v,%v,…]", s, q[0], q[1], q[2])
			}
		}
		if t.flat && !b.folded && len(s) == 3 && mayGrow(onnx.Fixed(1), s[0]) {
			return rewrite.Decline("the mask has shape %v over batches and heads in one", s)
		}
	}
	return nil
}

// oneRow reports whether v is computed, element by element, from one row that is
// cut out of a matrix.
func oneRow(facts *opset.Facts, v *onnx.Value) bool {
	for n := v.Producer(); n != nil; n = v.Producer() {
		switch {
		case n.Is("Cast"), n.Is("Identity"), n.Is("Not"):
		case n.Is("Where"):
			_, ok1 := numberOf(facts, n.Input(1))
			_, ok2 := numberOf(facts, n.Input(2))
			if !ok1 || !ok2 {
				return false
			}
		case n.Is("Slice") && len(n.Inputs()) >= 4:
			axes, ok := facts.Ints(n.Input(3))
			if !ok || len(axes) != 1 {
				return false
			}
			rank := int64(len(facts.Shape(v)))
			if a := axes[0]; a.Known && (a.Value == rank-2 || a.Value == -2) {
				lo, ok1 := sizeForm(facts, n.Input(1))
				hi, ok2 := sizeForm(facts, n.Input(2))
				d, ok := hi.plus(lo, -1)
				return ok1 && ok2 && ok && d.fixed == 1 && len(d.sizes) == 0
			}
		default:
			return false
		}
		v = n.Input(0)
	}
	return false
}

// mayGrow reports whether scores of size want may broadcast to a mask of size d:
// only where want is 1, or both are numbers that do not fit. A size that is not
// known is the one that the model was written for.
func mayGrow(want, d onnx.Dim) bool {
	if d.Same(want) || d.Known() && d.Value == 1 {
		return false
	}
	return want.Known() && (want.Value == 1 || d.Known())
}

// groups checks the number of heads: those of the query, and those of key and value.
func (b *attnBlock) groups(q, k onnx.Dim) error {
	if b.k.repeat == 1 && q.Same(k) {
		return nil
	}
	if !q.Known() || !k.Known() || k.Value < 1 || q.Value%k.Value != 0 || k.Value != 1 && q.Value != k.Value*b.k.repeat {
		return rewrite.Decline("%v heads of the query and %v of the key, each repeated %d times, do not fit", q, k, b.k.repeat)
	}
	return nil
}

// guards reads the Wheres between softmax and second product: they must put 0
// where a row is hidden whole, as the operator does, and nowhere else.
func (b *attnBlock) guards() error {
	for _, p := range b.passed {
		n := p.v.Producer()
		if p.stage != softWeights || !n.Is("Where") {
			continue
		}
		if x, ok := filledWith(b.facts, n.Input(0)); ok && x == 0 {
			continue
		}
		if !b.isGuard(n.Input(0), n.Input(2)) {
			return rewrite.Decline("%v sets weights to 0 by a condition that is not that a row is hidden whole", n)
		}
		b.guarded = true
	}
	return nil
}

// isGuard: IsNaN(softWeights), or max(mask) over the columns = −∞.
func (b *attnBlock) isGuard(cond, w *onnx.Value) bool {
	n := cond.Producer()
	if n == nil {
		return false
	}
	if n.Is("IsNaN") {
		b.inner[n] = true
		return n.Input(0) == w
	}
	if !n.Is("Equal") {
		return false
	}
	low, ok := numberOf(b.facts, n.Input(1))
	most := n.Input(0).Producer()
	if !ok || !math.IsInf(low, -1) || most == nil || !most.Is("ReduceMax") || !lastAxis(b.facts, most) {
		return false
	}
	sum := throughCasts(most.Input(0))
	for _, t := range b.terms {
		if t.added != nil && len(b.terms) == 1 && throughCasts(t.added) == sum {
			return true
		}
	}
	return false
}

// lastAxis reports whether a reduction runs over the last axis and keeps it.
func lastAxis(facts *opset.Facts, n *onnx.Node) bool {
	axes := n.Ints("axes", nil)
	if v := n.Input(1); v != nil {
		ints, ok := facts.Ints(v)
		if !ok || len(ints) != 1 || !ints[0].Known {
			return false
		}
		axes = []int64{ints[0].Value}
	}
	last := int64(len(facts.Shape(n.Input(0)))) - 1
	return len(axes) == 1 && (axes[0] == -1 || axes[0] == last) && n.Int("keepdims", 1) == 1
}

func throughCasts(v *onnx.Value) *onnx.Value {
	for n := v.Producer(); n != nil && (n.Is("Cast") || n.Is("Identity")); n = v.Producer() {
		v = n.Input(0)
	}
	return v
}

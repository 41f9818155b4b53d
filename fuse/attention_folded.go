package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// Layouts of operands that have batches and heads in one axis, as
// torch.nn.MultiheadAttention and whoever calls bmm has them: [batch·heads,
// length, width] is attention of one head over so many batches, and what the
// operators take as [batch, length, heads·width]. Axis −1 is one that the tensor
// does not have, of size 1.
var (
	folded       = headLayout{0, -1, 1, 2}
	foldedTurned = headLayout{0, -1, 2, 1} // [batch·heads, width, length]
)

// isFolded reports whether batches and heads are in one axis all through the
// block: its result, or an operand, is not taken apart.
func (b *attnBlock) isFolded() bool {
	if !b.isFlat(b.context) {
		return false
	}
	n := soleReader(b.context.Output(0))
	if n == nil || !splitsHeads(b.facts, n) {
		return true
	}
	for _, h := range []attnHeads{b.q, b.k, b.v} {
		if len(b.facts.Shape(h.x)) != 4 {
			return true
		}
	}
	return false
}

// foldedOperands reads Q, K and V with batches and heads in one axis, and
// declines where scores or masks have them apart.
func (b *attnBlock) foldedOperands() error {
	if !b.isFlat(b.product) {
		return rewrite.Decline("batches and heads are in one axis behind the softmax and not before it")
	}
	for _, t := range b.terms {
		if !t.flat {
			return rewrite.Decline("batches and heads are in one axis but for the mask, which has them apart")
		}
	}
	b.folded, b.inputScale = true, 1
	b.q = foldedOperand(b.facts, b.product.Input(0), folded, &b.inputScale)
	b.k = foldedOperand(b.facts, b.product.Input(1), foldedTurned, &b.inputScale)
	b.v = foldedOperand(b.facts, b.context.Input(1), folded, nil)
	return nil
}

// foldedOperand follows v, which has the layout l, through factors of all
// elements, where factor is given, and exchanges of length and width.
func foldedOperand(facts *opset.Facts, v *onnx.Value, l headLayout, factor *float64) attnHeads {
	for n := v.Producer(); n != nil && n.Graph() != nil; n = v.Producer() {
		if isSwap(n) {
			l[2], l[3] = l[3], l[2]
			v = n.Input(0)
			continue
		}
		if factor == nil || !n.Is("Mul") && !n.Is("Div") {
			break
		}
		y, f, ok := scaledByNumber(facts, n)
		if !ok || len(facts.Shape(y)) != 3 {
			break
		}
		*factor *= f
		v = y
	}
	return attnHeads{headsAt: headsAt{v, l}, repeat: 1}
}

// flatHeads proposes h as [batch, length, heads·width] where nothing but an
// exchange of the last two axes is needed for it, nil elsewhere.
func (b *attnBlock) flatHeads(p *rewrite.Patch, h headsAt) *onnx.Value {
	switch h.how {
	case folded:
		return h.x
	case foldedTurned:
		return p.Add("Transpose", []*onnx.Value{h.x}, onnx.IntsAttr("perm", 0, 2, 1))
	}
	return h.flat(b.facts)
}

// apart returns the shape of a mask of the block as one of [batch, heads, rows, columns].
func (b *attnBlock) apart(s onnx.Shape) onnx.Shape {
	if b.folded && len(s) == 3 {
		return onnx.Shape{s[0], onnx.Fixed(1), s[1], s[2]}
	}
	return s
}

// unfolded returns the mask with an axis for the one head that there is beside
// batches and heads in one.
func (b *attnBlock) unfolded(p *rewrite.Patch) attnMask {
	k := b.mask
	if !b.folded {
		return k
	}
	lift := func(list []*onnx.Value) []*onnx.Value {
		var out []*onnx.Value
		for _, v := range list {
			out = append(out, b.lifted(p, v))
		}
		return out
	}
	k.keep, k.hide, k.add, k.fill = lift(k.keep), lift(k.hide), lift(k.add), nil
	for _, t := range b.mask.fill {
		t.cond = b.lifted(p, t.cond)
		k.fill = append(k.fill, t)
	}
	return k
}

// lifted proposes a mask [batch·heads, rows, columns] as [batch·heads, 1, rows, columns].
func (b *attnBlock) lifted(p *rewrite.Patch, v *onnx.Value) *onnx.Value {
	if len(b.facts.Shape(v)) != 3 {
		return v
	}
	return withAxis(p, b.version, v, 1)
}

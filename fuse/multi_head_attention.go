package fuse

import (
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// multiHeadAttention: the same as attention, as ONNX Runtime's own operator,
// which no opset is too early for. It has no softcap, no groups of heads and no
// answer for rows that their mask hides whole.
func multiHeadAttention(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: "multi-head-attention", Doc: "recognises attention as com.microsoft.MultiHeadAttention, for targets where one kernel pays",
		Pattern: "MatMul(p, v)",
		Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			b, err := ownBlock(t, m)
			if err != nil {
				return err
			}
			if err := t.offer(m, microsoft, "MultiHeadAttention", b.elem); err != nil {
				return err
			}
			return b.emitMultiHead(p)
		},
	}
}

// ownBlock reads a block of attention for an operator of the runtime's own. Where
// the target does without those, the rule is not about it.
func ownBlock(t *Target, m *rewrite.Match) (*attnBlock, error) {
	if !t.Own() || !t.GPU() {
		return nil, rewrite.ErrNotHere
	}
	return blockWithin(m)
}

// blockWithin reads a block of attention that gives nothing but its result, and
// has no number of columns for each batch.
func blockWithin(m *rewrite.Match) (*attnBlock, error) {
	b, err := findBlock(m.Facts, m.Root)
	if err != nil {
		return nil, err
	}
	switch {
	case b.asked != nil:
		return nil, rewrite.Decline("%q, scores or weights, is read elsewhere", b.asked.Name())
	case b.mask.nonpad != nil:
		return nil, rewrite.Decline("each batch has its own number of columns")
	}
	return b, b.ownMasks()
}

func (b *attnBlock) emitMultiHead(p *rewrite.Patch) error {
	in, attrs, err := b.multiHead(p, b.rows)
	if err != nil {
		return err
	}
	b.emitRows(p, p.AddNode(microsoft, "MultiHeadAttention", in, b.outputs(), attrs...))
	return nil
}

// multiHead proposes the inputs of MultiHeadAttention, of which rows gives query,
// key and value, and returns its attributes.
func (b *attnBlock) multiHead(p *rewrite.Patch, rows func(*rewrite.Patch, headsAt) *onnx.Value) ([]*onnx.Value, []*onnx.Attr, error) {
	q, k, added := b.q.shape(b.facts), b.k.shape(b.facts), b.k.fresh().shape(b.facts)
	switch {
	case b.softcap != 0:
		return nil, nil, rewrite.Decline("MultiHeadAttention has no softcap")
	case !q[1].Same(k[1]) || !q[1].Known():
		return nil, nil, rewrite.Decline("%v heads of the query share %v of the key", q[1], k[1])
	case b.mask.causal && (added == nil || !q[2].Same(added[2])): // ONNX Runtime hides nothing of the last row, and counts the others from the first column on
		return nil, nil, rewrite.Decline("MultiHeadAttention is causal for as many rows as new columns, and there are %v rows", q[2])
	case b.guarded && !b.mask.finite(b.facts):
		return nil, nil, rewrite.Decline("MultiHeadAttention has no weight of 0 for rows that are hidden whole")
	}
	in := make([]*onnx.Value, 8)
	for i, h := range []attnHeads{b.q, b.k, b.v} {
		if in[i] = rows(p, h.fresh()); in[i] == nil {
			return nil, nil, rewrite.Decline("the heads have no known width, or are not cut from rows")
		}
	}
	in[5] = b.bias(p)
	if b.k.past != nil {
		in[6], in[7] = b.k.past.x, b.v.past.x
	}
	attrs := []*onnx.Attr{onnx.IntAttr("num_heads", q[1].Value)}
	if b.mask.causal {
		attrs = append(attrs, onnx.IntAttr("unidirectional", 1))
	}
	return in, append(attrs, b.scaleAttr()...), nil
}

// finite reports whether no row can be hidden whole: nothing is hidden by −∞ but
// by causality.
func (k *attnMask) finite(facts *opset.Facts) bool {
	if len(k.keep)+len(k.hide) > 0 {
		return false
	}
	for _, v := range k.add {
		if !finiteValue(facts, v, 12) {
			return false
		}
	}
	for _, t := range k.fill {
		if math.IsInf(t.fill, 0) {
			return false
		}
	}
	return true
}

// finiteValue reports whether v is certain to hold finite numbers only.
func finiteValue(facts *opset.Facts, v *onnx.Value, depth int) bool {
	if v == nil || depth == 0 {
		return false
	}
	if t := v.Constant(); t != nil {
		return finiteConst(t)
	}
	n := v.Producer()
	if n == nil || onnx.NormalDomain(n.Domain) != "" {
		return false
	}
	switch n.Op {
	case "Cast":
		from, to := facts.DType(n.Input(0)), facts.DType(v)
		return from == onnx.Bool || from.IsInt() && (to == onnx.Float || to == onnx.Double)
	case "Where":
		c := n.Input(0).Producer()
		zero := c != nil && c.Is("Cast") && c.Input(0) == n.Input(2) // taken where it is 0
		return finiteValue(facts, n.Input(1), depth-1) && (zero || finiteValue(facts, n.Input(2), depth-1))
	case "Unsqueeze", "Squeeze", "Reshape", "Expand", "Slice", "Gather", "Transpose", "Identity":
		return finiteValue(facts, n.Input(0), depth-1)
	case "Sub", "Add":
		for i := range 2 {
			x, ok := filledWith(facts, n.Input(i))
			c := n.Input(1 - i).Producer()
			if ok && math.Abs(x) < 1e6 && c != nil && c.Is("Cast") && finiteValue(facts, n.Input(1-i), depth-1) {
				return true
			}
		}
	}
	return false
}

func finiteConst(t *onnx.Tensor) bool {
	if n, ok := t.Elements(); !ok || n > maxInspected || !t.DType.IsFloat() {
		return false
	}
	x, err := t.Float64s()
	for _, e := range x {
		if math.IsInf(e, 0) || math.IsNaN(e) {
			return false
		}
	}
	return err == nil
}

// scaleAttr returns the scale unless it is the default, one over the root of the width.
func (b *attnBlock) scaleAttr() []*onnx.Attr {
	if width := b.q.shape(b.facts)[3]; width.Known() && closeTo(b.scale, 1/math.Sqrt(float64(width.Value)), b.elem) {
		return nil
	}
	return []*onnx.Attr{onnx.FloatAttr("scale", float32(b.scale))}
}

// bias proposes the mask as numbers to add, [batch or 1, heads or 1, rows,
// columns]; nil where there is none.
func (b *attnBlock) bias(p *rewrite.Patch) *onnx.Value {
	all := b.unfolded(p)
	k := all
	k.keep, k.hide = nil, nil
	for _, v := range all.keep {
		k.fill = append(k.fill, maskTerm{cond: v, fill: math.Inf(-1), keep: true})
	}
	for _, v := range all.hide {
		k.fill = append(k.fill, maskTerm{cond: v, fill: math.Inf(-1)})
	}
	whole := *b
	whole.mask, whole.folded = k, false // the axis for heads is there
	v := whole.maskValue(p)
	if v == nil {
		return nil
	}
	if n := v.Producer(); n != nil && n.Graph() == nil {
		inferProposed(b.facts, n)
	}
	for rank := len(b.facts.Shape(v)); rank < 4; rank++ {
		v = withAxis(p, b.version, v, 0)
	}
	return v
}

// rows proposes h as [batch, length, heads·width], nil where the width is not known.
func (b *attnBlock) rows(p *rewrite.Patch, h headsAt) *onnx.Value {
	if v := b.flatHeads(p, h); v != nil {
		return v
	}
	s := h.shape(b.facts)
	if !s[1].Known() || !s[3].Known() {
		return nil
	}
	v := headsAt{h.x, headLayout{h.how[0], h.how[2], h.how[1], h.how[3]}}.value(p)
	return p.Add("Reshape", []*onnx.Value{v, p.Const(onnx.FromInts("rows", []int64{3}, []int64{0, 0, s[1].Value * s[3].Value}))})
}

// emitRows lets n, whose first output is [batch, length, heads·width], take the
// place of the block.
func (b *attnBlock) emitRows(p *rewrite.Patch, n *onnx.Node) {
	if out := b.merged(); out != nil {
		p.Swap(out, n.Output(0))
	} else {
		cut := []int64{0, 0, b.q.shape(b.facts)[1].Value, -1}
		y := p.Add("Reshape", []*onnx.Value{n.Output(0), p.Const(onnx.FromInts("cut", []int64{4}, cut))})
		p.Swap(b.result, p.Add("Transpose", []*onnx.Value{y}, onnx.IntsAttr("perm", byToken[:]...)))
	}
	b.swapOthers(p, n)
	b.swapShapes(p)
}

package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// groupQueryAttention: causal attention whose heads share keys and values, with
// or without a cache, as ONNX Runtime's own operator.
func groupQueryAttention(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: "group-query-attention", Doc: "recognises causal attention over groups of heads as com.microsoft.GroupQueryAttention, for targets where one kernel pays",
		Pattern: "MatMul(p, v)",
		Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			b, err := ownBlock(t, m)
			if err != nil {
				return err
			}
			if err := t.offer(m, microsoft, "GroupQueryAttention", b.elem); err != nil {
				return err
			}
			return b.emitGroups(p)
		},
	}
}

func (b *attnBlock) emitGroups(p *rewrite.Patch) error {
	q, k, v := b.q.shape(b.facts), b.k.shape(b.facts), b.v.shape(b.facts)
	switch { // one row, the last, is causal without a mask
	case !b.mask.causal && !isOne(q[2]) || len(b.mask.keep)+len(b.mask.hide)+len(b.mask.add)+len(b.mask.fill) > 0:
		return rewrite.Decline("GroupQueryAttention is causal, and has no other mask")
	case !q[1].Known() || !k[1].Known() || !q[3].Known() || !v[3].Same(q[3]):
		return rewrite.Decline("the heads are %v and %v of width %v and %v", q[1], k[1], q[3], v[3])
	case q[3].Value%8 != 0:
		return rewrite.Decline("the width %d of the heads is not a multiple of 8", q[3].Value)
	case b.k.past != nil && !isOne(q[2]) && !isOne(q[0]):
		return rewrite.Decline("with a cache the kernel takes one batch or one row, not %v and %v", q[0], q[2])
	case b.k.past == nil && !q[2].Same(k[2]):
		return rewrite.Decline("without a cache, %v rows see %v columns", q[2], k[2])
	}
	in := make([]*onnx.Value, 7)
	for i, h := range []attnHeads{b.q, b.k, b.v} {
		in[i] = b.rows(p, h.fresh())
	}
	if b.k.past != nil {
		in[3], in[4] = b.k.past.x, b.v.past.x
	}
	in[5], in[6] = b.lengths(p)
	attrs := []*onnx.Attr{onnx.IntAttr("num_heads", q[1].Value), onnx.IntAttr("kv_num_heads", k[1].Value)}
	attrs = append(attrs, b.scaleAttr()...)
	if b.softcap != 0 {
		attrs = append(attrs, onnx.FloatAttr("softcap", float32(b.softcap)))
	}
	b.emitRows(p, p.AddNode(microsoft, "GroupQueryAttention", in, 3, attrs...))
	return nil
}

func isOne(d onnx.Dim) bool { return d.Known() && d.Value == 1 }

// lengths proposes what the operator asks about the sequence: for each batch the
// number of columns less one, int32 [batch], and the number of columns, int32.
func (b *attnBlock) lengths(p *rewrite.Patch) (less, total *onnx.Value) {
	size := func(h headsAt, axis int) *onnx.Value { return b.size(p, h, axis) }
	n := size(b.k.fresh(), 2)
	if b.k.past != nil {
		n = p.Add("Add", []*onnx.Value{n, size(*b.k.past, 2)})
	}
	n32 := p.Add("Cast", []*onnx.Value{n}, onnx.IntAttr("to", int64(onnx.Int32)))
	one, _ := onnx.FromFloat64s("one", onnx.Int32, []int64{1}, []float64{1})
	less = p.Add("Expand", []*onnx.Value{p.Add("Sub", []*onnx.Value{n32, p.Const(one)}), size(b.q.headsAt, 0)})
	return less, withoutAxis(p, b.version, n32, 0)
}

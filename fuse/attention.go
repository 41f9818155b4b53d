package fuse

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// attention: scaled dot-product attention, found by what it computes. Scale and
// softcap may stand anywhere between the inputs and the softmax, masks may be
// added or put in, causal ones be spelled out, keys and values be repeated for
// groups of heads or come after a cache. A row that its mask hides whole is NaN
// where nothing guards it, and 0 as the operator has it; nothing else differs.
func attention(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: "attention", Doc: "recognises scaled dot-product attention, with masks, softcap, grouped heads and cache, as Attention",
		Pattern: "MatMul(p, v)",
		Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			b, err := findBlock(m.Facts, m.Root)
			if err != nil {
				return err
			}
			if t.Name == "ort-cpu" {
				return rewrite.Decline("on the CPU the runtime computes the parts as fast, but where query, key and value are products of one input (packed-attention)")
			}
			if err := t.offer(m, "", "Attention", b.elem); err != nil {
				return err
			}
			if t.Own() {
				if err := b.ownMasks(); err != nil {
					return err
				}
			}
			b.emit(p)
			return nil
		},
	}
}

// emit proposes Attention: over [batch, length, heads·width] where that is what
// the heads are cut from and put together to, else over heads.
func (b *attnBlock) emit(p *rewrite.Patch) {
	var attrs []*onnx.Attr
	in := make([]*onnx.Value, 7)
	out := b.result
	if flat, merged := b.flat(p); merged != nil {
		copy(in, flat[:])
		out = merged
		attrs = append(attrs, onnx.IntAttr("q_num_heads", b.q.shape(b.facts)[1].Value), onnx.IntAttr("kv_num_heads", b.k.shape(b.facts)[1].Value))
	} else {
		for i, h := range []attnHeads{b.q, b.k, b.v} {
			in[i] = h.fresh().value(p)
		}
	}
	in[3] = b.maskValue(p)
	if b.k.past != nil {
		in[4], in[5] = b.k.past.x, b.v.past.x
	}
	in[6] = b.mask.nonpad
	n := p.AddNode("", "Attention", in, b.outputs(), append(attrs, b.attrs()...)...)
	for i := 1; i < 3 && b.k.past == nil && len(n.Outputs()) > i; i++ {
		if err := n.DropOutput(i); err != nil {
			panic("fuse: " + err.Error()) // nothing reads a proposed node yet
		}
	}
	p.Swap(out, n.Output(0))
	b.swapOthers(p, n)
	b.swapShapes(p)
}

// fresh is what of h does not come from a cache.
func (h attnHeads) fresh() headsAt {
	if h.past != nil {
		return h.next
	}
	return h.headsAt
}

// flat returns query, key and value as [batch, length, heads·width], and the
// value that puts the heads of the result together; nil if there is no such form.
func (b *attnBlock) flat(p *rewrite.Patch) (in [3]*onnx.Value, merged *onnx.Value) {
	for i, h := range []attnHeads{b.q, b.k, b.v} {
		if in[i] = b.flatHeads(p, h.fresh()); in[i] == nil {
			return in, nil
		}
	}
	return in, b.merged()
}

// merged returns the value [batch, length, heads·width] that the result of the
// block becomes, nil if it does not or is read otherwise.
func (b *attnBlock) merged() *onnx.Value {
	if b.folded {
		return b.result
	}
	t := soleReader(b.result)
	if t == nil || !t.Is("Transpose") || headLayout(permOf4(t.Ints("perm", nil))) != byToken {
		return nil
	}
	r := soleReader(t.Output(0))
	if r == nil || !r.Is("Reshape") {
		return nil
	}
	in, out := b.facts.Shape(t.Output(0)), b.facts.Shape(r.Output(0))
	if !joins(in, out) {
		return nil
	}
	return r.Output(0)
}

// permOf4 returns the four entries of a permutation, a wrong one for other lengths.
func permOf4(perm []int64) []int64 {
	if len(perm) != 4 {
		return make([]int64, 4)
	}
	return perm
}

// soleReader returns the only node that reads v, nil if v is an output or is
// read by none or by several.
func soleReader(v *onnx.Value) *onnx.Node {
	if v.IsOutput() || len(v.Uses()) != 1 {
		return nil
	}
	return v.Uses()[0].Node
}

// outputs returns how many outputs the operator needs.
func (b *attnBlock) outputs() int {
	switch {
	case b.asked != nil:
		return 4
	case b.k.past != nil:
		return 3
	}
	return 1
}

// attrs returns the attributes that are not at their default.
func (b *attnBlock) attrs() []*onnx.Attr {
	var out []*onnx.Attr
	if b.mask.causal {
		out = append(out, onnx.IntAttr("is_causal", 1))
	}
	out = append(out, b.scaleAttr()...)
	if b.softcap != 0 {
		out = append(out, onnx.FloatAttr("softcap", float32(b.softcap)))
	}
	if b.precision != b.elem && b.precision != onnx.Undefined {
		out = append(out, onnx.IntAttr("softmax_precision", int64(b.precision)))
	}
	if b.asked != nil && b.mode != 0 {
		out = append(out, onnx.IntAttr("qk_matmul_output_mode", b.mode))
	}
	return out
}

// swapOthers lets the operator's other outputs take the places of the grown
// cache and of the scores that are read elsewhere.
func (b *attnBlock) swapOthers(p *rewrite.Patch, n *onnx.Node) {
	if b.k.past != nil {
		for i, h := range []attnHeads{b.k, b.v} {
			if h.how == byHead {
				p.Swap(h.x, n.Output(1+i))
				continue
			}
			for _, u := range h.x.Uses() {
				if !b.inner[u.Node] {
					p.Swap(u.Node.Output(0), n.Output(1+i))
				}
			}
		}
	}
	if b.asked != nil {
		scores := n.Output(3)
		if b.folded {
			scores = withoutAxis(p, b.version, scores, 1)
		}
		p.Swap(b.asked, scores)
	}
}

// attentionNotice says how many of the attention blocks became one operator, and
// why the others did not.
func attentionNotice(log *rewrite.Log) {
	fused, reasons := 0, map[string]int{}
	for _, f := range log.Fired {
		if isAttentionRule(f.Rule) || f.Rule == "packed-attention" && strings.HasSuffix(f.Node, "(MatMul)") {
			fused++
		}
	}
	seen := map[string]bool{}
	var order []string
	for _, d := range log.Declined {
		if !isAttentionRule(d.Rule) || seen[d.Graph+"\x00"+d.Node] {
			continue
		}
		seen[d.Graph+"\x00"+d.Node] = true
		if reasons[d.Reason]++; reasons[d.Reason] == 1 {
			order = append(order, d.Reason)
		}
	}
	if len(seen) == 0 {
		return
	}
	var why []string
	for _, r := range order {
		why = append(why, fmt.Sprintf("%s (%d)", r, reasons[r]))
	}
	log.Notice("%d of %d attention blocks fused; not the others, because: %s", fused, fused+len(seen), strings.Join(why, "; "))
}

func isAttentionRule(name string) bool { return slices.Contains(attentionRules, name) }

// attentionRules are the rules about blocks of attention: the first one's
// refusals stand for a block that none of them fuses.
var attentionRules = []string{"attention", "multi-head-attention", "group-query-attention"}

package fuse

import (
	"bytes"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// embedLayerNorm: the norm of embeddings of words, positions and, where there
// are, segments is one operator of ONNX Runtime's own.
func embedLayerNorm(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: "embed-layer-norm", Doc: "recognises the norm of summed embeddings as com.microsoft.EmbedLayerNormalization",
		Pattern: "LayerNormalization(sum=Add(a, b), g, beta)",
		Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			if !t.Own() {
				return rewrite.ErrNotHere
			}
			parts := embeddings(m)
			if len(parts) != 2 && len(parts) != 3 {
				return rewrite.ErrNotHere
			}
			if !isLast(m.Facts, m.Root, m.Root.Int("axis", -1)) {
				return rewrite.Decline("the norm runs over axis %d", m.Root.Int("axis", -1))
			}
			if err := t.offer(m, microsoft, "EmbedLayerNormalization", m.Facts.DType(m.Value("a"))); err != nil {
				return err
			}
			return emitEmbeddings(m, p, parts)
		},
	}
}

// embedding is rows of a table, by number.
type embedding struct {
	table *onnx.Value // [count, width]; with no rows the rows themselves, [1, length, width]
	rows  *onnx.Value // integers [batch or 1, length]
}

// fixed reports whether e is the same for all batches.
func (e embedding) fixed(m *rewrite.Match) bool {
	return e.rows == nil || isOne(m.Facts.Shape(e.rows)[0])
}

// embeddings returns the embeddings whose sum the matched Add is, nil if it is of
// anything else.
func embeddings(m *rewrite.Match) []embedding {
	var out []embedding
	open := []*onnx.Value{m.Value("a"), m.Value("b")}
	for len(open) > 0 && len(open)+len(out) <= 3 {
		v := open[0]
		open = open[1:]
		n := v.Producer()
		switch {
		case oneForAll(v.Constant()):
			out = append(out, embedding{v, nil})
		case n == nil:
			return nil
		case n.Is("Add") && soleReader(v) != nil:
			open = append(open, n.Input(0), n.Input(1))
		case n.Is("Gather") && n.Int("axis", 0) == 0 && n.Input(0).Constant() != nil &&
			len(n.Input(0).Constant().Shape) == 2 && len(m.Facts.Shape(n.Input(1))) == 2:
			out = append(out, embedding{n.Input(0), n.Input(1)})
		default:
			return nil
		}
	}
	if len(open) > 0 {
		return nil
	}
	return out
}

// oneForAll reports whether t is rows [batch, length, width] that are the same for
// each batch.
func oneForAll(t *onnx.Tensor) bool {
	if t == nil || len(t.Shape) != 3 || t.Shape[0] < 1 {
		return false
	}
	b, err := t.Bytes()
	if err != nil {
		return false
	}
	n := len(b) / int(t.Shape[0])
	for i := n; i < len(b); i += n {
		if !bytes.Equal(b[:n], b[i:i+n]) {
			return false
		}
	}
	return true
}

// tableOf proposes rows that are the same for all batches as a table.
func tableOf(p *rewrite.Patch, v *onnx.Value) *onnx.Value {
	t := v.Constant()
	b, err := t.Bytes()
	if err != nil {
		return v
	}
	c, err := onnx.NewTensor(t.Name, t.DType, t.Shape[1:], b[:len(b)/int(t.Shape[0])])
	if err != nil {
		return v
	}
	return p.Const(c)
}

// emitEmbeddings proposes the operator. Any of the embeddings may take any of its
// places, but only that of positions may be the same for all batches.
func emitEmbeddings(m *rewrite.Match, p *rewrite.Patch, parts []embedding) error {
	last := slices.IndexFunc(parts, func(e embedding) bool { return e.rows != nil && countsUp(m, e.rows) })
	if last < 0 {
		last = slices.IndexFunc(parts, func(e embedding) bool { return e.fixed(m) })
	}
	if last < 0 {
		last = 0
		for i, e := range parts { // the longest table is that of words
			if e.table.Constant().Shape[0] < parts[last].table.Constant().Shape[0] {
				last = i
			}
		}
		if len(parts) == 3 {
			last = secondLongest(parts)
		}
	}
	place := parts[last]
	others := slices.Delete(slices.Clone(parts), last, last+1)
	slices.SortStableFunc(others, func(a, b embedding) int { return int(b.table.Constant().Shape[0] - a.table.Constant().Shape[0]) })
	if others[0].rows == nil {
		return rewrite.Decline("two of the embeddings are constant")
	}
	shape := m.Facts.Shape(others[0].rows)
	for _, e := range others {
		if e.rows == nil {
			return rewrite.Decline("two of the embeddings are constant")
		}
		s := m.Facts.Shape(e.rows)
		if isOne(s[0]) && !isOne(shape[0]) || !s[0].Same(shape[0]) || !s[1].Same(shape[1]) {
			return rewrite.Decline("the rows have shapes %v and %v", shape, s)
		}
	}
	if place.rows == nil {
		if t := place.table.Constant(); !onnx.Fixed(t.Shape[1]).Same(shape[1]) || t.Shape[0] != 1 && !onnx.Fixed(t.Shape[0]).Same(shape[0]) {
			return rewrite.Decline("the positions have shape %s and the words %v", dims(t.Shape), shape)
		}
	} else if s := m.Facts.Shape(place.rows); !isOne(s[0]) && !s[0].Same(shape[0]) || mayGrow(shape[1], s[1]) || isOne(s[1]) && !isOne(shape[1]) {
		return rewrite.Decline("the positions have shape %v and the words %v", s, shape)
	}
	in := make([]*onnx.Value, 9)
	in[0], in[2] = number32(m, p, others[0].rows), others[0].table
	if len(others) == 2 {
		in[1], in[4] = number32(m, p, others[1].rows), others[1].table
	}
	if in[3] = place.table; place.rows == nil {
		in[3] = tableOf(p, place.table)
	} else if !countsUp(m, place.rows) { // which is what the operator does without
		in[8] = number32(m, p, place.rows)
	}
	in[5], in[6] = m.Value("g"), m.Value("beta")
	sum, outputs := m.Node("sum").Output(0), 2 // the runtime wants its mask index to be there
	if len(sum.Uses()) > 1 || sum.IsOutput() {
		outputs = 3
	}
	n := p.AddNode(microsoft, "EmbedLayerNormalization", in, outputs, onnx.FloatAttr("epsilon", m.Root.Float("epsilon", 1e-5)))
	p.Swap(m.Root.Output(0), n.Output(0))
	if outputs == 3 {
		p.Swap(sum, n.Output(2))
	}
	return nil
}

// countsUp reports whether v is 0, 1, 2, … along the last axis.
func countsUp(m *rewrite.Match, v *onnx.Value) bool {
	f, ok := formOf(m.Facts, v)
	return ok && f.per == nil && f.fixed == 0 && len(f.sizes) == 0 && len(f.index) == 1 && f.index[0] == 1
}

// secondLongest returns the index of the table of middle length.
func secondLongest(parts []embedding) int {
	order := []int{0, 1, 2}
	slices.SortStableFunc(order, func(i, j int) int {
		return int(parts[i].table.Constant().Shape[0] - parts[j].table.Constant().Shape[0])
	})
	return order[1]
}

// number32 proposes v as int32.
func number32(m *rewrite.Match, p *rewrite.Patch, v *onnx.Value) *onnx.Value {
	if n := v.Producer(); n != nil && n.Is("Cast") && m.Facts.DType(n.Input(0)) == onnx.Int32 {
		return n.Input(0)
	}
	if m.Facts.DType(v) == onnx.Int32 {
		return v
	}
	return p.Add("Cast", []*onnx.Value{v}, onnx.IntAttr("to", int64(onnx.Int32)))
}

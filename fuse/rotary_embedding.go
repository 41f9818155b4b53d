package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// rotaryEmbedding: pairs of elements turned by angles that depend on the
// position (Su et al., RoFormer, 2021): halves or neighbours, all or the first
// elements of a head, angles looked up or computed. The runtimes' own operator
// takes its place where the opset has none.
func rotaryEmbedding(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: "rotary-embedding", Doc: "recognises rotary position embeddings, of halves or of neighbours, as RotaryEmbedding",
		Pattern: "Add|Concat(a, b)",
		Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			r, err := findTurning(m.Facts, m.Root)
			if err != nil {
				return err
			}
			l, err := r.layout()
			if err != nil {
				return err
			}
			elem := m.Facts.DType(r.x)
			err = t.offer(m, "", "RotaryEmbedding", elem)
			if err == nil {
				return r.emit(p, l, "")
			}
			if t.Own() {
				if err = t.offer(m, microsoft, "RotaryEmbedding", elem); err == nil {
					return r.emit(p, l, microsoft)
				}
			}
			return err
		},
	}
}

// microsoft is the domain of ONNX Runtime's own operators.
const microsoft = "com.microsoft"

// emit proposes the operator of a domain over [batch, heads, length, width], or
// over [batch, length, heads·width] where x is cut from that and joined again.
func (r *turning) emit(p *rewrite.Patch, l headLayout, domain string) error {
	cos, sin, places, err := r.caches(p, l)
	if err != nil {
		return err
	}
	if domain == microsoft && places == nil {
		if cos, sin, places, err = r.numbered(p, cos, sin, l); err != nil {
			return err
		}
	} else if places == nil {
		cos, sin = r.perBatch(p, cos), r.perBatch(p, sin)
	}
	h, out := r.ends(l)
	flat := h.how == byToken && h.flat(r.facts) != nil
	var in *onnx.Value
	var attrs []*onnx.Attr
	joined := joinedOutput(r.facts, out)
	if flat && joined != nil {
		in, out = h.flat(r.facts), joined
		attrs = append(attrs, onnx.IntAttr("num_heads", h.shape(r.facts)[1].Value))
	} else {
		flat, in = false, h.value(p)
	}
	if r.strided {
		attrs = append(attrs, onnx.IntAttr("interleaved", 1))
	}
	if r.width != lastDim(r.facts, r.x) {
		attrs = append(attrs, onnx.IntAttr("rotary_embedding_dim", r.width))
		if !flat && domain == microsoft {
			attrs = append(attrs, onnx.IntAttr("num_heads", h.shape(r.facts)[1].Value))
		}
	}
	args := []*onnx.Value{in, cos, sin, places}
	if domain == microsoft {
		args = []*onnx.Value{in, places, cos, sin}
	}
	y := p.AddNode(domain, "RotaryEmbedding", args, 1, attrs...).Output(0)
	if !flat && h.how == byToken {
		y = p.Add("Transpose", []*onnx.Value{y}, onnx.IntsAttr("perm", byToken[:]...))
	}
	p.Swap(out, y)
	return nil
}

// ends returns x and the output, with Transposes on both sides taken in where
// they lead to [batch, heads, length, width].
func (r *turning) ends(l headLayout) (headsAt, *onnx.Value) {
	h := headsAt{r.x, l}
	n, after := r.x.Producer(), soleReader(r.out)
	if l == byToken && n != nil && n.Is("Transpose") && headLayout(permOf4(n.Ints("perm", nil))) == byToken &&
		after != nil && after.Is("Transpose") && headLayout(permOf4(after.Ints("perm", nil))) == byToken {
		return headsAt{n.Input(0), byHead}, after.Output(0)
	}
	return h, r.out
}

// joinedOutput returns the value [batch, length, heads·width] that v becomes, nil if it does not.
func joinedOutput(facts *opset.Facts, v *onnx.Value) *onnx.Value {
	n := soleReader(v)
	if n == nil || !n.Is("Reshape") || !joins(facts.Shape(v), facts.Shape(n.Output(0))) {
		return nil
	}
	return n.Output(0)
}

// caches returns cosines and sines of half the width: tables [positions, width/2]
// with the positions [batch, length] to look up, or, without positions,
// [batch or 1, length, width/2].
func (r *turning) caches(p *rewrite.Patch, l headLayout) (cos, sin, places *onnx.Value, err error) {
	c, s := r.peeled(r.cos), r.peeled(r.sin)
	if t1, i1 := r.lookup(c); t1 != nil {
		if t2, i2 := r.lookup(s); t2 != nil && i1 == i2 && r.facts.Shape(t1).Equal(r.facts.Shape(t2)) {
			c, s, places = t1, t2, i1
		}
	}
	if r.doubled {
		if c, s = r.half(p, c, 12), r.half(p, s, 12); c == nil || s == nil {
			return nil, nil, nil, rewrite.Decline("the halves of cosines or sines are not known to be equal")
		}
	}
	if places == nil {
		c, s = r.withoutHeads(p, c, l), r.withoutHeads(p, s, l)
	}
	return c, s, places, nil
}

// peeled looks through axes of length 1 that are added, and slices of everything.
func (r *turning) peeled(v *onnx.Value) *onnx.Value {
	for n := v.Producer(); n != nil; n = v.Producer() {
		in, out := r.facts.Shape(n.Input(0)), r.facts.Shape(v)
		switch {
		case n.Is("Identity"), n.Is("Slice") && in.Ranked() && in.Equal(out):
		case n.Is("Unsqueeze") && len(in) >= 2 && in[len(in)-1].Same(out[len(out)-1]):
		default:
			return v
		}
		v = n.Input(0)
	}
	return v
}

// lookup returns the table [positions, width] and the positions [batch, length]
// that v is looked up from.
func (r *turning) lookup(v *onnx.Value) (table, places *onnx.Value) {
	n := v.Producer()
	if n == nil || !n.Is("Gather") || n.Int("axis", 0) != 0 || !settledNode(n) {
		return nil, nil
	}
	ids, x := r.facts.Shape(n.Input(1)), r.facts.Shape(r.x)
	if len(r.facts.Shape(n.Input(0))) != 2 || len(ids) != 2 || !ids[0].Same(x[0]) || r.facts.DType(n.Input(1)) != onnx.Int64 {
		return nil, nil
	}
	return n.Input(0), n.Input(1)
}

// half proposes the first half of v along the last axis, nil where the second is
// not known to equal it.
func (r *turning) half(p *rewrite.Patch, v *onnx.Value, depth int) *onnx.Value {
	if depth == 0 {
		return nil
	}
	if t := v.Constant(); t != nil {
		return constHalf(p, t)
	}
	n := v.Producer()
	if n == nil || onnx.NormalDomain(n.Domain) != "" || !settledNode(n) {
		return nil
	}
	if a, b, ok := concatLast(r.facts, n); ok {
		if a == b {
			return a
		}
		return nil
	}
	if !r.keepsLast(n) {
		return nil
	}
	i := 0
	if n.Is("Mul") {
		if _, first := numberOf(r.facts, n.Input(0)); first {
			i = 1
		}
	}
	x := r.half(p, n.Input(i), depth-1)
	if x == nil {
		return nil
	}
	in := append([]*onnx.Value(nil), n.Inputs()...)
	in[i] = x
	return p.AddNode("", n.Op, in, 1, n.Attrs...).Output(0)
}

// keepsLast reports whether what n computes along the last axis depends on its
// input at the same place only, in the same way at every place.
func (r *turning) keepsLast(n *onnx.Node) bool {
	switch n.Op {
	case "Cos", "Sin", "Cast", "Identity":
		return true
	case "Mul", "Div":
		_, _, ok := scaledByNumber(r.facts, n)
		return ok
	case "Unsqueeze":
		in, out := r.facts.Shape(n.Input(0)), r.facts.Shape(n.Output(0))
		return len(in) > 0 && len(out) > len(in) && in[len(in)-1].Same(out[len(out)-1]) && lastDim(r.facts, n.Output(0)) != 1
	case "Gather":
		return n.Int("axis", 0) == 0 && len(r.facts.Shape(n.Input(0))) >= 2
	case "Slice":
		axes, ok := r.facts.Ints(n.Input(3))
		rank := int64(len(r.facts.Shape(n.Input(0))))
		for _, a := range axes {
			ok = ok && a.Known && a.Value != -1 && a.Value != rank-1
		}
		return ok && len(axes) > 0
	}
	return false
}

// constHalf proposes the first half of a constant along the last axis, nil where
// the second differs.
func constHalf(p *rewrite.Patch, t *onnx.Tensor) *onnx.Value {
	n, ok := t.Elements()
	if !ok || len(t.Shape) == 0 || n > maxInspected {
		return nil
	}
	width := int(t.Shape[len(t.Shape)-1])
	x, err := t.Float64s()
	if err != nil || width%2 != 0 || width == 0 {
		return nil
	}
	var out []float64
	for row := 0; row < len(x); row += width {
		for i := range width / 2 {
			if x[row+i] != x[row+width/2+i] {
				return nil
			}
		}
		out = append(out, x[row:row+width/2]...)
	}
	shape := append([]int64(nil), t.Shape...)
	shape[len(shape)-1] = int64(width / 2)
	c, err := onnx.FromFloat64s(t.Name, t.DType, shape, out)
	if err != nil {
		return nil
	}
	return p.Const(c)
}

// withoutHeads proposes v without its axis of heads, of length 1 in layout l of
// as many axes as v has or would have.
func (r *turning) withoutHeads(p *rewrite.Patch, v *onnx.Value, l headLayout) *onnx.Value {
	if n := v.Producer(); n != nil && n.Graph() == nil {
		inferProposed(r.facts, n)
	}
	s := r.facts.Shape(v)
	axis := int(l[1]) - 4 + len(s)
	original := max(len(r.facts.Shape(r.cos)), len(r.facts.Shape(r.sin)))
	if len(s) < original || axis < 0 {
		return v // the axis of heads was added, and peeled off
	}
	return withoutAxis(p, r.version, v, int64(axis))
}

// perBatch proposes v [length, width/2] or [1, length, width/2] for every batch.
func (r *turning) perBatch(p *rewrite.Patch, v *onnx.Value) *onnx.Value {
	if n := v.Producer(); n != nil && n.Graph() == nil {
		inferProposed(r.facts, n)
	}
	s, batch := r.facts.Shape(v), r.facts.Shape(r.x)[0]
	if len(s) == 3 && s[0].Same(batch) {
		return v
	}
	if batch.Known() {
		return p.Add("Expand", []*onnx.Value{v, p.Const(onnx.FromInts("shape", []int64{3}, []int64{batch.Value, 1, 1}))})
	}
	n := axisSize(p, r.version, r.x, 0)
	ones := p.Const(onnx.FromInts("ones", []int64{2}, []int64{1, 1}))
	return p.Add("Expand", []*onnx.Value{v, p.Add("Concat", []*onnx.Value{n, ones}, onnx.IntAttr("axis", 0))})
}

// numbered makes tables of cosines and sines, one row for each position, or for
// each position of each batch, and the numbers of the rows to look up. It
// declines where the batches of cosines are not those of x.
func (r *turning) numbered(p *rewrite.Patch, cos, sin *onnx.Value, l headLayout) (c, s, places *onnx.Value, err error) {
	each := false
	tables := []*onnx.Value{cos, sin}
	for i, v := range tables {
		if n := v.Producer(); n != nil && n.Graph() == nil {
			inferProposed(r.facts, n)
		}
		switch shape := r.facts.Shape(v); {
		case len(shape) == 3 && shape[0].Known() && shape[0].Value == 1:
			tables[i] = withoutAxis(p, r.version, v, 0)
		case len(shape) == 3 && shape[0].Same(r.facts.Shape(r.x)[0]) && lastDim(r.facts, v) > 0:
			each = true
			rows := p.Const(onnx.FromInts("rows", []int64{2}, []int64{-1, lastDim(r.facts, v)}))
			tables[i] = p.Add("Reshape", []*onnx.Value{v, rows})
		case len(shape) != 2 || each:
			return nil, nil, nil, rewrite.Decline("the cosines have shape %v", shape)
		}
	}
	if !each {
		return tables[0], tables[1], p.Const(onnx.FromInts("positions", []int64{1}, []int64{0})), nil
	}
	number := func(x int64) *onnx.Value { return p.Const(onnx.FromInts("number", []int64{}, []int64{x})) }
	count := withoutAxis(p, r.version, axisSize(p, r.version, tables[0], 0), 0)
	all := p.Add("Range", []*onnx.Value{number(0), count, number(1)})
	shape := p.Add("Concat", []*onnx.Value{axisSize(p, r.version, r.x, 0), axisSize(p, r.version, r.x, l[2])}, onnx.IntAttr("axis", 0))
	return tables[0], tables[1], p.Add("Reshape", []*onnx.Value{all, shape}), nil
}

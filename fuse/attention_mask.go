package fuse

import (
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// maskTerm is one mask on the way from the product to the softmax.
type maskTerm struct {
	added *onnx.Value // what is added to the scores; nil: a Where puts fill in their place
	cond  *onnx.Value // Bool, of a Where
	fill  float64
	keep  bool // the scores stay where cond is true
	flat  bool // the scores that it meets have batches and heads in one axis
}

// attnMask is what all terms come to.
type attnMask struct {
	causal bool          // rows see columns up to their own, counted from the end of the past
	tail   bool          // causal, and rows are the last of the nonpad columns
	nonpad *onnx.Value   // int64 [batch]: how many columns there are; nil: all
	keep   []*onnx.Value // Bool: false hides
	hide   []*onnx.Value // Bool: true hides
	add    []*onnx.Value // numbers added to the scores
	fill   []maskTerm    // to be added: fill where cond says so, else 0
}

// Fills of masks. Added to a score, or put in its place, lowestFill gives the same
// float32, since scores below 1e22 vanish beside it. farFill gives a weight of 0 to
// all that it hides in a row that has anything else, since exp underflows.
const (
	lowestFill = -1e30
	farFill    = -1e4
)

// masks reads the terms of a block with the given lengths of query and past.
func (b *attnBlock) masks() error {
	var list []maskTerm
	for _, t := range b.terms {
		list = append(list, b.leaves(t)...)
	}
	for _, t := range list {
		if err := b.read(t, len(list) == 1); err != nil {
			return err
		}
	}
	if b.mask.causal && b.mask.nonpad != nil && !b.mask.tail {
		return rewrite.Decline("the mask is causal from the first column on and has a number of columns: the operator counts from the last")
	}
	return nil
}

// leaves takes a sum of masks apart where a part of it is of a kind that the
// operator computes by itself, and drops masks of zeros.
func (b *attnBlock) leaves(t maskTerm) []maskTerm {
	if b.spelled || b.asked != nil && b.mode == int64(maskedScores) {
		return []maskTerm{t} // who reads the masked scores wants these masks
	}
	if t.added == nil {
		return b.conjuncts(t)
	}
	t.added = b.unpadded(t.added)
	if x, ok := filledWith(b.facts, t.added); ok && x == 0 {
		return nil
	}
	n := t.added.Producer()
	if n == nil || !n.Is("Add") {
		return []maskTerm{t}
	}
	parts := append(b.leaves(maskTerm{added: n.Input(0)}), b.leaves(maskTerm{added: n.Input(1)})...)
	for _, p := range parts {
		if _, fill, ok := b.hidden(p.added); ok && math.IsInf(fill, -1) {
			return parts
		}
	}
	if len(parts) < 2 {
		return parts
	}
	return []maskTerm{t}
}

// unpadded looks through a Pad by nothing.
func (b *attnBlock) unpadded(v *onnx.Value) *onnx.Value {
	if n := v.Producer(); n != nil && n.Is("Pad") {
		if x, ok := filledWith(b.facts, n.Input(1)); ok && x == 0 {
			return n.Input(0)
		}
	}
	return v
}

// conjuncts splits a Where by a condition of several parts, where what it puts
// in is −∞: whichever part hides.
func (b *attnBlock) conjuncts(t maskTerm) []maskTerm {
	op := "And"
	if !t.keep {
		op = "Or"
	}
	n := t.cond.Producer()
	if n == nil || !n.Is(op) || !math.IsInf(t.fill, -1) {
		return []maskTerm{t}
	}
	l, r := t, t
	l.cond, r.cond = n.Input(0), n.Input(1)
	_, ok1 := conditionForm(b.facts, l.cond)
	_, ok2 := conditionForm(b.facts, r.cond)
	if !ok1 && !ok2 {
		return []maskTerm{t}
	}
	return append(b.conjuncts(l), b.conjuncts(r)...)
}

// read adds one term to the mask; alone says that there is no other.
func (b *attnBlock) read(t maskTerm, alone bool) error {
	if b.asked != nil && b.mode == int64(maskedScores) {
		if t.added == nil {
			return rewrite.Decline("the masked scores %q are read elsewhere, and the mask puts numbers in the place of scores", b.asked.Name())
		}
		b.mask.add = append(b.mask.add, t.added)
		return b.sameType(t.added)
	}
	d, fill, ok := b.hidden(t.added)
	if t.added == nil {
		fill = t.fill
		if d, ok = conditionForm(b.facts, t.cond); t.keep {
			d = d.negated()
		}
	}
	if ok && !b.spelled && (math.IsInf(fill, -1) || alone && fill <= farFill && d.per == nil) && b.computes(d) {
		return nil
	}
	switch {
	case t.added != nil:
		return b.readAdded(t)
	case math.IsInf(t.fill, -1) && t.keep:
		b.mask.keep = append(b.mask.keep, t.cond)
	case math.IsInf(t.fill, -1):
		b.mask.hide = append(b.mask.hide, t.cond)
	case t.fill <= lowestFill && b.facts.DType(t.cond) == onnx.Bool && (b.elem == onnx.Float || b.elem == onnx.Double):
		b.mask.fill = append(b.mask.fill, t)
	default:
		return rewrite.Decline("the mask puts %g in the place of scores: a row that is hidden whole would attend otherwise", t.fill)
	}
	return nil
}

// readAdded takes a mask that is added: by its condition where that is Bool and
// hides by −∞, else as it is.
func (b *attnBlock) readAdded(t maskTerm) error {
	if n := b.unpadded(throughCasts(t.added)).Producer(); n != nil && n.Is("Where") {
		if x, ok := filledWith(b.facts, n.Input(1)); ok && x == 0 {
			if y, ok := filledWith(b.facts, n.Input(2)); ok && math.IsInf(y, -1) {
				b.mask.keep = append(b.mask.keep, n.Input(0))
				return nil
			}
		}
	}
	b.mask.add = append(b.mask.add, t.added)
	return b.sameType(t.added)
}

// sameType declines where a mask that is added is not of the type of the scores.
func (b *attnBlock) sameType(v *onnx.Value) error {
	if d := b.facts.DType(v); d != b.elem {
		return rewrite.Decline("the mask %q is %v and the scores are %v", v.Name(), d, b.elem)
	}
	return nil
}

// hidden returns a form that is above 0 exactly where the mask v, which is added,
// is fill, being 0 elsewhere.
func (b *attnBlock) hidden(v *onnx.Value) (indexForm, float64, bool) { return hiddenIn(b.facts, v, 12) }

func hiddenIn(facts *opset.Facts, v *onnx.Value, depth int) (indexForm, float64, bool) {
	f, fill, ok := readHidden(facts, v, depth)
	return f.within(facts.Shape(v)), fill, ok
}

func readHidden(facts *opset.Facts, v *onnx.Value, depth int) (indexForm, float64, bool) {
	if v == nil || depth == 0 {
		return indexForm{}, 0, false
	}
	if t := v.Constant(); t != nil {
		return constHidden(t)
	}
	n := v.Producer()
	if n == nil || onnx.NormalDomain(n.Domain) != "" {
		return indexForm{}, 0, false
	}
	switch n.Op {
	case "Unsqueeze", "Squeeze", "Reshape", "Cast", "Identity", "Expand":
		f, fill, ok := hiddenIn(facts, n.Input(0), depth-1)
		if !ok {
			return indexForm{}, 0, false
		}
		if n.Op == "Expand" {
			f.rank = len(facts.Shape(v))
			return f, fill, true
		}
		f, ok = f.reshaped(facts.Shape(n.Input(0)), facts.Shape(v))
		return f, fill, ok
	case "Trilu":
		fill, ok := filledWith(facts, n.Input(0))
		if !ok {
			return indexForm{}, 0, false
		}
		f, ok := triluForm(facts, n)
		return f, fill, ok
	case "Where":
		return whereHidden(facts, n)
	}
	return indexForm{}, 0, false
}

func whereHidden(facts *opset.Facts, n *onnx.Node) (indexForm, float64, bool) {
	x, ok1 := filledWith(facts, n.Input(1))
	y, ok2 := filledWith(facts, n.Input(2))
	d, ok := conditionForm(facts, n.Input(0))
	switch {
	case !ok || !ok1 || !ok2:
		return indexForm{}, 0, false
	case y == 0:
		return d, x, true
	case x == 0:
		return d.negated(), y, true
	}
	return indexForm{}, 0, false
}

// constHidden reads a constant matrix that is 0 on one side of a diagonal and one number on the other.
func constHidden(t *onnx.Tensor) (indexForm, float64, bool) {
	x, rows, cols := constMatrix(t)
	fill := 0.0
	for _, e := range x {
		if e != 0 && fill == 0 {
			fill = e
		}
		if e != 0 && e != fill {
			return indexForm{}, 0, false
		}
	}
	if fill == 0 {
		return indexForm{}, 0, false
	}
	k, ok := diagonalOf(rows, cols, func(i, j int) bool { return x[i*cols+j] != 0 })
	return indexForm{rank: len(t.Shape), index: map[int]int64{0: 1, 1: -1}, fixed: int64(1 - k)}, fill, ok
}

// computes reports whether the operator hides by itself where d is above 0, and
// then takes it into the mask: columns after the row's own, or from a number of
// columns on that each batch has.
func (b *attnBlock) computes(d indexForm) bool {
	switch {
	case b.isNonpad(d):
		b.mask.nonpad = d.per
	case b.isCausal(d):
		b.mask.causal = true
		if b.mask.tail = d.per != nil; b.mask.tail {
			b.mask.nonpad = d.per
		}
	default:
		return false
	}
	return true
}

// isNonpad: column + 1 − n[batch] > 0.
func (b *attnBlock) isNonpad(d indexForm) bool {
	return d.per != nil && d.sign == -1 && perBatch(d) && d.fixed == 1 && len(d.sizes) == 0 &&
		len(d.index) == 1 && d.index[0] == 1 && b.canPad(d.per)
}

// perBatch reports whether the vector of d has an element for each batch.
func perBatch(d indexForm) bool { return d.along == 3 || d.along == anyAxis }

// canPad reports whether n can be the operator's number of columns.
func (b *attnBlock) canPad(n *onnx.Value) bool {
	batch, length := b.q.shape(b.facts)[0], b.facts.Shape(n)
	return b.version >= 24 && b.k.past == nil && len(length) == 1 && length[0].Same(batch) && b.facts.DType(n) == onnx.Int64 && (b.mask.nonpad == nil || b.mask.nonpad == n)
}

// isCausal: column − row − past > 0, or column − row + length − n[batch] > 0.
func (b *attnBlock) isCausal(d indexForm) bool {
	row, length := d.index[1], b.q.shape(b.facts)[2]
	if !(d.index[0] == 1 && (row == -1 && len(d.index) == 2 || row == 0 && len(d.index) == 1 && length.Known() && length.Value == 1)) {
		return false
	}
	want := indexForm{}
	switch {
	case d.per != nil:
		if !perBatch(d) || d.sign != -1 || !b.canPad(d.per) {
			return false
		}
		want = sizeOf(length, 1)
	case b.k.past != nil:
		want = sizeOf(b.k.past.shape(b.facts)[2], -1)
	}
	diff, ok := want.plus(indexForm{fixed: d.fixed, sizes: d.sizes}, -1)
	return ok && diff.fixed == 0 && len(diff.sizes) == 0
}

// sizeOf is the form k·d; an unknown size is one that nothing equals.
func sizeOf(d onnx.Dim, k int64) indexForm {
	if d.Known() {
		return indexForm{fixed: k * d.Value}
	}
	return indexForm{sizes: map[string]int64{d.Param: k}}
}

// inputs returns the values that the operator's mask is made of.
func (k *attnMask) inputs() []*onnx.Value {
	out := slices.Concat(k.keep, k.hide, k.add)
	for _, t := range k.fill {
		out = append(out, t.cond)
	}
	return out
}

// maskValue proposes the operator's mask over all rows and columns, which the
// runtime wants spelled out; nil where there is none.
func (b *attnBlock) maskValue(p *rewrite.Patch) *onnx.Value {
	mask := b.unfolded(p)
	v := mask.value(p, b.elem)
	if v == nil {
		return nil
	}
	if n := v.Producer(); n != nil && n.Graph() == nil {
		inferProposed(b.facts, n)
	}
	s, rows, cols := b.facts.Shape(v), b.q.shape(b.facts)[2], b.k.shape(b.facts)[2]
	if n := len(s); n >= 2 && s[n-2].Same(rows) && s[n-1].Same(cols) {
		return v
	}
	size := func(d onnx.Dim, of attnHeads) *onnx.Value {
		if d.Known() {
			return p.Const(onnx.FromInts("size", []int64{1}, []int64{d.Value}))
		}
		return b.size(p, of.headsAt, 2)
	}
	if rows.Known() && cols.Known() {
		return p.Add("Expand", []*onnx.Value{v, p.Const(onnx.FromInts("mask_shape", []int64{2}, []int64{rows.Value, cols.Value}))})
	}
	shape := p.Add("Concat", []*onnx.Value{size(rows, b.q), size(cols, b.k)}, onnx.IntAttr("axis", 0))
	return p.Add("Expand", []*onnx.Value{v, shape})
}

// inferProposed finds the types of proposed nodes from which n computes.
func inferProposed(facts *opset.Facts, n *onnx.Node) {
	for _, v := range n.Inputs() {
		if v == nil {
			continue
		}
		if q := v.Producer(); q != nil && q.Graph() == nil {
			inferProposed(facts, q)
		}
	}
	facts.Infer(n)
}

// value proposes the operator's mask: Bool, or numbers that are added.
func (k *attnMask) value(p *rewrite.Patch, elem onnx.DType) *onnx.Value {
	if len(k.add) == 0 && len(k.fill) == 0 {
		return k.condition(p)
	}
	sum := k.add
	for _, t := range k.fill {
		sum = append(sum, filling(p, t, elem))
	}
	if c := k.condition(p); c != nil {
		sum = append(sum, filling(p, maskTerm{cond: c, fill: math.Inf(-1), keep: true}, elem))
	}
	out := sum[0]
	for _, v := range sum[1:] {
		out = p.Add("Add", []*onnx.Value{out, v})
	}
	return out
}

// condition proposes what must hold for a column to be seen; nil: nothing.
func (k *attnMask) condition(p *rewrite.Patch) *onnx.Value {
	all := k.keep
	for _, v := range k.hide {
		all = append(all, p.Add("Not", []*onnx.Value{v}))
	}
	if len(all) == 0 {
		return nil
	}
	out := all[0]
	for _, v := range all[1:] {
		out = p.Add("And", []*onnx.Value{out, v})
	}
	return out
}

// filling proposes a mask to be added: the fill of t where its condition says so.
func filling(p *rewrite.Patch, t maskTerm, elem onnx.DType) *onnx.Value {
	number := func(x float64) *onnx.Value {
		c, err := onnx.FromFloat64s("mask", elem, []int64{}, []float64{x})
		if err != nil {
			panic("fuse: a mask of type " + elem.String())
		}
		return p.Const(c)
	}
	in := []*onnx.Value{t.cond, number(t.fill), number(0)}
	if t.keep {
		in[1], in[2] = in[2], in[1]
	}
	return p.Add("Where", in)
}

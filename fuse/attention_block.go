package fuse

import (
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// attnBlock is softmax(softcap(scale·Q·Kᵀ) + mask)·V, as the dataflow around the
// second product has it.
type attnBlock struct {
	facts   *opset.Facts
	version int64       // of the standard operators
	elem    onnx.DType  // of Q, K and V
	context *onnx.Node  // the product with V
	result  *onnx.Value // [batch, heads, rows, width]
	product *onnx.Node  // the product of Q and Kᵀ
	inner   map[*onnx.Node]bool
	passed  []passedScore // values between the products, from the last to the first

	q, k, v    attnHeads
	scale      float64    // what Q·Kᵀ is multiplied by
	inputScale float64    // what of that is in the inputs of the product
	softcap    float64    // 0: none
	precision  onnx.DType // element type of the softmax
	guarded    bool       // rows without any column have weight 0 instead of NaN
	terms      []maskTerm
	mask       attnMask

	shapes []*onnx.Node // which ask for the shape of scores
	asked  *onnx.Value  // the one value in between that is read elsewhere, nil if none
	mode   int64        // which one it is, as qk_matmul_output_mode
}

// passedScore is a value between the products and how far the scores are there.
type passedScore struct {
	v     *onnx.Value
	stage scoreStage
}

// scoreStage numbers what attention can be asked for beside its result.
type scoreStage int

const (
	unnamedScores scoreStage = iota - 1
	scaledScores
	cappedScores
	maskedScores
	softWeights
)

// findBlock reads the block whose second product is n. It fails with
// [rewrite.ErrNotHere] where n is no such product, and declines where it is one
// of a kind that cannot be told for certain.
func findBlock(facts *opset.Facts, n *onnx.Node) (*attnBlock, error) {
	b := &attnBlock{facts: facts, version: n.OpsetVersion(""), context: n, scale: 1, inner: map[*onnx.Node]bool{n: true}}
	soft := b.toSoftmax()
	if soft == nil || !reachesProduct(soft.Input(0), 24) {
		return nil, rewrite.ErrNotHere
	}
	for _, step := range []func() error{
		func() error { return b.checkSoftmax(soft) },
		func() error { return b.toProduct(soft.Input(0)) },
		b.operands,
		b.agree,
		b.fills,
		b.ends,
		b.guards,
		b.readElsewhere,
		b.masks,
		b.checkCache,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// toSoftmax walks from the weights of the second product up to the softmax,
// nil where there is none.
func (b *attnBlock) toSoftmax() *onnx.Node {
	v := b.context.Input(0)
	for range 8 {
		n := v.Producer()
		if n == nil || n.Graph() == nil {
			return nil
		}
		b.inner[n] = true
		b.passed = append(b.passed, passedScore{v, softWeights})
		switch {
		case n.Is("Softmax"):
			return n
		case n.Is("Cast"), n.Is("CastLike"), n.Is("Identity"), n.Is("Dropout"), splitsHeads(b.facts, n):
			v = n.Input(0)
		case n.Is("Where"):
			if x, ok := filledWith(b.facts, n.Input(1)); !ok || x != 0 {
				return nil
			}
			v = n.Input(2)
		default:
			return nil
		}
	}
	return nil
}

// reachesProduct reports whether v is computed from a product of two computed
// matrices by arithmetic of scores.
func reachesProduct(v *onnx.Value, depth int) bool {
	n := v.Producer()
	if n == nil || depth == 0 || onnx.NormalDomain(n.Domain) != "" {
		return false
	}
	switch n.Op {
	case "MatMul":
		return n.Input(0).Constant() == nil && n.Input(1).Constant() == nil
	case "Mul", "Div", "Tanh", "Cast", "CastLike", "Identity", "Dropout":
		return reachesProduct(n.Input(0), depth-1) || n.Op == "Mul" && reachesProduct(n.Input(1), depth-1)
	case "Add", "Sub", "Max", "Min":
		return reachesProduct(n.Input(0), depth-1) || reachesProduct(n.Input(1), depth-1)
	case "Where":
		return reachesProduct(n.Input(1), depth-1) || reachesProduct(n.Input(2), depth-1)
	case "Reshape", "Transpose", "Unsqueeze", "Squeeze":
		return reachesProduct(n.Input(0), depth-1)
	}
	return false
}

// checkSoftmax declines unless the softmax runs over the last axis.
func (b *attnBlock) checkSoftmax(n *onnx.Node) error {
	rank := int64(len(b.facts.Shape(n.Input(0))))
	if !settledNode(n) {
		return rewrite.Decline("the axis of the softmax is given by the caller of the function")
	}
	def := int64(-1)
	if b.version < 13 {
		def = 1
	}
	axis := n.Int("axis", def)
	if rank != 4 && rank != 3 {
		return rewrite.Decline("the scores have shape %v, not [batch, heads, rows, columns]", b.facts.Shape(n.Input(0)))
	}
	if axis != -1 && axis != rank-1 {
		return rewrite.Decline("the softmax runs over axis %d", axis)
	}
	b.precision = b.facts.DType(n.Input(0))
	return nil
}

// toProduct walks from the input of the softmax up to the first product,
// collecting scale, softcap and masks.
func (b *attnBlock) toProduct(v *onnx.Value) error {
	for {
		n := v.Producer()
		if n == nil || n.Graph() == nil || !settledNode(n) {
			return rewrite.Decline("the scores are not computed from a product alone")
		}
		b.inner[n] = true
		b.passed = append(b.passed, passedScore{v, unnamedScores})
		if n.Is("MatMul") {
			b.product = n
			return nil
		}
		next, err := b.scoreStep(n)
		if err != nil {
			return err
		}
		v = next
	}
}

// scoreStep takes n, which computes scores from scores, into the block, and
// returns what it computes them from.
func (b *attnBlock) scoreStep(n *onnx.Node) (*onnx.Value, error) {
	if splitsHeads(b.facts, n) {
		return n.Input(0), nil
	}
	switch n.Op {
	case "Cast", "CastLike", "Identity", "Dropout":
		return n.Input(0), nil
	case "Mul", "Div":
		v, f, ok := scaledByNumber(b.facts, n)
		if !ok {
			return nil, rewrite.Decline("%v multiplies the scores by something that is not one number", n)
		}
		b.scale *= f
		return v, nil
	case "Tanh":
		if b.softcap != 0 || b.scale == 1 {
			return nil, rewrite.Decline("%v is not a softcap", n)
		}
		b.softcap, b.scale = b.scale, 1
		return n.Input(0), nil
	case "Add", "Where":
		if b.scale != 1 || b.softcap != 0 {
			return nil, rewrite.Decline("the mask of %v comes before the scale or the softcap", n)
		}
		return b.maskStep(n)
	}
	return nil, rewrite.Decline("%v stands between product and softmax", n)
}

// maskStep takes a mask out of n and returns the scores.
func (b *attnBlock) maskStep(n *onnx.Node) (*onnx.Value, error) {
	if n.Op == "Add" {
		for i := range 2 {
			if reachesProduct(n.Input(i), 24) {
				b.terms = append(b.terms, maskTerm{added: n.Input(1 - i), flat: b.isFlat(n)})
				return n.Input(i), nil
			}
		}
		return nil, rewrite.Decline("%v adds no mask to scores", n)
	}
	if x, ok := filledWith(b.facts, n.Input(2)); ok {
		b.terms = append(b.terms, maskTerm{cond: n.Input(0), fill: x, keep: true, flat: b.isFlat(n)})
		return n.Input(1), nil
	}
	if x, ok := filledWith(b.facts, n.Input(1)); ok {
		b.terms = append(b.terms, maskTerm{cond: n.Input(0), fill: x, flat: b.isFlat(n)})
		return n.Input(2), nil
	}
	return nil, rewrite.Decline("%v puts something else than one number in the place of scores", n)
}

// isFlat reports whether n computes scores of batches and heads in one axis.
func (b *attnBlock) isFlat(n *onnx.Node) bool { return len(b.facts.Shape(n.Output(0))) == 3 }

// ends finds the value over heads that the block gives.
func (b *attnBlock) ends() error {
	b.result = b.context.Output(0)
	if !b.isFlat(b.context) {
		return nil
	}
	n := soleReader(b.result)
	if n == nil || !splitsHeads(b.facts, n) {
		return rewrite.Decline("batches and heads of the result are in one axis")
	}
	b.inner[n] = true
	b.result = n.Output(0)
	return nil
}

// operands reads Q, K and V.
func (b *attnBlock) operands() error {
	b.inputScale = 1
	b.q = b.operand(b.product.Input(0), byHead, &b.inputScale)
	b.k = b.operand(b.product.Input(1), widthFirst, &b.inputScale)
	b.v = b.operand(b.context.Input(1), byHead, nil)
	b.elem = b.facts.DType(b.context.Input(1))
	b.scale *= b.inputScale
	if b.softcap != 0 {
		b.scale *= b.softcap
		if b.softcap < 0 {
			return rewrite.Decline("the softcap is %g", b.softcap)
		}
	}
	b.q.past = nil
	if b.k.past == nil || b.v.past == nil || !b.presentable(b.k) || !b.presentable(b.v) {
		b.k.past, b.v.past = nil, nil
	}
	for _, v := range []*onnx.Value{b.q.x, b.k.x, b.v.x} {
		if d := b.facts.DType(v); d != b.elem || !d.IsFloat() {
			return rewrite.Decline("%q is %v and the values are %v", v.Name(), d, b.elem)
		}
	}
	return nil
}

// operand reads an input of a product, over heads or over batch and heads in one.
func (b *attnBlock) operand(v *onnx.Value, l headLayout, factor *float64) attnHeads {
	if len(b.facts.Shape(v)) != 3 {
		return climbHeads(b.facts, v, l, factor)
	}
	x := v
	for n := x.Producer(); n != nil; n = x.Producer() {
		y, f, scales := (*onnx.Value)(nil), 1.0, false
		if n.Is("Mul") || n.Is("Div") {
			y, f, scales = scaledByNumber(b.facts, n)
		}
		switch {
		case scales && factor != nil && len(b.facts.Shape(y)) == 3:
			*factor *= f
			x = y
		case isSwap(n):
			l = l.after(widthFirst[:])
			x = n.Input(0)
		case splitsHeads(b.facts, n) && len(b.facts.Shape(n.Input(0))) == 4:
			return climbHeads(b.facts, n.Input(0), l, factor)
		default:
			return attnHeads{headsAt: headsAt{v, l}, repeat: 1}
		}
	}
	return attnHeads{headsAt: headsAt{v, l}, repeat: 1}
}

// presentable reports whether the operator's present output can take the place
// of every other reader of the concatenation of past and new.
func (b *attnBlock) presentable(h attnHeads) bool {
	if h.how == byHead {
		return true
	}
	for _, u := range h.x.Uses() {
		if !b.reads(u.Node, h) {
			return false
		}
	}
	return !h.x.IsOutput()
}

// reads reports whether n is part of the block, or turns h into [batch, heads, length, width].
func (b *attnBlock) reads(n *onnx.Node, h attnHeads) bool {
	if b.inner[n] || n == b.product || n == b.context {
		return true
	}
	if !n.Is("Transpose") {
		return false
	}
	perm := n.Ints("perm", nil)
	return len(perm) == 4 && headLayout(perm) == h.how
}

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
		s := b.facts.Shape(v)
		if s == nil {
			return rewrite.Decline("the shape of the mask %q is not known", v.Name())
		}
		for i, want := range q[:3] {
			if k := len(s) - 4 + i; k >= 0 && mayGrow(want, s[k]) && !(i == 2 && oneRow(b.facts, v)) || len(s) > 4 {
				return rewrite.Decline("the mask has shape %v, and the scores [%v,%v,%v,…]", s, q[0], q[1], q[2])
			}
		}
		if t.flat && len(s) == 3 && mayGrow(onnx.Fixed(1), s[0]) {
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

// checkCache leaves the cache to others where the mask is computed from what it
// grows to, which the operator would give only after it has read the mask.
func (b *attnBlock) checkCache() error {
	if b.k.past == nil {
		return nil
	}
	goal := map[*onnx.Value]bool{b.k.x: true, b.v.x: true}
	for _, v := range b.mask.inputs() {
		if computedFrom(v, goal, 4096) {
			if b.mask.causal {
				return rewrite.Decline("the mask is computed from keys and values of past and present")
			}
			b.k.past, b.v.past = nil, nil
			return nil
		}
	}
	return nil
}

// computedFrom reports whether v may be computed from one of goal, looking at so
// many nodes at most.
func computedFrom(v *onnx.Value, goal map[*onnx.Value]bool, most int) bool {
	seen := map[*onnx.Node]bool{}
	for open := []*onnx.Value{v}; len(open) > 0; {
		v := open[len(open)-1]
		open = open[:len(open)-1]
		if goal[v] {
			return true
		}
		n := v.Producer()
		if n == nil || seen[n] {
			continue
		}
		if seen[n] = true; len(seen) > most {
			return true
		}
		for _, in := range append(n.Captures(), n.Inputs()...) {
			if in != nil {
				open = append(open, in)
			}
		}
	}
	return false
}

// readElsewhere finds the value in between that others read: the operator can
// give one of them, if it is one that it has.
func (b *attnBlock) readElsewhere() error {
	b.nameStages()
	for _, p := range b.passed {
		if !b.leaks(p.v) || p.v == b.asked {
			continue
		}
		if b.asked != nil {
			return rewrite.Decline("both %q and %q, scores or weights, are read elsewhere", b.asked.Name(), p.v.Name())
		}
		if p.stage == unnamedScores || b.facts.DType(p.v) != b.elem {
			return rewrite.Decline("the scores %q are read elsewhere", p.v.Name())
		}
		b.asked, b.mode = p.v, int64(p.stage)
	}
	return nil
}

// leaks reports whether v is read outside the block.
func (b *attnBlock) leaks(v *onnx.Value) bool {
	if v.IsOutput() {
		return true
	}
	for _, u := range v.Uses() {
		if !b.inner[u.Node] && !b.readsType(u) && !b.readsShape(u.Node) {
			return true
		}
	}
	return false
}

// readsShape reports whether n asks for the shape of scores only, and notes it:
// the sizes are known without them.
func (b *attnBlock) readsShape(n *onnx.Node) bool {
	if !n.Is("Shape") || len(n.Attrs) > 0 || len(b.facts.Shape(n.Input(0))) != 4 || n.Output(0).IsOutput() {
		return false
	}
	if !slices.Contains(b.shapes, n) {
		b.shapes = append(b.shapes, n)
	}
	return true
}

// swapShapes lets the sizes of scores come from query and keys.
func (b *attnBlock) swapShapes(p *rewrite.Patch) {
	for _, n := range b.shapes {
		size := func(h headsAt, axis int) *onnx.Value { return axisSize(p, b.version, h.x, h.how[axis]) }
		cols := size(b.k.fresh(), 2)
		if b.k.past != nil {
			cols = p.Add("Add", []*onnx.Value{size(*b.k.past, 2), cols})
		}
		parts := []*onnx.Value{size(b.q.headsAt, 0), size(b.q.headsAt, 1), size(b.q.headsAt, 2), cols}
		p.Swap(n.Output(0), p.Add("Concat", parts, onnx.IntAttr("axis", 0)))
	}
}

// readsType reports whether u takes only the type of a value, for the block.
func (b *attnBlock) readsType(u onnx.Use) bool {
	if !u.Node.Is("CastLike") || u.Index != 1 {
		return false
	}
	for _, r := range u.Node.Output(0).Uses() {
		if !b.inner[r.Node] {
			return false
		}
	}
	return true
}

// nameStages gives the scores the stage that the operator has for them, from the
// product on, now that all of the block is known.
func (b *attnBlock) nameStages() {
	factor, capped, masks := b.inputScale, false, 0
	for i := len(b.passed) - 1; i >= 0; i-- {
		p := &b.passed[i]
		n := p.v.Producer()
		if p.stage == softWeights {
			if b.guarded && n.Is("Softmax") {
				p.stage = unnamedScores
			}
			continue
		}
		switch n.Op {
		case "Mul", "Div":
			_, f, _ := scaledByNumber(b.facts, n)
			factor *= f
		case "Tanh":
			capped, factor = true, 1
		case "Add", "Where":
			masks++
		}
		p.stage = b.stageOf(factor, capped, masks)
	}
}

// stageOf names scores that are multiplied by factor, since the softcap if
// capped, and have so many masks.
func (b *attnBlock) stageOf(factor float64, capped bool, masks int) scoreStage {
	switch {
	case masks > 0 && masks == len(b.terms):
		return maskedScores
	case masks > 0:
		return unnamedScores
	case capped && closeTo(factor, b.softcap, b.elem):
		return cappedScores
	case !capped && closeTo(factor, b.scale, b.elem):
		return scaledScores
	}
	return unnamedScores
}

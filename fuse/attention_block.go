package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
	"math"
)

// attnBlock is softmax(softcap(scale·Q·Kᵀ) + mask)·V, as the dataflow around the
// second product has it.
type attnBlock struct {
	facts   *opset.Facts
	version int64       // of the standard operators
	elem    onnx.DType  // of Q, K and V
	context *onnx.Node  // the product with V
	result  *onnx.Value // [batch, heads, rows, width]; folded: [batch·heads, rows, width]
	product *onnx.Node  // the product of Q and Kᵀ
	inner   map[*onnx.Node]bool
	passed  []passedScore // values between the products, from the last to the first

	q, k, v    attnHeads
	scale      float64    // what Q·Kᵀ is multiplied by
	inputScale float64    // what of that is in the inputs of the product
	softcap    float64    // 0: none
	precision  onnx.DType // element type of the softmax
	folded     bool       // Q, K, V and the result have batches and heads in one axis
	spelled    bool       // causal masks are numbers to be added like others
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
	case "Add", "Sub", "Where":
		w := (*weightedMask)(nil)
		if n.Op != "Where" {
			w = weighted(b.facts, n)
		}
		switch {
		case n.Op == "Sub" && w == nil:
			return nil, rewrite.Decline("%v stands between product and softmax", n)
		case b.scale != 1 || b.softcap != 0:
			return nil, rewrite.Decline("the mask of %v comes before the scale or the softcap", n)
		case w != nil:
			return b.takeWeighted(n, w)
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
	if !b.isFlat(b.context) || b.folded {
		return nil
	}
	n := soleReader(b.result) // it splits heads, or the block were folded
	b.inner[n] = true
	b.result = n.Output(0)
	q, out := b.q.shape(b.facts), b.facts.Shape(b.result)
	if !q[0].Same(out[0]) || !q[1].Same(out[1]) {
		return rewrite.Decline("batches and heads of the query are %v and %v, and those of the result %v and %v", q[0], q[1], out[0], out[1])
	}
	return nil
}

// operands reads Q, K and V.
func (b *attnBlock) operands() error {
	b.inputScale = 1
	b.q = b.operand(b.product.Input(0), byHead, &b.inputScale)
	b.k = b.operand(b.product.Input(1), widthFirst, &b.inputScale)
	b.v = b.operand(b.context.Input(1), byHead, nil)
	if b.isFolded() {
		if err := b.foldedOperands(); err != nil {
			return err
		}
	}
	b.elem = b.facts.DType(b.context.Input(1))
	if b.scale *= b.inputScale; math.IsNaN(b.scale) {
		return rewrite.Decline("the scale is no number")
	}
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

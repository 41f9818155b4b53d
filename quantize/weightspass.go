package quantize

import (
	"context"
	"errors"
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// mostSteps is how many bytes of scales and zero points are kept between the
// look at the weights and their writing; those of more are found again.
const mostSteps = 512 << 20

// weightsPass rewrites node by node; each firing leaves a valid model.
type weightsPass struct {
	s      *weightOnly
	r      *outcome
	kept   int64                        // bytes of steps
	params map[paramsKey][3]*onnx.Value // codes, scales, zero points
	scaled map[scaledKey]*onnx.Value    // inputs divided by a gain

	divisions []*onnx.Node         // that do so
	counted   map[*onnx.Value]bool // weights whose size is known to the result
	tables    int                  // of embeddings that are dequantized as a whole
}

type paramsKey struct {
	value  *onnx.Value
	graph  *onnx.Graph
	rows   bool
	turned bool
	form   form
	fit    *fitted
}

type scaledKey struct {
	input *onnx.Value
	gain  *float32
}

func (*weightsPass) Name() string { return weightsName }

// Run rewrites every node that has weights to code.
func (p *weightsPass) Run(ctx context.Context, m *onnx.Model, e *rewrite.Env) error {
	err := walk(ctx, m, e, func(n *onnx.Node) error {
		if !candidate(n) {
			return nil
		}
		return p.visit(ctx, n, e)
	})
	if err != nil || e.Exhausted() {
		return err
	}
	if p.tables > 0 {
		e.Log.Notice("%d tables of Gather are dequantized as a whole in each run; with --form matmulnbits only the rows that are read are, and --exclude Gather leaves tables as they are", p.tables)
	}
	return p.fold(e)
}

// candidate reports whether n is of a kind whose weights can be coded. A Gather
// that reads no table of numbers is none.
func candidate(n *onnx.Node) bool {
	switch {
	case onnx.NormalDomain(n.Domain) != "":
		return false
	case n.Op == "Gather":
		t := n.Input(0).Constant()
		return t != nil && isWeight(t.DType) && len(t.Shape) == 2
	}
	return n.Op == "MatMul" || n.Op == "Gemm" || n.Op == "Conv"
}

func isWeight(d onnx.DType) bool {
	return d == onnx.Float || d == onnx.Float16 || d == onnx.BFloat16
}

// weightSlot is the input of n that has the weights.
func weightSlot(n *onnx.Node) int {
	if n.Op == "Gather" {
		return 0
	}
	return 1
}

func (p *weightsPass) visit(ctx context.Context, n *onnx.Node, e *rewrite.Env) error {
	b, l, err := p.plan(ctx, n, e)
	if err == nil && !e.Allow(weightsName, n) {
		err = errDeclined{"left out"}
	}
	var why errDeclined
	if errors.As(err, &why) {
		e.Decline(weightsName, n, "%s", why.reason)
		p.r.layers = append(p.r.layers, Layer{Node: n.String(), Op: n.Op, Output: outputName(n), Type: "float32", Reason: why.reason})
		return nil
	}
	if err != nil {
		return err
	}
	return p.rewrite(n, e, b, l)
}

// errDeclined says why a node stays as it is.
type errDeclined struct{ reason string }

func (e errDeclined) Error() string { return e.reason }

func decline(format string, args ...any) error { return errDeclined{fmt.Sprintf(format, args...)} }

// rightOperand returns the constant that has the weights of n; turned where n reads
// its transpose, as the last layer of a model that ties it to the embeddings.
func rightOperand(n *onnx.Node) (v *onnx.Value, turned bool) {
	v = n.Input(weightSlot(n))
	if v == nil || n.Op != "MatMul" {
		return v, false
	}
	k := v.Producer()
	if k == nil || !k.Is("Transpose") || !isMatrix(k.Input(0)) {
		return v, false
	}
	if perm := k.Ints("perm", []int64{1, 0}); len(perm) != 2 || perm[0] != 1 {
		return v, false
	}
	return k.Input(0), true
}

func isMatrix(v *onnx.Value) bool {
	t := v.Constant()
	return t != nil && len(t.Shape) == 2
}

// use is how the weights of a node are going to be read.
type use struct {
	form form
	fit  *fitted
	bias bool // by the operator itself
}

// plan returns the weights of n in blocks, or why there are none.
func (p *weightsPass) plan(ctx context.Context, n *onnx.Node, e *rewrite.Env) (*blockwise, *use, error) {
	w, _ := rightOperand(n)
	if why := p.s.o.excluded(n, w); why != "" {
		return nil, nil, errDeclined{why}
	}
	op, why := operandOf(n)
	if why != "" {
		return nil, nil, errDeclined{why}
	}
	u := &use{form: p.s.form, fit: p.s.fits[outputName(n)]}
	if n.Graph() != n.Graph().Model().Graph {
		u.fit = nil
	}
	if n.Op == "Gather" && u.form == formNBits {
		u.form, u.fit = formGather, nil
	}
	if why := p.unfit(n, op, u.form, e); why != "" {
		return nil, nil, errDeclined{why}
	}
	b := &blockwise{f: p.s.blocksOf(op), op: op}
	if u.fit != nil && u.fit.steps != nil {
		b.steps, b.codes, b.clipped, b.op.gain = u.fit.steps, u.fit.codes, u.fit.clipped, u.fit.gain
		b.f.asymmetric = u.fit.asymmetric
	}
	if _, turned := rightOperand(n); turned && u.form == formPlain {
		b.turned = op.n%2 == 0 // the codes of two channels share no byte between parts
	}
	if before, after := op.t.Size(), p.size(b, u); after >= before {
		return nil, nil, decline("its codes would take %d bytes, its weights take %d", after, before)
	}
	return b, u, p.supported(ctx, n, b, u)
}

// operandOf returns the weights of n as channels, or why it has none.
func operandOf(n *onnx.Node) (operand, string) {
	if n.Op == "Conv" {
		return operand{}, "the weights of convolutions have no block-wise form"
	}
	v, turned := rightOperand(n)
	other := n.Input(1 - weightSlot(n))
	if v == nil || other == nil {
		return operand{}, "an input is omitted"
	}
	t := v.Constant()
	switch {
	case t == nil && v.Const != nil:
		return operand{}, fmt.Sprintf("%q is an input with a default, which a caller may override; freeze it with fuse", v.Name())
	case t == nil:
		return operand{}, "it multiplies two activations"
	case !isWeight(t.DType):
		return operand{}, fmt.Sprintf("its weight %q has elements of type %v", v.Name(), t.DType)
	case t.Size() == 0 || len(t.Shape) < 2:
		return operand{}, fmt.Sprintf("its weight %q of shape %v is no matrix", v.Name(), t.Shape)
	case other.Constant() != nil && n.Op != "Gather":
		return operand{}, "its input is constant"
	}
	rank := len(t.Shape)
	op := operand{t: t, k: int(t.Shape[rank-2]), n: int(t.Shape[rank-1]), batch: 1}
	for _, d := range t.Shape[:rank-2] {
		op.batch *= int(d)
	}
	if turned || n.Op == "Gather" || n.Op == "Gemm" && n.Int("transB", 0) != 0 {
		op.k, op.n, op.rows = op.n, op.k, true
	}
	return op, ""
}

// unfit says why n cannot have its weights in a form; "" if it can.
func (p *weightsPass) unfit(n *onnx.Node, op operand, f form, e *rewrite.Env) string {
	x := n.Input(0)
	switch {
	case f == formPlain:
		return ""
	case n.Op == "Gather" && n.Int("axis", 0) != 0 && n.Int("axis", 0) != -2:
		return "it gathers along the rows that are coded in blocks"
	case n.Op == "Gather" && p.s.o.Bits != 4 && p.s.o.Bits != 8:
		return "GatherBlockQuantized has codes of 4 or 8 bits"
	case n.Op == "Gather":
		return ""
	case op.batch != 1:
		return fmt.Sprintf("its weight %q of shape %v is a batch of matrices, which MatMulNBits does not take; the form dequantize does", op.t.Name, op.t.Shape)
	case n.Op == "Gemm" && n.Int("transA", 0) != 0:
		return "its input is transposed, which MatMulNBits does not do"
	}
	if n.Op == "Gemm" && op.t.DType != onnx.Float && (n.Float("alpha", 1) != 1 || n.Float("beta", 1) != 1) {
		return "alpha or beta is set, which MatMulNBits does not have"
	}
	rank, known := len(e.Facts.Shape(x)), e.Facts.Shape(x) != nil
	if known && rank < 2 {
		return fmt.Sprintf("its input %q is a vector", x.Name())
	}
	if len(op.t.Shape) > 2 && (!known || rank < len(op.t.Shape)) {
		return fmt.Sprintf("its weight %q of shape %v adds dimensions to the result", op.t.Name, op.t.Shape)
	}
	return ""
}

// size is how many bytes the weights take in blocks.
func (p *weightsPass) size(b *blockwise, u *use) int64 {
	l := p.layout(b, u.form)
	total := l.codes("").Data.Len() + l.scales("").Data.Len()
	if z := l.zeros(""); z != nil {
		total += z.Data.Len()
	}
	return total
}

func (p *weightsPass) layout(b *blockwise, f form) layout {
	switch f {
	case formPlain:
		return plainLayout(b)
	case formGather:
		return gatherLayout(b)
	}
	return layout{c: b}
}

// supported asks the engine, and decides what else the operator computes.
func (p *weightsPass) supported(ctx context.Context, n *onnx.Node, b *blockwise, u *use) error {
	k := kernel{form: u.form, bits: b.f.bits, size: b.f.size, dtype: b.f.dtype, zero: noZero}
	switch {
	case b.steps != nil && b.steps.real != nil:
		k.zero = realZero
	case b.f.asymmetric:
		k.zero = codeZero
	}
	switch u.form {
	case formNBits:
		k.accuracy = p.s.o.Accuracy
		if k.bias = biasOf(n, b.op) != nil; k.bias {
			if u.bias = p.s.kernels.has(ctx, k) == nil; u.bias || ctx.Err() != nil {
				return ctx.Err()
			}
			k.bias = false
		}
	case formPlain:
		k.rows = b.op.rows && !b.turned
	}
	if err := p.s.kernels.has(ctx, k); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return decline("%v", err)
	}
	return nil
}

// biasOf returns the constant that a Gemm adds to each row, nil if there is none.
func biasOf(n *onnx.Node, op operand) *onnx.Value {
	c := n.Input(2)
	if n.Op != "Gemm" || c.Constant() == nil || n.Float("alpha", 1) != 1 || n.Float("beta", 1) != 1 {
		return nil
	}
	if t := c.Constant(); len(t.Shape) == 1 && t.Shape[0] == int64(op.n) && t.DType == op.t.DType {
		return c
	}
	return nil
}

// rewrite puts the coded weights in the place of those of n.
func (p *weightsPass) rewrite(n *onnx.Node, e *rewrite.Env, b *blockwise, u *use) error {
	site, g, before := e.At(weightsName, n), n.Graph(), n.Graph().Len()
	l := Layer{Node: n.String(), Op: n.Op, Output: outputName(n), Type: fmt.Sprintf("int%d", b.f.bits),
		Weights: &WeightLayer{Method: "rtn", Bits: b.f.bits, BlockSize: b.f.size, Form: string(u.form)}}
	if u.fit == nil && n.Op != "Gather" && p.s.needsData() {
		l.Weights.Why = "what it reads cannot be measured"
		if g != g.Model().Graph {
			l.Weights.Why = "what it reads is inside of a subgraph and cannot be measured"
		}
	}
	if u.fit != nil {
		l.Weights.Method, l.Weights.Why, l.Weights.Error = u.fit.method, u.fit.why, u.fit.errors
	}
	w, err := p.parameters(n, b, u)
	if errors.Is(err, errNotFinite) {
		e.Decline(weightsName, n, "%v", err)
		p.r.layers = append(p.r.layers, Layer{Node: l.Node, Op: n.Op, Output: l.Output, Type: "float32", Reason: err.Error()})
		return nil
	}
	if err != nil {
		return err
	}
	gone := 1
	if n.Op == "Gather" && u.form == formPlain {
		p.tables++
	}
	if u.form == formPlain {
		gone = 0
		dq := p.dequantized(n, w, b)
		n.SetInput(weightSlot(n), dq)
		if b.op.gain != nil {
			n.SetInput(0, p.divided(n, b))
		}
	} else if err := p.replace(n, w, b, u); err != nil {
		return err
	}
	p.r.layers = append(p.r.layers, l)
	return e.Fired(weightsName, site, gone, g.Len()-before+gone, l.Weights.note())
}

// note says in a few words how weights are coded, for the log.
func (w *WeightLayer) note() string {
	text := fmt.Sprintf("%s, %d bits in blocks of %d", w.Method, w.Bits, w.BlockSize)
	if w.Why != "" {
		text += ": " + w.Why
	}
	return text
}

// parameters returns the tensors of b, made once for all nodes that read the
// same weights in the same way, and has their codes checked when they are written.
func (p *weightsPass) parameters(n *onnx.Node, b *blockwise, u *use) ([3]*onnx.Value, error) {
	v, _ := rightOperand(n)
	g := v.Graph()
	if u.form == formPlain {
		g = n.Graph() // ONNX Runtime looks for the codes in the graph of their reader
	}
	key := paramsKey{v, g, b.op.rows, b.turned, u.form, u.fit}
	if b.steps == nil { // the nearest codes are the same for all
		key.fit = nil
	}
	if w, ok := p.params[key]; ok {
		return w, nil
	}
	if b.steps == nil {
		s, err := b.fit()
		if err != nil {
			return [3]*onnx.Value{}, err
		}
		if p.kept += s.size(); p.kept <= mostSteps {
			b.steps = s
		}
	}
	l := p.layout(b, u.form)
	w := parameters(g, l, v.Name())
	p.params[key] = w
	called := n.String()
	reader := p.reader(w, b, u)
	b.check = func(codes []byte) error { return checkBlocks(called, reader, codes, b) }
	if !p.counted[v] {
		p.counted[v] = true
		p.r.sizes.Before += b.op.t.Size()
	}
	p.r.sizes.After += p.size(b, u)
	return w, nil
}

// reader returns a node that reads w like the one that is going to, outside of
// any graph.
func (p *weightsPass) reader(w [3]*onnx.Value, b *blockwise, u *use) *onnx.Node {
	var alone [3]*onnx.Value
	for i, v := range w {
		if v != nil {
			alone[i] = onnx.Unattached(v.Constant())
		}
	}
	x := onnx.Unattached(onnx.FromFloats("x", []int64{0}, nil))
	switch u.form {
	case formPlain:
		return plainOf(alone, b, "y")
	case formGather:
		return gatherOf(alone, b, x, "y", 0)
	}
	return nbitsOf(alone, b, x, nil, "y", 0)
}

// dequantized returns the weights in floating point, in front of n and for n
// alone: ONNX Runtime fuses no DequantizeLinear that several nodes read, and fails
// on some.
func (p *weightsPass) dequantized(n *onnx.Node, w [3]*onnx.Value, b *blockwise) *onnx.Value {
	g := n.Graph()
	_, turned := rightOperand(n)
	turned = turned && !b.turned
	k := plainOf(w, b, g.Model().Fresh(b.op.t.Name+"_dequantized"))
	g.InsertBefore(k, n)
	if turned {
		k = onnx.NewNode("Transpose", []*onnx.Value{k.Output(0)}, g.Model().Fresh(b.op.t.Name+"_transposed"))
		k.Name, k.Attrs = k.Output(0).Name(), []*onnx.Attr{onnx.IntsAttr("perm", 1, 0)}
		k.Output(0).Type = n.Input(1).Type
		g.InsertBefore(k, n)
	}
	return k.Output(0)
}

// replace puts an operator of ONNX Runtime in the place of n.
func (p *weightsPass) replace(n *onnx.Node, w [3]*onnx.Value, b *blockwise, u *use) error {
	g, out := n.Graph(), n.Output(0)
	m := g.Model()
	if m.OpsetVersion(microsoft) == 0 {
		m.ImportOpset(microsoft, 1)
	}
	name := m.Fresh(out.Name() + "_blocks")
	var k *onnx.Node
	if u.form == formGather {
		k = gatherOf(w, b, n.Input(1), name, 0)
		g.InsertBefore(k, n)
	} else {
		x := n.Input(0)
		if b.op.gain != nil {
			x = p.divided(n, b)
		}
		var bias *onnx.Value
		if u.bias {
			bias = n.Input(2)
		}
		k = nbitsOf(w, b, x, bias, name, p.s.o.Accuracy)
		g.InsertBefore(k, n)
	}
	y := k.Output(0)
	if n.Op == "Gemm" && !u.bias {
		y = gemmRest(n, y, func(op string, in []*onnx.Value, attrs ...*onnx.Attr) *onnx.Value {
			a := onnx.NewNode(op, in, m.Fresh(out.Name()+"_"+op))
			a.Name, a.Attrs = a.Output(0).Name(), attrs
			g.InsertBefore(a, n)
			return a.Output(0)
		})
	}
	y.Type = out.Type
	if err := g.Replace(out, y); err != nil {
		return err
	}
	g.SweepFrom(n)
	return nil
}

package quantize

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/kernels"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// operatorsName is how logs call the QOperator form.
const operatorsName = "qoperator"

// operatorsPass puts operators on codes in the place of operators between pairs,
// with the same codes: what ONNX Runtime makes of most pairs when it loads a
// model, written into the model. What the engine has no such operator of stays
// between its pairs.
type operatorsPass struct {
	s *static
	r *outcome

	anchors, made int      // operators with weights between pairs, and those of them on codes
	refused       []string // what the engine has no kernel of
}

func (*operatorsPass) Name() string { return operatorsName }

// Run rewrites node by node; each firing leaves a valid model.
func (p *operatorsPass) Run(ctx context.Context, m *onnx.Model, e *rewrite.Env) error {
	for _, n := range slices.Collect(m.Graph.Nodes()) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if n.Graph() == nil || place(n) == never {
			continue
		}
		if err := p.visit(ctx, n, e); err != nil {
			return err
		}
	}
	if p.anchors > 0 && p.made == 0 && len(p.refused) > 0 {
		return fmt.Errorf("the runtime here has no %s; use --representation qdq", strings.Join(p.refused, " and no "))
	}
	return nil
}

func (p *operatorsPass) visit(ctx context.Context, n *onnx.Node, e *rewrite.Env) error {
	c := between(n)
	if c == nil {
		return nil
	}
	k := c.operator()
	switch {
	case k == nil:
		e.Decline(operatorsName, n, "there is no operator on codes for it")
		return nil
	case place(n) == anchor:
		p.anchors++
	}
	if !e.Allow(operatorsName, n) {
		return nil
	}
	g, site, before := n.Graph(), e.At(operatorsName, n), n.Graph().Len()
	g.InsertBefore(k, n)
	if p.ask(ctx, k) == kernels.Refused {
		if err := g.Remove(k); err != nil {
			return err
		}
		what := fmt.Sprintf("%s of %s", k.Op, c.types())
		e.Decline(operatorsName, n, "the runtime here has no %s", what)
		if place(n) == anchor && !slices.Contains(p.refused, what) {
			p.refused = append(p.refused, what)
		}
		return ctx.Err()
	}
	if place(n) == anchor {
		p.made++
	}
	old, last := n.Output(0), n
	if c.out != nil {
		old, last = c.out.Output(0), c.out
	}
	if err := g.Replace(old, k.Output(0)); err != nil {
		return err
	}
	g.SweepFrom(last)
	for i := range p.r.layers {
		if p.r.layers[i].at == n {
			p.r.layers[i].at = k
		}
	}
	return e.Fired(operatorsName, site, before-g.Len()+1, 1, k.Op)
}

// ask returns what the engine makes of k.
func (p *operatorsPass) ask(ctx context.Context, k *onnx.Node) kernels.Answer {
	version := k.OpsetVersion("")
	parts := []string{operatorsName, k.Op, fmt.Sprint(version)}
	typ := func(v *onnx.Value, _ int) *onnx.Type {
		if t := v.Constant(); t != nil {
			return t.Type()
		}
		return v.Type
	}
	for i, v := range k.Inputs() {
		if v == nil {
			parts = append(parts, "-")
			continue
		}
		t := typ(v, i)
		parts = append(parts, fmt.Sprintf("%v/%d", t.Elem, len(t.Shape)))
	}
	for _, a := range k.Attrs {
		parts = append(parts, fmt.Sprintf("%s=%d%s", a.Name, a.I, a.S))
	}
	return p.s.prober.Ask(ctx, strings.Join(parts, " "), func() *onnx.Model { return kernels.Specimen(k, version, typ) })
}

// triple is a tensor of codes with what they stand for.
type triple struct{ codes, scale, zero *onnx.Value }

// pairedNode is a node whose activations and weights are taken back from codes.
type pairedNode struct {
	n   *onnx.Node
	in  []triple   // of its inputs; the bias, which has no zero point of its own, is none
	out *onnx.Node // QuantizeLinear that alone reads the result; nil where it stays in floating point
}

// between returns n with the codes around it, nil where some input has none.
func between(n *onnx.Node) *pairedNode {
	c := &pairedNode{n: n}
	for i, v := range n.Inputs() {
		if v == nil || !activation(n, i) && !(place(n) == anchor && i == 1) {
			continue
		}
		dq := dequantized(v)
		if dq == nil {
			return nil
		}
		c.in = append(c.in, triple{dq.Input(0), dq.Input(1), dq.Input(2)})
	}
	if len(c.in) == 0 {
		return nil
	}
	if b := n.Input(2); place(n) == anchor && b != nil && dequantized(b) == nil {
		return nil
	}
	y := n.Output(0)
	if len(y.Uses()) == 1 && !y.IsOutput() && isQuantize(y.Uses()[0].Node) {
		c.out = y.Uses()[0].Node
	}
	return c
}

// types names the types of the codes that meet.
func (c *pairedNode) types() string {
	var list []string
	for _, t := range c.in {
		if name := t.zero.DType().String(); !slices.Contains(list, name) || place(c.n) == anchor {
			list = append(list, name)
		}
	}
	return strings.Join(list, " by ")
}

// operator returns the operator on codes, not in the graph; nil if there is none.
func (c *pairedNode) operator() *onnx.Node {
	n := c.n
	switch {
	case place(n) == mover:
		return c.mover()
	case n.Is("MatMul") && c.out == nil:
		a, b := c.in[0], c.in[1]
		return c.node(microsoft, "MatMulIntegerToFloat", nil, a.codes, b.codes, a.scale, b.scale, a.zero, b.zero)
	case n.Is("Gemm"):
		return c.gemm()
	case c.out == nil:
		return nil
	}
	scale, zero := c.out.Input(1), c.out.Input(2)
	var in []*onnx.Value
	for _, t := range c.in {
		in = append(in, t.codes, t.scale, t.zero)
	}
	all := append(slices.Clone(in), scale, zero)
	switch n.Op {
	case "Conv":
		if b := n.Input(2); b != nil {
			all = append(all, dequantized(b).Input(0))
		}
		return c.node("", "QLinearConv", n.Attrs, all...)
	case "MatMul":
		return c.node("", "QLinearMatMul", nil, all...)
	case "Concat":
		return c.node(microsoft, "QLinearConcat", n.Attrs, append([]*onnx.Value{scale, zero}, in...)...)
	case "AveragePool":
		if n.Attr("dilations") != nil {
			return nil
		}
		return c.node(microsoft, "QLinearAveragePool", n.Attrs, all...)
	case "Softmax":
		return c.softmax(all)
	case "Add", "Mul", "GlobalAveragePool", "LeakyRelu", "Sigmoid":
		return c.node(microsoft, "QLinear"+n.Op, n.Attrs, all...)
	}
	return nil
}

// node returns an operator with the name of the one that it stands for, whose
// result is codes where that of the other one is coded.
func (c *pairedNode) node(domain, op string, attrs []*onnx.Attr, in ...*onnx.Value) *onnx.Node {
	y := c.n.Output(0)
	k := onnx.NewNode(op, in, c.n.Graph().Model().Fresh(y.Name()+"_"+op))
	k.Name, k.Domain, k.Attrs = c.n.Name, domain, attrs
	k.Output(0).Type = y.Type
	if c.out != nil {
		k.Output(0).Type = onnx.TensorType(c.out.Input(2).DType(), y.Shape())
	}
	return k
}

// gemm returns the product with the bias in its sum.
func (c *pairedNode) gemm() *onnx.Node {
	a, b := c.in[0], c.in[1]
	in := []*onnx.Value{a.codes, a.scale, a.zero, b.codes, b.scale, b.zero, nil}
	if bias := c.n.Input(2); bias != nil {
		in[6] = dequantized(bias).Input(0)
	}
	if c.out != nil {
		in = append(in, c.out.Input(1), c.out.Input(2))
	}
	attrs := []*onnx.Attr{onnx.IntAttr("transB", c.n.Int("transB", 0))}
	k := c.node(microsoft, "QGemm", attrs, in...)
	k.TrimInputs()
	return k
}

// softmax says from which opset on the axis counts as it does.
func (c *pairedNode) softmax(in []*onnx.Value) *onnx.Node {
	version := c.n.OpsetVersion("")
	axis := int64(1)
	if version >= 13 {
		axis = -1
	}
	return c.node(microsoft, "QLinearSoftmax", []*onnx.Attr{onnx.IntAttr("axis", c.n.Int("axis", axis)), onnx.IntAttr("opset", version)}, in...)
}

// mover returns the same operator on codes, which keep their meaning.
func (c *pairedNode) mover() *onnx.Node {
	if c.out == nil || c.out.Input(1) != c.in[0].scale || c.out.Input(2) != c.in[0].zero {
		return nil
	}
	in := slices.Clone(c.n.Inputs())
	in[0] = c.in[0].codes
	y := c.n.Output(0)
	k := onnx.CloneNodeInto(c.n, in, []string{c.n.Graph().Model().Fresh(y.Name() + "_codes")}, nil)
	k.Output(0).Type = onnx.TensorType(c.out.Input(2).DType(), y.Shape())
	return k
}

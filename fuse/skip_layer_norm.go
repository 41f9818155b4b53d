package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// skipLayerNorm: a residual sum and the norm behind it are one operator of ONNX
// Runtime's own, which also gives the sum to whoever else reads it.
func skipLayerNorm(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: "skip-layer-norm", Doc: "takes the residual sum before a LayerNormalization into com.microsoft.SkipLayerNormalization",
		Pattern: "LayerNormalization(sum=Add(x, skip), g, ?b)",
		Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			return skipNorm(t, m, p, "SkipLayerNormalization")
		},
	}
}

// skipRMSNorm is the same for norms without mean and bias.
func skipRMSNorm(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: "skip-rms-norm", Doc: "takes the residual sum before an RMSNormalization into com.microsoft.SkipSimplifiedLayerNormalization",
		Pattern: "RMSNormalization|SimplifiedLayerNormalization(sum=Add(x, skip), g)",
		Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			return skipNorm(t, m, p, "SkipSimplifiedLayerNormalization")
		},
	}
}

func skipNorm(t *Target, m *rewrite.Match, p *rewrite.Patch, op string) error {
	if !t.Own() {
		return rewrite.ErrNotHere
	}
	x, skip, g, sum := m.Value("x"), m.Value("skip"), m.Value("g"), m.Node("sum").Output(0)
	if err := sameRows(m, x, skip); err != nil {
		return err
	}
	if !isLast(m.Facts, m.Root, m.Root.Int("axis", -1)) || len(m.Facts.Shape(g)) != 1 {
		return rewrite.Decline("the norm runs over more than the last axis")
	}
	for _, v := range m.Root.Outputs()[1:] {
		if v != nil && !v.Dead() {
			return rewrite.Decline("%q, a statistic of the norm, is read", v.Name())
		}
	}
	elem := m.Facts.DType(x)
	if elem != m.Facts.DType(g) || m.Root.Int("stash_type", 1) != 1 {
		return rewrite.Decline("the scale is %v and the values %v", m.Facts.DType(g), elem)
	}
	if err := t.offer(m, microsoft, op, elem); err != nil {
		return err
	}
	in := []*onnx.Value{x, skip, g}
	if op == "SkipLayerNormalization" {
		in = append(in, m.Value("b"))
	}
	for i := range 2 {
		if y, bias := unbiased(m, in[i]); bias != nil {
			in[i], in = y, append(in, bias)
			break
		}
	}
	outputs := 1
	if len(sum.Uses()) > 1 || sum.IsOutput() {
		outputs = 4
	}
	n := p.AddNode(microsoft, op, in, outputs, onnx.FloatAttr("epsilon", m.Root.Float("epsilon", 1e-5)))
	p.Swap(m.Root.Output(0), n.Output(0))
	if outputs == 4 {
		dropProposed(n, 1, 2)
		p.Swap(sum, n.Output(3))
	}
	return nil
}

// unbiased returns what v adds a constant vector to, for nobody else, and the
// vector; nil where it does not.
func unbiased(m *rewrite.Match, v *onnx.Value) (x, bias *onnx.Value) {
	n := v.Producer()
	if n == nil || !n.Is("Add") || soleReader(v) == nil {
		return nil, nil
	}
	for i := range 2 {
		x, bias := n.Input(i), n.Input(1-i)
		if t := bias.Constant(); t != nil && len(t.Shape) == 1 && t.Shape[0] == lastDim(m.Facts, x) && len(m.Facts.Shape(x)) == len(m.Facts.Shape(v)) {
			return x, bias
		}
	}
	return nil, nil
}

// dropProposed leaves out outputs of a proposed node, which nothing reads yet.
func dropProposed(n *onnx.Node, list ...int) {
	for _, i := range list {
		if err := n.DropOutput(i); err != nil {
			panic("fuse: " + err.Error())
		}
	}
}

// sameRows declines unless a and b, of two or three axes, are added without broadcasting.
func sameRows(m *rewrite.Match, a, b *onnx.Value) error {
	s, r := m.Facts.Shape(a), m.Facts.Shape(b)
	ok := len(s) == len(r) && (len(s) == 2 || len(s) == 3)
	for i := range s {
		ok = ok && (s[i].Same(r[i]) || !s[i].Known() && !r[i].Known() && i < len(s)-1)
	}
	if !ok {
		return rewrite.Decline("what is added has shapes %v and %v", s, r)
	}
	return nil
}

package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// biasGelu: Gelu of a value plus a vector is one operator of ONNX Runtime's own:
// BiasGelu by the error function, FastGelu by tanh.
func biasGelu(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: "bias-gelu", Doc: "takes the bias before a Gelu into com.microsoft.BiasGelu or FastGelu",
		Pattern: "Gelu|com.microsoft.Gelu|com.microsoft.FastGelu(sum=Add(x, c))",
		Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			if !t.Own() {
				return rewrite.ErrNotHere
			}
			if err := soleUse(m.Node("sum")); err != nil {
				return err
			}
			x, bias := m.Value("x"), m.Value("c")
			if len(m.Facts.Shape(x)) < len(m.Facts.Shape(bias)) {
				x, bias = bias, x
			}
			s, c := m.Facts.Shape(x), m.Facts.Shape(bias)
			if len(c) != 1 || len(s) < 2 || !c[0].Same(s[len(s)-1]) {
				return rewrite.Decline("the bias of shape %v is no vector over the last axis of %v", c, s)
			}
			op := "BiasGelu"
			if m.Root.Op == "FastGelu" || m.Root.Str("approximate", "none") == "tanh" {
				op = "FastGelu"
			}
			if err := t.offer(m, microsoft, op, m.Facts.DType(x)); err != nil {
				return err
			}
			p.Swap(m.Root.Output(0), p.AddNode(microsoft, op, []*onnx.Value{x, bias}, 1).Output(0))
			return nil
		},
	}
}

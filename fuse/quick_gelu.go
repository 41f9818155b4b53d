package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// quickGelu: x·sigmoid(α·x) is one operator of ONNX Runtime's own.
func quickGelu(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: "quick-gelu", Doc: "recognises x·sigmoid(α·x) as com.microsoft.QuickGelu",
		Pattern: "Mul(x, s=Sigmoid(y))",
		Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			if !t.Own() {
				return rewrite.ErrNotHere
			}
			x, y, alpha := m.Value("x"), m.Value("y"), 1.0
			if n := y.Producer(); y != x && n != nil && (n.Is("Mul") || n.Is("Div")) {
				if v, f, ok := scaledByNumber(m.Facts, n); ok {
					y, alpha = v, f
				}
			}
			if y != x {
				return rewrite.ErrNotHere
			}
			if err := soleUse(m.Node("s")); err != nil {
				return err
			}
			if err := t.offer(m, microsoft, "QuickGelu", m.Facts.DType(x)); err != nil {
				return err
			}
			p.Swap(m.Root.Output(0), p.AddNode(microsoft, "QuickGelu", []*onnx.Value{x}, 1, onnx.FloatAttr("alpha", float32(alpha))).Output(0))
			return nil
		},
	}
}

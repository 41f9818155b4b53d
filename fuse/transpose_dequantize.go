package fuse

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// transposeDequantize: the transpose of a dequantized weight is the dequantized
// transpose, which is folded.
var transposeDequantize = rewrite.Rule{
	Name: "transpose-dequantize", Doc: "transposes a quantized weight instead of what DequantizeLinear makes of it",
	Pattern: "Transpose(dq=DequantizeLinear(x, scale, ?zero))",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		dq := m.Node("dq")
		if err := soleUse(dq); err != nil {
			return err
		}
		if _, err := m.Const("x"); err != nil {
			return err
		}
		perm, err := permOf(m, m.Root)
		if err != nil {
			return err
		}
		attrs := dq.Attrs
		if s := m.Facts.Shape(m.Value("scale")); s == nil || len(s) > 1 || dq.Int("block_size", 0) != 0 {
			return rewrite.Decline("the scale has shape %v", s)
		} else if !allOnes(s) {
			axis := dq.Int("axis", 1)
			if axis < 0 {
				axis += int64(len(perm))
			}
			attrs = append(without(attrs, "axis"), onnx.IntAttr("axis", int64(slices.Index(perm, axis))))
		}
		x := p.Add("Transpose", []*onnx.Value{m.Value("x")}, onnx.IntsAttr("perm", perm...))
		p.Swap(m.Root.Output(0), p.Add("DequantizeLinear", []*onnx.Value{x, m.Value("scale"), m.Value("zero")}, attrs...))
		return nil
	},
}

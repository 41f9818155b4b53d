package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// transposeReshape: a Transpose that leaves the axes with more than one element
// in order moves no element. It comes late: patterns and the pass that moves
// Transposes know a Transpose, and not the Reshape.
var transposeReshape = rewrite.Rule{
	Name: "transpose-reshape", Doc: "makes a Reshape, which moves nothing, of a Transpose that moves axes of size 1 only",
	Pattern: "Transpose(x)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		if m.Opset() < 5 {
			return rewrite.Decline("the shape is an attribute at opset %d", m.Opset())
		}
		perm, err := permOf(m, m.Root)
		if err != nil {
			return err
		}
		x := m.Value("x")
		in := m.Facts.Shape(x)
		if len(in) != len(perm) {
			return rewrite.Decline("the rank of %q is not known", x.Name())
		}
		if !keepsElements(in, perm) {
			return rewrite.Decline("it moves axes of other sizes than 1")
		}
		out := make(onnx.Shape, len(perm))
		for i, a := range perm {
			out[i] = in[a]
		}
		target, err := reshapeTarget(m.Facts, in, out)
		if err != nil {
			return err
		}
		p.Swap(m.Root.Output(0), p.Add("Reshape", []*onnx.Value{x, intsConst(p, "shape", target)}))
		return nil
	},
}

// keepsElements reports whether a Transpose of a value of shape in leaves the
// axes that are not certainly of size 1 in their order.
func keepsElements(in onnx.Shape, perm []int64) bool {
	last := int64(-1)
	for _, a := range perm {
		if in[a].Known() && in[a].Value == 1 {
			continue
		}
		if a < last {
			return false
		}
		last = a
	}
	return true
}

package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// prelu: slope·x below 0, x above, with a slope that broadcasts to x (He and
// others, arXiv:1502.01852).
var prelu = rewrite.Rule{
	Name: "prelu", Doc: "recognises PRelu in a choice by sign",
	Pattern: "Where(less=Less(x, zero), mul=Mul(a, b), x)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		for _, label := range []string{"less", "mul"} {
			if err := soleUse(m.Node(label)); err != nil {
				return err
			}
		}
		x, slope := m.Value("x"), m.Value("b")
		if m.Value("a") != x {
			slope = m.Value("a")
		}
		zero, _, ok := scalarConst(m.Value("zero"))
		switch s := m.Facts.Shape(slope); {
		case m.Value("a") != x && m.Value("b") != x:
			return rewrite.Decline("what is chosen below 0 is not a multiple of %q", x.Name())
		case !ok || zero != 0:
			return rewrite.Decline("%q is not 0", m.Value("zero").Name())
		case m.Opset() < 9:
			return rewrite.Decline("PRelu of opset %d has slopes by channel only", m.Opset())
		case !spreadsTo(s, m.Facts.Shape(x)):
			return rewrite.Decline("the slope of shape %v may not broadcast to %v", s, m.Facts.Shape(x))
		}
		p.Swap(m.Root.Output(0), p.Add("PRelu", []*onnx.Value{x, slope}))
		return nil
	},
}

// spreadsTo reports whether a value of shape s certainly broadcasts to shape to.
func spreadsTo(s, to onnx.Shape) bool {
	if s == nil || to == nil || len(s) > len(to) {
		return false
	}
	for i, d := range s {
		if one := d.Known() && d.Value == 1; !one && !d.Same(to[len(to)-len(s)+i]) {
			return false
		}
	}
	return true
}

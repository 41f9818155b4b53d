package fuse

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// undone: an operator that takes itself back.
var undone = rewrite.Rule{
	Name: "undone", Doc: "removes Neg of Neg and Not of Not",
	Pattern: "outer=Neg|Not(inner=Neg|Not(x))",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		if m.Node("inner").Op != m.Node("outer").Op {
			return rewrite.Decline("the operators differ")
		}
		p.Swap(m.Root.Output(0), m.Value("x"))
		return nil
	},
}

// notNegative are operators whose results are never below zero.
var notNegative = []string{"Abs", "Relu", "Sigmoid", "HardSigmoid", "Softmax", "Exp", "Softplus", "Sqrt"}

// again: an operator that changes nothing of its own result, or of what cannot
// be negative.
var again = rewrite.Rule{
	Name: "again", Doc: "removes Abs and Relu of what is never negative, and Ceil, Floor, Round and Sign of what is so already",
	Pattern: "Abs|Relu|Ceil|Floor|Round|Sign(x)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		x := m.Value("x")
		n := x.Producer()
		if n == nil || onnx.NormalDomain(n.Domain) != "" || n.Graph() == nil {
			return rewrite.Decline("its input is not computed")
		}
		settled := n.Op == m.Root.Op
		switch m.Root.Op {
		case "Abs", "Relu": // the least integer has no positive counterpart
			settled = slices.Contains(notNegative, n.Op) && (isFloat(m.Facts.DType(x)) || n.Is("Relu"))
		case "Ceil", "Floor", "Round":
			settled = slices.Contains([]string{"Ceil", "Floor", "Round"}, n.Op)
		}
		if !settled {
			return rewrite.Decline("%v may give something else", n)
		}
		p.Swap(m.Root.Output(0), x)
		return nil
	},
}

// whereConstant: a condition that is the same everywhere picks one side.
var whereConstant = rewrite.Rule{
	Name: "where-constant", Doc: "removes Where whose condition is the same everywhere, or whose sides are",
	Pattern: "Where(c, x, y)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		pick := m.Value("x")
		if pick != m.Value("y") {
			t, err := m.Const("c")
			if err != nil {
				return err
			}
			values, err := t.Ints()
			if err != nil || len(values) == 0 {
				return rewrite.Decline("the condition is empty")
			}
			if slices.ContainsFunc(values, func(v int64) bool { return (v != 0) != (values[0] != 0) }) {
				return rewrite.Decline("the condition differs from place to place")
			}
			if values[0] == 0 {
				pick = m.Value("y")
			}
		}
		return swapIfSameShape(m, p, pick)
	},
}

// whereNot: a negated condition exchanges the sides.
var whereNot = rewrite.Rule{
	Name: "where-not", Doc: "exchanges the sides of Where instead of negating its condition",
	Pattern: "Where(Not(c), x, y)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		p.Swap(m.Root.Output(0), p.Add("Where", []*onnx.Value{m.Value("c"), m.Value("y"), m.Value("x")}))
		return nil
	},
}

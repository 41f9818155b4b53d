package fuse

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/algebra"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// logSumExpMax: ReduceLogSumExp of x less its largest element, plus that, or 0
// for either where the largest is not finite. Engines keep it from overflow
// themselves, but for TensorRT, which computes what the operator says.
func logSumExpMax(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: "log-sum-exp-max", Doc: "makes ReduceLogSumExp of one that is kept from overflow by the largest element, which is taken away before and added after",
		Pattern: "Add(r=ReduceLogSumExp(d=Sub(x, m), ?axes), back)",
		Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			r, most := m.Node("r"), producerOf(unguarded(m.Value("m")), "ReduceMax")
			if most == nil || most.Input(0) != m.Value("x") {
				return rewrite.ErrNotHere
			}
			for _, label := range []string{"r", "d"} {
				if err := soleUse(m.Node(label)); err != nil {
					return err
				}
			}
			reader := &algebra.Reader{Facts: m.Facts}
			axes, ok1 := reader.Axes(r)
			of, ok2 := reader.Axes(most)
			switch back := m.Value("back"); {
			case t.Name == "tensorrt":
				return rewrite.Decline("the target %s does not keep ReduceLogSumExp from overflow", t.name())
			case !ok1 || !ok2 || !slices.Equal(axes, of) || most.Int("keepdims", 1) == 0:
				return rewrite.Decline("the largest element is along other axes")
			case !sameElements(back, m.Value("m")) || !m.Facts.Shape(back).Equal(m.Facts.Shape(r.Output(0))):
				return rewrite.Decline("what is added is not the largest element")
			}
			p.Swap(m.Root.Output(0), p.Add("ReduceLogSumExp", []*onnx.Value{m.Value("x"), m.Value("axes")}, r.Attrs...))
			return nil
		},
	}
}

// unguarded returns the value of which v is the elements that are finite, with 0
// in the place of others, or v.
func unguarded(v *onnx.Value) *onnx.Value {
	n := producerOf(v, "Where")
	if n == nil {
		return v
	}
	x, other := n.Input(1), n.Input(2)
	holds := finite(n.Input(0), x)
	if !holds {
		x, other = other, x
		holds = infinite(n.Input(0), x)
	}
	if c, _, ok := scalarConst(other); holds && ok && c == 0 {
		return x
	}
	return v
}

// finite reports whether cond is that v is finite, or at least not infinite.
func finite(cond, v *onnx.Value) bool {
	if n := producerOf(cond, "Not"); n != nil {
		return infinite(n.Input(0), v)
	}
	n := producerOf(cond, "And")
	return n != nil && finiteOrNumber(n.Input(0), n.Input(1), v)
}

// infinite reports whether cond is that v is infinite, or that or no number.
func infinite(cond, v *onnx.Value) bool {
	if n := producerOf(cond, "Or"); n != nil {
		a, b := n.Input(0), n.Input(1)
		return infinite(a, v) && isNaN(b, v) || infinite(b, v) && isNaN(a, v)
	}
	n := producerOf(cond, "IsInf")
	return n != nil && n.Input(0) == v && n.Int("detect_negative", 1) == 1 && n.Int("detect_positive", 1) == 1
}

// finiteOrNumber reports whether one of the conditions is that v is not infinite,
// and the other that it is a number.
func finiteOrNumber(a, b, v *onnx.Value) bool {
	number := func(c *onnx.Value) bool {
		if n := producerOf(c, "Not"); n != nil {
			return isNaN(n.Input(0), v)
		}
		n := producerOf(c, "Equal")
		return n != nil && n.Input(0) == v && n.Input(1) == v
	}
	return finite(a, v) && number(b) || finite(b, v) && number(a)
}

// isNaN reports whether cond is that v is no number.
func isNaN(cond, v *onnx.Value) bool {
	if n := producerOf(cond, "Not"); n != nil {
		n = producerOf(n.Input(0), "Equal")
		return n != nil && n.Input(0) == v && n.Input(1) == v
	}
	n := producerOf(cond, "IsNaN")
	return n != nil && n.Input(0) == v
}

// sameElements reports whether v is of, or of without some axes of size 1.
func sameElements(v, of *onnx.Value) bool {
	if n := v.Producer(); v != of && n != nil && (n.Is("Squeeze") || n.Is("Reshape")) {
		return n.Input(0) == of
	}
	return v == of
}

package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// normSpelling returns the rule that writes a normalization over the last axis the arithmetic that ONNX Runtime recognises: the square by Pow, the quotient by
// the root, then scale and shift. Without a scale it recognises none.
func normSpelling(t *Target, name, doc, roots, op string, since int64, centred bool) rewrite.Rule {
	return rewrite.Rule{
		Name: name, Doc: doc, Pattern: roots,
		Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			d := m.Facts.DType(m.Root.Output(0))
			if offerNorm(t, m, op, since) == nil {
				return rewrite.ErrNotHere
			}
			f, x, axis, err := t.trailingNorm(m, centred)
			if err != nil {
				return rewrite.ErrNotHere // the rule for the operator says why
			}
			switch {
			case d != onnx.Float:
				return rewrite.Decline("ONNX Runtime does not recognise it in %v", d)
			case f.scale == nil || f.factor != 1 || f.shift != nil && !centred:
				return rewrite.Decline("ONNX Runtime recognises it with a scale only")
			case axis != len(m.Facts.Shape(x))-1 || len(m.Facts.Shape(f.scale)) != 1:
				return rewrite.Decline("ONNX Runtime recognises it over the last axis only")
			}
			if err := unshared(m, f.r); err != nil {
				return err
			}
			return respell(m, p, f.r, []*tree{f.spelled(m)})
		},
	}
}

// normRead is what [trailingNorm] gave last. The rule for an operator and that for
// its spelling ask for the same, one after the other.
type normRead struct {
	root    *onnx.Node
	centred bool
	edits   int // of the model before

	f    *normForm
	x    *onnx.Value
	axis int
	err  error
}

// trailingNorm is [trailingNorm], not done twice for one place in one model.
func (t *Target) trailingNorm(m *rewrite.Match, centred bool) (*normForm, *onnx.Value, int, error) {
	edits := m.Root.Graph().Model().Edits()
	if n := &t.norm; n.root != m.Root || n.centred != centred || n.edits != edits {
		*n = normRead{root: m.Root, centred: centred, edits: edits}
		n.f, n.x, n.axis, n.err = trailingNorm(m, centred)
	}
	return t.norm.f, t.norm.x, t.norm.axis, t.norm.err
}

// spelled returns the normalization as a tree.
func (f *normForm) spelled(m *rewrite.Match) *tree {
	x := &tree{value: f.x}
	mean := func(v *tree) *tree {
		if m.Opset() >= 18 {
			return node("ReduceMean", v, &tree{ints: []int64{-1}})
		}
		return &tree{op: "ReduceMean", args: []*tree{v}, attrs: []*onnx.Attr{onnx.IntsAttr("axes", -1)}}
	}
	centre := x
	if f.centred {
		centre = node("Sub", x, mean(x))
	}
	root := node("Sqrt", node("Add", mean(node("Pow", centre, number(2))), number(f.epsilon)))
	y := node("Mul", node("Div", centre, root), &tree{value: f.scale})
	if f.shift != nil {
		y = node("Add", y, &tree{value: f.shift})
	}
	return y
}

func layerNormSpelling(t *Target) rewrite.Rule {
	return normSpelling(t, "layernorm-spelling",
		"writes LayerNormalization, below opset 17, in the arithmetic that ONNX Runtime fuses when it loads a model", "Add|Mul|Div(...)", "LayerNormalization", 17, true)
}

func rmsNormSpelling(t *Target) rewrite.Rule {
	return normSpelling(t, "rmsnorm-spelling",
		"writes RMSNormalization, below opset 23, in the arithmetic that ONNX Runtime fuses when it loads a model", "Mul|Div(...)", "RMSNormalization", 23, false)
}

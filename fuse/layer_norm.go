package fuse

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// layerNorm recognises LayerNormalization (Ba and others, arXiv:1607.06450) over
// trailing axes, however variance, root and quotient are written, also over the
// matrix that Flatten makes of them.
func layerNorm(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: "layernorm", Doc: "recognises LayerNormalization in any arithmetic that computes it",
		Pattern: "Add|Mul|Div|Reshape(...)",
		Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			f, x, axis, err := t.trailingNorm(m, true)
			if err != nil {
				return err
			}
			if err := offerNorm(t, m, "LayerNormalization", 17); err != nil {
				return err
			}
			dims := m.Facts.Shape(x)[axis:]
			scale, shift, err := f.normParams(m, p, dims)
			if err != nil {
				return err
			}
			leaks, err := f.leaks(m, m.Root.Output(0), nil)
			if err != nil {
				return err
			}
			outputs := 1
			for _, l := range leaks {
				outputs = max(outputs, 1+l.output)
			}
			n := p.AddNode("", "LayerNormalization", []*onnx.Value{x, scale, shift}, outputs,
				onnx.IntAttr("axis", int64(axis-len(m.Facts.Shape(x)))), onnx.FloatAttr("epsilon", float32(f.epsilon)))
			p.Swap(m.Root.Output(0), n.Output(0))
			return swapLeaks(m, p, leaks, n, x, axis)
		},
	}
}

// rmsNorm recognises RMSNormalization (Zhang and Sennrich, arXiv:1910.07467),
// which ONNX Runtime calls SimplifiedLayerNormalization.
func rmsNorm(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: "rmsnorm", Doc: "recognises RMSNormalization in any arithmetic that computes it; SimplifiedLayerNormalization for ONNX Runtime below opset 23",
		Pattern: "Mul|Div|Reshape(...)",
		Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			f, x, axis, err := t.trailingNorm(m, false)
			if err != nil {
				return err
			}
			if f.shift != nil {
				return rewrite.Decline("it has a shift")
			}
			op := "RMSNormalization"
			if err := t.offer(m, "", op, m.Facts.DType(x)); err != nil {
				if !t.Own() || offerNorm(t, m, "SimplifiedLayerNormalization", 1) != nil {
					return err
				}
				op = "SimplifiedLayerNormalization"
			}
			scale, _, err := f.normParams(m, p, m.Facts.Shape(x)[axis:])
			if err != nil {
				return err
			}
			leaks, err := f.leaks(m, m.Root.Output(0), nil)
			if err != nil {
				return err
			}
			if len(leaks) > 0 {
				return rewrite.Decline("%q is read elsewhere too", leaks[0].v.Name())
			}
			y := p.Add(op, []*onnx.Value{x, scale},
				onnx.IntAttr("axis", int64(axis-len(m.Facts.Shape(x)))), onnx.FloatAttr("epsilon", float32(f.epsilon)))
			p.Swap(m.Root.Output(0), y)
			return nil
		},
	}
}

// offerNorm declines unless the target has a normalization: a standard one from
// version since on; ONNX Runtime has it at every opset.
func offerNorm(t *Target, m *rewrite.Match, op string, since int64) error {
	d := m.Facts.DType(m.Root.Output(0))
	if (op == "SimplifiedLayerNormalization" || m.Opset() < since) && m.Root.Graph().InFunction() {
		return rewrite.Decline("ONNX Runtime has %s in graphs only, not in local functions", op)
	}
	if m.Opset() >= since && (op != "SimplifiedLayerNormalization" || t.Own()) {
		return t.offer(m, "", op, d)
	}
	if t.Own() && (t.Kernel == nil || t.Kernel("", op, max(m.Opset(), since), d)) {
		return nil
	}
	return rewrite.Decline("%s needs opset %d: raise the model's with --opset %d, or choose --target ort-cpu", op, since, since)
}

// trailingNorm reads the match as a normalization over the trailing axes of a
// value, and returns that and the first of the axes.
func trailingNorm(m *rewrite.Match, centred bool) (f *normForm, x *onnx.Value, axis int, err error) {
	root := m.Root.Output(0)
	if !isFloat(m.Facts.DType(root)) {
		return nil, nil, 0, rewrite.Decline("the element type is %v", m.Facts.DType(root))
	}
	body := root
	if m.Root.Is("Reshape") {
		body = m.Root.Input(0)
		if body.Producer() == nil || body.IsOutput() || len(body.Uses()) != 1 {
			return nil, nil, 0, rewrite.ErrNotHere
		}
	}
	region := upstream(body.Producer(), mostUpstream)
	if !hasMean(region) || !rooted(body.Producer(), 5) {
		return nil, nil, 0, rewrite.ErrNotHere
	}
	if f, err = normOf(m, body, region); err != nil {
		return nil, nil, 0, err
	}
	if f.centred != centred {
		return nil, nil, 0, rewrite.Decline("whether the mean is taken away decides on the operator")
	}
	x = f.x
	shape := m.Facts.Shape(x)
	if !trailing(f.axes, len(shape)) {
		return nil, nil, 0, rewrite.Decline("the axes %v of %v are not the last ones", f.axes, shape)
	}
	axis = int(f.axes[0])
	if m.Root.Is("Reshape") {
		x = flattened(m.Facts, f.x)
		var ok bool
		if x == nil || !m.Facts.Shape(x).Equal(m.Facts.Shape(root)) || len(f.axes) != 1 {
			return nil, nil, 0, rewrite.Decline("it is not a matrix of the same axes that is normalized")
		}
		if axis, ok = unflattened(m.Facts.Shape(x), shape); !ok {
			return nil, nil, 0, rewrite.Decline("the matrix %v is not that of the last axes of %v", shape, m.Facts.Shape(x))
		}
		return f, x, axis, nil
	}
	if !m.Facts.Shape(root).Equal(shape) {
		return nil, nil, 0, rewrite.Decline("the shape goes from %v to %v", shape, m.Facts.Shape(root))
	}
	return f, x, axis, f.followed(m)
}

// rooted reports whether a root, or a power that may be one, is taken at most
// depth nodes before n.
func rooted(n *onnx.Node, depth int) bool {
	if n.Is("Sqrt") || n.Is("Pow") || n.Is("ReduceL2") {
		return true
	}
	if depth == 0 || !ofFormulas(n) {
		return false
	}
	for _, v := range n.Inputs() {
		if v != nil && v.Producer() != nil && rooted(v.Producer(), depth-1) {
			return true
		}
	}
	return false
}

func hasMean(region []*onnx.Node) bool { return slices.ContainsFunc(region, isMean) }

// swapLeaks makes readers of the mean and of one over the deviation read the
// outputs of n, which have size 1 along the axes normalized.
func swapLeaks(m *rewrite.Match, p *rewrite.Patch, leaks []leak, n *onnx.Node, x *onnx.Value, axis int) error {
	want := append(onnx.Shape(nil), m.Facts.Shape(x)...)
	for i := axis; i < len(want); i++ {
		want[i] = onnx.Fixed(1)
	}
	for _, l := range leaks {
		v := l.v
		if !m.Facts.Shape(v).Equal(want) {
			uses := v.Uses()
			if v.IsOutput() || len(outsideUses(uses, m)) != 1 {
				return rewrite.Decline("%q is read elsewhere too", v.Name())
			}
			v = outsideUses(uses, m)[0].Node.Output(0)
			if v == nil || !v.Producer().Is("Reshape") || !m.Facts.Shape(v).Equal(want) {
				return rewrite.Decline("%q is read elsewhere too", l.v.Name())
			}
		}
		p.Swap(v, n.Output(l.output))
	}
	return nil
}

// outsideUses returns the uses by Reshape: other readers are within.
func outsideUses(uses []onnx.Use, m *rewrite.Match) []onnx.Use {
	var out []onnx.Use
	for _, u := range uses {
		if u.Node.Is("Reshape") && u.Node != m.Root {
			out = append(out, u)
		}
	}
	return out
}

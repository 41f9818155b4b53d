package fuse

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// expandBroadcast: an operator that broadcasts its inputs needs no Expand, and
// no tensor filled with one value.
var expandBroadcast = rewrite.Rule{
	Name: "expand-broadcast", Doc: "removes Expand, or ConstantOfShape but for one element, in front of an operator that broadcasts to the same shape anyhow",
	Pattern: "Add|Sub|Mul|Div|Pow|Min|Max|Sum|Mean|And|Or|Xor|Equal|Less|Greater|LessOrEqual|GreaterOrEqual|Mod|Where(...)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		in := slices.Clone(m.Root.Inputs())
		if m.Opset() < 7 {
			return rewrite.Decline("operators do not broadcast at opset %d", m.Opset())
		}
		found := false
		for i, v := range in {
			small := unexpanded(p, v)
			if small == nil {
				continue
			}
			in[i] = small
			if !broadcastsTogether(m, in) {
				in[i] = v
				continue
			}
			found = true
		}
		if !found {
			return rewrite.Decline("no input is expanded to what the others broadcast to")
		}
		n := p.AddNode("", m.Root.Op, in, 1, m.Root.Attrs...)
		p.Swap(m.Root.Output(0), n.Output(0))
		return nil
	},
}

// unexpanded returns what v is expanded from, nil if it is not.
func unexpanded(p *rewrite.Patch, v *onnx.Value) *onnx.Value {
	if n := producerOf(v, "Expand"); n != nil {
		return n.Input(0)
	}
	n := producerOf(v, "ConstantOfShape")
	if n == nil {
		return nil
	}
	t := onnx.FromFloats("value", []int64{1}, []float32{0})
	if a := n.Attr("value"); a != nil {
		if t = a.T; t == nil || a.Ref != "" {
			return nil
		}
	}
	one := *t
	one.Shape = []int64{}
	if one.Name == "" {
		one.Name = "value"
	}
	return p.Const(&one)
}

// broadcastsTogether reports whether inputs certainly broadcast to the shape
// that the node has now.
func broadcastsTogether(m *rewrite.Match, in []*onnx.Value) bool {
	shapes := make([]onnx.Shape, len(in))
	for i, v := range in {
		shapes[i] = m.Facts.Shape(v)
	}
	s, ok := broadcastShape(shapes...)
	return ok && s.Equal(m.Facts.Shape(m.Root.Output(0)))
}

package fuse

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// concatReshaped: values that are reshaped one by one and then joined, as when
// they are stacked along a new axis, are joined first and reshaped once.
var concatReshaped = rewrite.Rule{
	Name: "concat-reshaped", Doc: "joins values before they are reshaped, once, where each was reshaped and then joined",
	Pattern: "Concat(...)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		axis, err := axisAttr(m, m.Root, m.Root.Output(0), 1)
		if err != nil {
			return err
		}
		before, err := reshapedInputs(m.Root)
		if err != nil {
			return err
		}
		in, along, err := joinedBefore(m, before, axis)
		if err != nil {
			return err
		}
		target, err := reshapeTarget(m.Facts, in, m.Facts.Shape(m.Root.Output(0)))
		if err != nil {
			return err
		}
		joined := p.Add("Concat", before, onnx.IntAttr("axis", along))
		p.Swap(m.Root.Output(0), p.Add("Reshape", []*onnx.Value{joined, intsConst(p, "shape", target)}))
		return nil
	},
}

// reshapedInputs returns what the inputs of a Concat were before they were
// reshaped for it alone, or declines.
func reshapedInputs(concat *onnx.Node) ([]*onnx.Value, error) {
	var out []*onnx.Value
	for _, v := range concat.Inputs() {
		n := v.Producer()
		if n == nil || n.Graph() != concat.Graph() || !(n.Is("Reshape") || n.Is("Squeeze") || n.Is("Unsqueeze") || n.Is("Flatten")) {
			return nil, rewrite.Decline("%q is not reshaped", v.Name())
		}
		if v.IsOutput() || len(v.Uses()) != 1 {
			return nil, rewrite.Decline("%q is read elsewhere too", v.Name())
		}
		out = append(out, n.Input(0))
	}
	if len(out) < 2 {
		return nil, rewrite.Decline("it joins one value")
	}
	return out, nil
}

// joinedBefore finds the axis along which the values before joined give the same
// elements in the same order as those after them along axis: the axes in front
// must have as many elements, and all other sizes must be the same. It returns
// the shape of what is joined.
func joinedBefore(m *rewrite.Match, before []*onnx.Value, axis int64) (onnx.Shape, int64, error) {
	first := m.Facts.Shape(before[0])
	after := m.Facts.Shape(m.Root.Input(0))
	if first == nil || after == nil {
		return nil, 0, rewrite.Decline("a rank is not known")
	}
	for along := range first {
		if !sameCount(first[:along], after[:axis]) {
			continue
		}
		if s, ok := joinedShape(m, before, along); ok {
			return s, int64(along), nil
		}
	}
	return nil, 0, rewrite.Decline("no axis of %v begins where axis %d of %v does, or other sizes differ", first, axis, after)
}

// joinedShape returns the shape of what a Concat along an axis joins, false
// where the values do not fit or the sizes along the axis are not known.
func joinedShape(m *rewrite.Match, list []*onnx.Value, along int) (onnx.Shape, bool) {
	out := slices.Clone(m.Facts.Shape(list[0]))
	for _, v := range list[1:] {
		s := m.Facts.Shape(v)
		if len(s) != len(out) || !s[:along].Equal(out[:along]) || !s[along+1:].Equal(out[along+1:]) || !s[along].Known() || !out[along].Known() {
			return nil, false
		}
		out[along] = onnx.Fixed(out[along].Value + s[along].Value)
	}
	return out, true
}

package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// axisNorm recognises a normalization over one axis that is not the last, such as
// the channels of an image in ConvNeXt (Liu and others, arXiv:2201.03545). The
// operators normalize last axes, so that Transpose puts it there and back: on a
// CPU both and the operator take a third of the time of the arithmetic.
func axisNorm(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: "layernorm-axis", Doc: "recognises LayerNormalization and RMSNormalization over one axis that is not the last, between two Transpose",
		Pattern: "Add|Mul|Div(...)",
		Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			root := m.Root.Output(0)
			region := upstream(m.Root, mostUpstream)
			if !isFloat(m.Facts.DType(root)) || !hasMean(region) || !rooted(m.Root, 5) {
				return rewrite.ErrNotHere
			}
			f, err := normOf(m, root, region)
			if err != nil {
				return rewrite.ErrNotHere // layernorm and rmsnorm say why
			}
			shape := m.Facts.Shape(f.x)
			if len(f.axes) != 1 || len(shape) < 3 || trailing(f.axes, len(shape)) {
				return rewrite.ErrNotHere
			}
			if !m.Facts.Shape(root).Equal(shape) {
				return rewrite.Decline("the shape goes from %v to %v", shape, m.Facts.Shape(root))
			}
			if f.axisFollowed(m, shape) {
				return rewrite.ErrNotHere // the larger one ends further on
			}
			if err := unshared(m, f.r); err != nil {
				return err
			}
			if t.GPU() && !f.centred {
				return rewrite.Decline("on a GPU two Transpose move as much as the arithmetic that they save")
			}
			op, err := f.operator(t, m)
			if err != nil {
				return err
			}
			return f.transposed(m, p, op, shape)
		},
	}
}

// operator returns the operator that computes f, or declines.
func (f *normForm) operator(t *Target, m *rewrite.Match) (string, error) {
	if f.centred {
		return "LayerNormalization", offerNorm(t, m, "LayerNormalization", 17)
	}
	if f.shift != nil {
		return "", rewrite.Decline("it has a shift")
	}
	err := t.offer(m, "", "RMSNormalization", m.Facts.DType(f.x))
	if err == nil || !t.Own() || offerNorm(t, m, "SimplifiedLayerNormalization", 1) != nil {
		return "RMSNormalization", err
	}
	return "SimplifiedLayerNormalization", nil
}

// axisFollowed reports whether the only reader of root scales or shifts it by
// constants along the axis.
func (f *normForm) axisFollowed(m *rewrite.Match, shape onnx.Shape) bool {
	root, axis := m.Root.Output(0), int(f.axes[0])
	n := soleReader(root)
	if n == nil || !(n.Is("Mul") && f.scale == nil && f.shift == nil || n.Is("Add") && f.shift == nil && f.centred) {
		return false
	}
	if n.Is("Add") && (isNumber(n.Input(0)) || isNumber(n.Input(1))) {
		return false
	}
	_, ok := channelwise(m.Facts, n, root, axis, shape[axis:axis+1])
	return ok
}

// transposed proposes op with the axis of f last.
func (f *normForm) transposed(m *rewrite.Match, p *rewrite.Patch, op string, shape onnx.Shape) error {
	axis := int(f.axes[0])
	perm := make([]int64, 0, len(shape))
	for i := range shape {
		if i != axis {
			perm = append(perm, int64(i))
		}
	}
	perm = append(perm, int64(axis))
	in := []*onnx.Value{nil}
	for _, q := range []struct {
		name  string
		v     *onnx.Value
		fill  float64
		given bool
	}{{"scale", f.scale, f.factor, true}, {"shift", f.shift, 0, f.shift != nil}} {
		if !q.given {
			continue
		}
		c, err := f.axisVector(m, p, q.name, q.v, q.fill, shape)
		if err != nil {
			return err
		}
		in = append(in, c)
	}
	in[0] = p.Add("Transpose", []*onnx.Value{f.x}, onnx.IntsAttr("perm", perm...))
	y := p.Add(op, in, onnx.IntAttr("axis", -1), onnx.FloatAttr("epsilon", float32(f.epsilon)))
	p.Swap(m.Root.Output(0), p.Add("Transpose", []*onnx.Value{y}, onnx.IntsAttr("perm", inverse(perm)...)))
	return nil
}

// axisVector returns v, which varies along the axis of f only, as a vector; where
// there is no v, one filled with a number.
func (f *normForm) axisVector(m *rewrite.Match, p *rewrite.Patch, name string, v *onnx.Value, fill float64, shape onnx.Shape) (*onnx.Value, error) {
	axis, d := int(f.axes[0]), m.Facts.DType(f.x)
	if !shape[axis].Known() {
		return nil, rewrite.Decline("the size %v of the axis is not known", shape[axis])
	}
	if v == nil {
		return spread(p, name, d, []int64{shape[axis].Value}, fill)
	}
	if name == "scale" && f.factor != 1 {
		return nil, rewrite.Decline("it is scaled by %q and by %v", v.Name(), f.factor)
	}
	t, err := constant(v, "the "+name)
	if err != nil {
		return nil, err
	}
	list, ok := alongAxes(t, len(shape), axis, shape[axis:axis+1])
	if !ok {
		return nil, rewrite.Decline("%q of shape %s is not one for each element along axis %d of %v", v.Name(), dims(t.Shape), axis, shape)
	}
	c, err := floatTensor(t.Name, d, []int64{int64(len(list))}, list)
	if err != nil {
		return nil, err
	}
	return p.Const(c), nil
}

package fuse

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// knownInts returns the elements of an integer value, constant or computed from
// known shapes; false unless every one is known.
func knownInts(f *opset.Facts, v *onnx.Value) ([]int64, bool) {
	if v == nil {
		return nil, false
	}
	if t := v.Constant(); t != nil {
		if !t.DType.IsInt() {
			return nil, false
		}
		out, err := t.Ints()
		return out, err == nil
	}
	ints, ok := f.Ints(v)
	if !ok {
		return nil, false
	}
	out := make([]int64, len(ints))
	for i, x := range ints {
		if !x.Known {
			return nil, false
		}
		out[i] = x.Value
	}
	return out, true
}

// axesArg returns the axes of Squeeze, Unsqueeze or a reduction, which are an
// attribute or input 1, or declines where they are not known. given is false
// where there are none, which has a meaning of its own.
func axesArg(m *rewrite.Match, n *onnx.Node) (axes []int64, given bool, err error) {
	if axes = n.Ints("axes", nil); axes != nil {
		return axes, true, nil
	}
	v := n.Input(1)
	if v == nil {
		return nil, false, nil
	}
	axes, ok := knownInts(m.Facts, v)
	if !ok {
		return nil, false, rewrite.Decline("the axes of %v are not constant", n)
	}
	return axes, true, nil
}

// normalAxes returns axes counted from the front of rank axes, in ascending
// order; false where one is out of range or repeated.
func normalAxes(axes []int64, rank int) ([]int64, bool) {
	out := make([]int64, len(axes))
	for i, a := range axes {
		if a < 0 {
			a += int64(rank)
		}
		if a < 0 || a >= int64(rank) {
			return nil, false
		}
		out[i] = a
	}
	slices.Sort(out)
	return out, len(slices.Compact(slices.Clone(out))) == len(out)
}

// intsConst proposes a 1-D int64 constant.
func intsConst(p *rewrite.Patch, name string, v []int64) *onnx.Value {
	return p.Const(onnx.FromInts(name, []int64{int64(len(v))}, v))
}

// withAxes proposes Squeeze, Unsqueeze or a reduction with axes in the form of
// the opset in force: an input from version since on, an attribute before.
func withAxes(m *rewrite.Match, p *rewrite.Patch, op string, since int64, x *onnx.Value, axes []int64, attrs ...*onnx.Attr) *onnx.Value {
	if m.Opset() >= since {
		return p.Add(op, []*onnx.Value{x, intsConst(p, "axes", axes)}, attrs...)
	}
	return p.Add(op, []*onnx.Value{x}, append(attrs, onnx.IntsAttr("axes", axes...))...)
}

// scalarConst returns the only element of a constant of one element.
func scalarConst(v *onnx.Value) (float64, *onnx.Tensor, bool) {
	t := v.Constant()
	if t == nil || t.DType == onnx.String {
		return 0, nil, false
	}
	if n, ok := t.Elements(); !ok || n != 1 {
		return 0, nil, false
	}
	x, err := t.Float64s()
	if err != nil {
		return 0, nil, false
	}
	return x[0], t, true
}

// rankAtMost reports whether a constant shape has no more axes than x surely has.
func rankAtMost(c []int64, x onnx.Shape) bool { return len(c) == 0 || x != nil && len(c) <= len(x) }

// broadcastShape returns the shape that shapes broadcast to, false unless it is
// certain in every dimension.
func broadcastShape(shapes ...onnx.Shape) (onnx.Shape, bool) {
	rank := 0
	for _, s := range shapes {
		if s == nil {
			return nil, false
		}
		rank = max(rank, len(s))
	}
	out := onnx.ShapeOf(slices.Repeat([]int64{1}, rank)...)
	for _, s := range shapes {
		for i, d := range s {
			at := &out[rank-len(s)+i]
			switch {
			case d.Known() && d.Value == 1:
			case at.Known() && at.Value == 1:
				*at = d
			case !at.Same(d):
				return nil, false
			}
		}
	}
	return out, true
}

// producerOf returns the node that computes v if it is the operator op.
func producerOf(v *onnx.Value, op string) *onnx.Node {
	if v == nil || !v.Producer().Is(op) || v.Producer().Graph() == nil {
		return nil
	}
	return v.Producer()
}

// readBy reports whether a node of one of the operators reads v.
func readBy(v *onnx.Value, ops ...string) bool {
	return slices.ContainsFunc(v.Uses(), func(u onnx.Use) bool {
		return slices.ContainsFunc(ops, u.Node.Is)
	})
}

// isFloat reports whether d is one of the types that arithmetic rounds in.
func isFloat(d onnx.DType) bool {
	return d == onnx.Float || d == onnx.Double || d == onnx.Float16 || d == onnx.BFloat16
}

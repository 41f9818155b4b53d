package fuse

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// through absorbs a before n, an operator that a commutes with.
func (f *folder) through(n *onnx.Node, a affine) (*onnx.Value, error) {
	switch n.Op {
	case "Add", "Sub", "Mul", "Div", "Neg", "BatchNormalization":
		x, inner, err := affineNode(n, f.m.Facts)
		if err != nil {
			return nil, err
		}
		both, err := inner.then(a)
		if err != nil {
			return nil, err
		}
		f.gone++
		return f.absorb(x, both)
	case "Relu", "LeakyRelu":
		if !a.pure() || !a.positive() {
			return nil, rewrite.Decline("%s commutes with scales above zero only", n.Op)
		}
		return f.again(n, a, nil)
	case "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool":
		if err := f.commutesWithPool(n, a); err != nil {
			return nil, err
		}
		return f.again(n, a, nil)
	case "Concat":
		return f.throughConcat(n, a)
	case "Pad":
		return f.throughPad(n, a)
	case "Transpose":
		b, err := f.beforeTranspose(n, a)
		return f.again(n, b, err)
	case "Reshape", "Flatten", "Squeeze", "Unsqueeze":
		b, err := f.beforeReshape(n, a)
		return f.again(n, b, err)
	}
	return nil, rewrite.Decline("%v has no weights to fold into", n)
}

// again absorbs a into the first input of n and proposes n on the result.
func (f *folder) again(n *onnx.Node, a affine, err error) (*onnx.Value, error) {
	if err != nil {
		return nil, err
	}
	x, err := f.absorb(n.Input(0), a)
	if err != nil {
		return nil, err
	}
	in := append([]*onnx.Value(nil), n.Inputs()...)
	in[0] = x
	return f.p.Add(n.Op, in, n.Attrs...), nil
}

// commutesWithPool declines unless pooling a of x is a of pooling x. The largest
// element keeps its place under scales above zero, and padding is never the
// largest. A mean keeps a shift where it counts no padding.
func (f *folder) commutesWithPool(n *onnx.Node, a affine) error {
	if rank := rankOf(n.Input(0), f.m.Facts); !a.uniform() && rank >= 0 && a.after != rank-2 {
		return rewrite.Decline("the constant varies along another axis than the channels")
	}
	switch {
	case n.Op == "GlobalAveragePool":
		return nil
	case n.Op != "AveragePool":
		return keepsLargest(n, a)
	case a.pure() || !padded(n) && n.Int("ceil_mode", 0) == 0:
		return nil
	case n.Int("count_include_pad", 0) != 0 || n.Int("ceil_mode", 0) != 0:
		return rewrite.Decline("AveragePool counts padding, which the shift would not reach")
	}
	return nil
}

// keepsLargest is commutesWithPool of MaxPool and GlobalMaxPool.
func keepsLargest(n *onnx.Node, a affine) error {
	switch {
	case !a.positive():
		return rewrite.Decline("a scale is not above zero, so another element would be the largest")
	case n.Output(1) != nil && !n.Output(1).Dead():
		return rewrite.Decline("the indices of %v are read", n)
	case padded(n) && !all64(n.Ints("dilations", nil), 1):
		return rewrite.Decline("a window of %v may be padding only", n)
	}
	return nil
}

// padded reports whether a pooling or convolution may read padding.
func padded(n *onnx.Node) bool {
	if auto := n.Str("auto_pad", "NOTSET"); auto != "NOTSET" && auto != "VALID" && auto != "" {
		return true
	}
	return !all64(n.Ints("pads", nil), 0)
}

func all64(v []int64, want int64) bool {
	return !slices.ContainsFunc(v, func(x int64) bool { return x != want })
}

// throughConcat absorbs into every input of Concat its channels of a.
func (f *folder) throughConcat(n *onnx.Node, a affine) (*onnx.Value, error) {
	shape := f.m.Facts.Shape(n.Output(0))
	axis := n.Int("axis", 1)
	if axis < 0 {
		axis += int64(len(shape))
	}
	if shape == nil && !a.uniform() {
		return nil, rewrite.Decline("the rank of %v is not known", n)
	}
	parts, at := slices.Repeat([]affine{a}, len(n.Inputs())), int64(0)
	if !a.uniform() && int(axis) == len(shape)-1-a.after {
		for i, v := range n.Inputs() {
			s := f.m.Facts.Shape(v)
			if len(s) != len(shape) || !s[axis].Known() || at+s[axis].Value > int64(len(a.scale)) || s[axis].Value == 0 {
				return nil, rewrite.Decline("the channels of input %d of %v are not known", i, n)
			}
			end := at + s[axis].Value
			parts[i], at = affine{a.scale[at:end], a.shift[at:end], a.after}, end
		}
		if at != int64(len(a.scale)) {
			return nil, rewrite.Decline("%v has %d channels, not %d", n, at, len(a.scale))
		}
	}
	in := make([]*onnx.Value, len(parts))
	for i, v := range n.Inputs() {
		var err error
		if in[i], err = f.absorb(v, parts[i]); err != nil {
			return nil, err
		}
	}
	return f.p.Add("Concat", in, n.Attrs...), nil
}

// throughPad absorbs before Pad, whose constant becomes a of it: one number, so
// that number must be the same in all channels.
func (f *folder) throughPad(n *onnx.Node, a affine) (*onnx.Value, error) {
	pad, err := padOf(f.m, n)
	if err != nil {
		return nil, err
	}
	if axis := len(pad.begin) - 1 - a.after; !a.uniform() && (axis < 0 || pad.begin[axis] != 0 || pad.end[axis] != 0) {
		return nil, rewrite.Decline("Pad adds channels")
	}
	if pad.mode != "constant" {
		return f.again(n, a, nil)
	}
	value := pad.value*a.scale[0] + a.shift[0]
	for i := range a.scale {
		if pad.value*a.scale[i]+a.shift[i] != value {
			return nil, rewrite.Decline("the padding would differ from channel to channel")
		}
	}
	if value == pad.value {
		return f.again(n, a, nil)
	}
	if n.OpsetVersion("") < 11 {
		return nil, rewrite.Decline("the padding would be %v", value)
	}
	d := f.m.Facts.DType(n.Input(0))
	if !isReal(d) {
		return nil, rewrite.Decline("the element type of %v is not known", n)
	}
	t, err := floatTensor("padding", d, []int64{}, []float64{value})
	if err != nil {
		return nil, err
	}
	x, err := f.absorb(n.Input(0), a)
	if err != nil {
		return nil, err
	}
	return f.p.Add("Pad", []*onnx.Value{x, n.Input(1), f.p.Const(t), n.Input(3)}, n.Attrs...), nil
}

// beforeTranspose returns a along the axis of the input of Transpose that
// becomes its axis.
func (f *folder) beforeTranspose(n *onnx.Node, a affine) (affine, error) {
	if a.uniform() {
		return a, nil
	}
	rank := max(rankOf(n.Output(0), f.m.Facts), len(n.Ints("perm", nil)))
	if rank <= a.after {
		return a, rewrite.Decline("the rank of %v is not known", n)
	}
	axis := rank - 1 - a.after
	from := rank - 1 - axis
	if perm := n.Ints("perm", nil); perm != nil {
		from = int(perm[axis])
	}
	a.after = rank - 1 - from
	return a, nil
}

// beforeReshape returns a along the axis of the input of a reshape that becomes
// its axis: of the same size, with as many elements after it.
func (f *folder) beforeReshape(n *onnx.Node, a affine) (affine, error) {
	if a.uniform() {
		return a, nil
	}
	in, out := f.m.Facts.Shape(n.Input(0)), f.m.Facts.Shape(n.Output(0))
	if axis := len(out) - 1 - a.after; axis < 0 || !out[axis].Known() || out[axis].Value != int64(len(a.scale)) {
		return a, rewrite.Decline("%v makes the shape %v", n, out)
	}
	tail := out[len(out)-a.after:]
	for axis := len(in) - 1; axis >= 0; axis-- {
		if in[axis].Known() && in[axis].Value == int64(len(a.scale)) && sameCount(in[axis+1:], tail) {
			a.after = len(in) - 1 - axis
			return a, nil
		}
	}
	return a, rewrite.Decline("%v from %v to %v does not keep the axis of the channels", n, in, out)
}

// sameCount reports whether two shapes certainly have as many elements.
func sameCount(s, t onnx.Shape) bool {
	a, ok1 := s.Static()
	b, ok2 := t.Static()
	if ok1 && ok2 {
		return product(a) == product(b) && product(a) > 0
	}
	one := func(d onnx.Dim) bool { return d.Known() && d.Value == 1 }
	u := slices.DeleteFunc(slices.Clone(s), one)
	v := slices.DeleteFunc(slices.Clone(t), one)
	return slices.EqualFunc(u, v, onnx.Dim.Same)
}

package fuse

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// convUnfold: a Conv that reads Slices of one value, joined along the channels,
// computes what one Conv of that value does, whose filters hold those of each
// slice at the places that the slice takes: the neighbours that are laid side by
// side before a pointwise Conv, and the Focus layer of detectors, which takes
// every second row and column four times (the 3×3 filters behind it are 6×6
// filters of stride 2).
var convUnfold = rewrite.Rule{
	Name: "conv-unfold", Doc: "lets Conv read a value itself where it reads Slices of it that are joined along the channels",
	Pattern: "Conv(concat=Concat(Slice(...), ...), w, ?b)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		concat := m.Node("concat")
		if err := soleUse(concat); err != nil {
			return err
		}
		x, parts, err := unfolded(m, concat)
		if err != nil {
			return err
		}
		w, err := constant(m.Value("w"), "the weights")
		if err != nil {
			return err
		}
		u, err := newUnfold(m, x, parts, w)
		if err != nil {
			return err
		}
		t, err := u.filters(w)
		if err != nil {
			return err
		}
		attrs := withAttrs(m.Root, onnx.StringAttr("auto_pad", "NOTSET"), onnx.IntsAttr("pads", u.pads()...), onnx.IntsAttr("kernel_shape", u.kernel()...),
			onnx.IntsAttr("strides", u.each(func(a unfoldAxis) int64 { return a.step * a.stride })...),
			onnx.IntsAttr("dilations", u.each(func(a unfoldAxis) int64 { return a.every })...))
		p.Swap(m.Root.Output(0), p.Add("Conv", []*onnx.Value{x, p.Const(t), m.Value("b")}, attrs...))
		return nil
	},
}

// unfolded reads the inputs of a Concat along the channels as Slices of one
// value x with the channels whole: for each the cut along each spatial axis.
func unfolded(m *rewrite.Match, concat *onnx.Node) (x *onnx.Value, parts [][]cut, err error) {
	if axis, err := axisAttr(m, concat, concat.Output(0), 1); err != nil || axis != 1 {
		return nil, nil, rewrite.Decline("%v does not join channels", concat)
	}
	for _, v := range concat.Inputs() {
		from, list, err := slicedFrom(m, v)
		if err != nil {
			return nil, nil, err
		}
		if x != nil && x != from {
			return nil, nil, rewrite.Decline("it reads slices of %q and of %q", x.Name(), from.Name())
		}
		x, parts = from, append(parts, list)
	}
	return x, parts, nil
}

// slicedFrom returns of which value v is a slice and what that takes along each
// spatial axis, through Slices in a row, or declines.
func slicedFrom(m *rewrite.Match, v *onnx.Value) (*onnx.Value, []cut, error) {
	var nodes []*onnx.Node
	for n := producerOf(v, "Slice"); n != nil && n.Graph() == m.Root.Graph() && len(nodes) < 4; n = producerOf(v, "Slice") {
		nodes, v = append(nodes, n), n.Input(0)
	}
	shape, ok := m.Facts.Shape(v).Static()
	if !ok || len(shape) < 3 {
		if shape = nil; m.Facts.Shape(v) == nil {
			return nil, nil, rewrite.Decline("the shape of %q is not known", v.Name())
		}
		for _, d := range m.Facts.Shape(v) {
			shape = append(shape, d.Value) // of the batch no more than that it is not cut
		}
		if len(shape) < 3 || slices.Contains(shape[1:], 0) {
			return nil, nil, rewrite.Decline("the sizes of %q are %v", v.Name(), m.Facts.Shape(v))
		}
	}
	out := make([]cut, len(shape)-2)
	for i := range out {
		out[i] = cut{int64(i + 2), 0, shape[i+2], 1}
	}
	for _, n := range slices.Backward(nodes) {
		list, err := cuts(m, n, len(shape))
		if err != nil {
			return nil, nil, err
		}
		for _, c := range list {
			if c.axis < 2 {
				return nil, nil, rewrite.Decline("%v cuts samples or channels", n)
			}
			at := &out[c.axis-2]
			if *at, err = at.then(c, onnx.Fixed(shape[c.axis])); err != nil {
				return nil, nil, err
			}
		}
	}
	return v, out, nil
}

// unfold is a Conv over slices, as a Conv over what is sliced.
type unfold struct {
	parts    [][]cut
	channels int64 // of the value that is sliced
	axes     []unfoldAxis
}

// unfoldAxis is what becomes of one spatial axis: element k of the filters for a
// slice from start on reads element start + step·dilation·k, for each step of
// stride·step.
type unfoldAxis struct {
	step, stride, dilation int64
	size                   int64   // elements of the filters for a slice
	reads                  []int64 // what all slices together read, ascending, from the first element on
	every                  int64   // the distance of these, which is the new dilation
	begin, end             int64   // padding
}

// newUnfold works out the new window, or declines where there is none, or where
// it would have elements that no slice reads.
func newUnfold(m *rewrite.Match, x *onnx.Value, parts [][]cut, w *onnx.Tensor) (*unfold, error) {
	shape, out := m.Facts.Shape(x), m.Facts.Shape(m.Root.Output(0))
	u := &unfold{parts: parts, channels: shape[1].Value, axes: make([]unfoldAxis, len(shape)-2)}
	if m.Root.Int("group", 1) != 1 || len(w.Shape) != len(shape) || w.Shape[1] != u.channels*int64(len(parts)) || len(out) != len(shape) {
		return nil, rewrite.Decline("the weights have shape %v for %d slices of %v in %d groups", w.Shape, len(parts), shape, m.Root.Int("group", 1))
	}
	before, err := padding{mode: "constant", begin: make([]int64, len(shape)), end: make([]int64, len(shape))}.intoWindow(m.Root)
	if err != nil {
		return nil, err
	}
	strides, fits := m.Root.Each("strides", len(u.axes), 1)
	dilations, fit := m.Root.Each("dilations", len(u.axes), 1)
	if !fits || !fit {
		return nil, rewrite.Decline("it has strides %v and dilations %v for %d axes", strides, dilations, len(u.axes))
	}
	window := 1
	for i := range u.axes {
		a := unfoldAxis{stride: strides[i], dilation: dilations[i], size: w.Shape[i+2]}
		if !out[i+2].Known() || a.size < 1 {
			return nil, rewrite.Decline("the shape %v of the result is not known", out)
		}
		if err := a.read(parts, i); err != nil {
			return nil, err
		}
		if err := a.pad(parts, i, before[i], before[i+len(u.axes)], shape[i+2].Value, out[i+2].Value); err != nil {
			return nil, err
		}
		u.axes[i] = a
		window *= len(a.reads)
	}
	if window != len(parts)*product(w.Shape[2:]) {
		return nil, rewrite.Decline("the window would have %d elements, of which %d are read", window, len(parts)*product(w.Shape[2:]))
	}
	return u, nil
}

// read lists what is read along axis i, which must be evenly spaced.
func (a *unfoldAxis) read(parts [][]cut, i int) error {
	a.step = parts[0][i].step
	for _, c := range parts {
		if c[i].step != a.step {
			return rewrite.Decline("the slices have the steps %d and %d", a.step, c[i].step)
		}
		for k := range a.size {
			a.reads = append(a.reads, c[i].start+a.step*a.dilation*k)
		}
	}
	slices.Sort(a.reads)
	a.reads = slices.Compact(a.reads)
	a.every = 1
	if len(a.reads) > 1 {
		a.every = a.reads[1] - a.reads[0]
	}
	for k, at := range a.reads {
		if at != a.reads[0]+int64(k)*a.every {
			return rewrite.Decline("the slices begin at uneven places")
		}
	}
	return nil
}

// pad finds the new padding: what the old one adds before a slice must lie
// before the first element of x, and likewise behind it, and there must be as
// many results. x has size elements, the result length.
func (a *unfoldAxis) pad(parts [][]cut, i int, begin, end, size, length int64) error {
	for _, c := range parts {
		past := c[i].start + a.step*c[i].length()
		if begin > 0 && c[i].start >= a.step || end > 0 && past < size {
			return rewrite.Decline("zeros stand where the value has elements")
		}
	}
	span := a.reads[len(a.reads)-1] - a.reads[0] + 1
	a.begin = a.step*begin - a.reads[0]
	a.end = max(0, a.step*a.stride*(length-1)+span-size-a.begin)
	if made := (size+a.begin+a.end-span)/(a.step*a.stride) + 1; a.begin < 0 || made != length {
		return rewrite.Decline("no padding of %d elements gives %d results", size, length)
	}
	return nil
}

// each returns a number for every axis.
func (u *unfold) each(f func(unfoldAxis) int64) []int64 {
	var out []int64
	for _, a := range u.axes {
		out = append(out, f(a))
	}
	return out
}

func (u *unfold) kernel() []int64 {
	return u.each(func(a unfoldAxis) int64 { return int64(len(a.reads)) })
}

func (u *unfold) pads() []int64 {
	return append(u.each(func(a unfoldAxis) int64 { return a.begin }), u.each(func(a unfoldAxis) int64 { return a.end })...)
}

// filters puts the elements of w [M, parts·C, k…] where the new window reads
// them, [M, C, K…].
func (u *unfold) filters(w *onnx.Tensor) (*onnx.Tensor, error) {
	in, err := w.Bytes()
	if err != nil {
		return nil, err
	}
	width := w.DType.Bits() / 8
	if w.DType.Bits()%8 != 0 || width == 0 {
		return nil, rewrite.Decline("the weights are %v", w.DType)
	}
	shape := append([]int64{w.Shape[0], u.channels}, u.kernel()...)
	inner, window := product(w.Shape[2:]), product(shape[2:])
	out := make([]byte, len(in))
	for i := range len(in) / width {
		k, rest := i%inner, i/inner
		c, o := rest%int(w.Shape[1]), rest/int(w.Shape[1])
		part, channel := c/int(u.channels), c%int(u.channels)
		to := (o*int(u.channels)+channel)*window + u.place(part, k)
		copy(out[to*width:(to+1)*width], in[i*width:(i+1)*width])
	}
	return onnx.NewTensor(w.Name, w.DType, shape, out)
}

// place returns where in the new window element k of the filters for a slice is.
func (u *unfold) place(part, k int) int {
	at, scale := 0, 1
	for i := len(u.axes) - 1; i >= 0; i-- {
		a := u.axes[i]
		read := u.parts[part][i].start + a.step*a.dilation*int64(k%int(a.size))
		k /= int(a.size)
		at += scale * int((read-a.reads[0])/a.every)
		scale *= len(a.reads)
	}
	return at
}

package fuse

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// chunk is how many elements of a weight are in hand as float64 at a time.
const chunk = 1 << 16

// eachElement calls f with the elements of t in order.
func eachElement(t *onnx.Tensor, f func(i int, x float64)) error {
	b, err := t.Bytes()
	if err != nil {
		return err
	}
	width := t.DType.Bits() / 8
	for at := 0; at*width < len(b); at += chunk {
		part := b[at*width : min((at+chunk)*width, len(b))]
		p, err := onnx.NewTensor(t.Name, t.DType, []int64{int64(len(part) / width)}, part)
		if err != nil {
			return err
		}
		v, err := p.Float64s()
		if err != nil {
			return err
		}
		for i, x := range v {
			f(at+i, x)
		}
	}
	return nil
}

// scaled returns w with each element multiplied by the scale of its channel:
// channel(i) is the channel of element i. The product is rounded once.
func scaled(w *onnx.Tensor, scale []float64, channel func(i int) int) (*onnx.Tensor, error) {
	if !isReal(w.DType) {
		return nil, rewrite.Decline("the weights are %v", w.DType)
	}
	if w.DType == onnx.Float {
		return scaledFloats(w, scale, channel)
	}
	out := make([]byte, 0, w.Size())
	peak := newPeaks(len(scale))
	part := make([]float64, 0, chunk)
	flush := func() error {
		t, err := floatTensor(w.Name, w.DType, []int64{int64(len(part))}, part)
		if err != nil {
			return err
		}
		b, err := t.Bytes()
		out, part = append(out, b...), part[:0]
		return err
	}
	var failed error
	err := eachElement(w, func(i int, x float64) {
		c := channel(i)
		part = append(part, x*scale[c])
		peak.add(c, x, x*scale[c])
		if len(part) == chunk && failed == nil {
			failed = flush()
		}
	})
	for _, f := range []func() error{func() error { return failed }, flush, func() error { return peak.check(w.DType, scale) }} {
		if err == nil {
			err = f()
		}
	}
	if err != nil {
		return nil, err
	}
	return onnx.NewTensor(w.Name, w.DType, slices.Clone(w.Shape), out)
}

// scaledFloats is scaled for float32, which most weights are, in one pass.
func scaledFloats(w *onnx.Tensor, scale []float64, channel func(i int) int) (*onnx.Tensor, error) {
	in, err := w.Bytes()
	if err != nil {
		return nil, err
	}
	out := make([]byte, len(in))
	peak := newPeaks(len(scale))
	for i := range len(in) / 4 {
		c := channel(i)
		x := float64(math.Float32frombits(binary.LittleEndian.Uint32(in[4*i:])))
		y := x * scale[c]
		if math.IsNaN(y) || math.Abs(y) > math.MaxFloat32 {
			return nil, unfit(y, onnx.Float)
		}
		peak.add(c, x, y)
		binary.LittleEndian.PutUint32(out[4*i:], math.Float32bits(float32(y)))
	}
	if err := peak.check(w.DType, scale); err != nil {
		return nil, err
	}
	return onnx.NewTensor(w.Name, w.DType, slices.Clone(w.Shape), out)
}

// unfit declines a folded weight that its type cannot hold.
func unfit(x float64, d onnx.DType) error {
	return rewrite.Decline("a folded weight would be %v, which %v cannot hold", x, d)
}

// peaks are the largest magnitudes of the weights of each channel.
type peaks struct{ before, after []float64 }

func newPeaks(n int) peaks { return peaks{make([]float64, n), make([]float64, n)} }

func (p peaks) add(c int, before, after float64) {
	p.before[c] = max(p.before[c], math.Abs(before))
	p.after[c] = max(p.after[c], math.Abs(after))
}

// check declines where the largest weight of a channel falls below the normal
// numbers of d: then all of them lose digits that they had.
func (p peaks) check(d onnx.DType, scale []float64) error {
	for c, after := range p.after {
		if least := leastNormal(d); after < least && p.before[c] >= least && scale[c] != 0 {
			return rewrite.Decline("the folded weights of channel %d would be below %v, where %v loses digits", c, least, d)
		}
	}
	return nil
}

func leastNormal(d onnx.DType) float64 {
	switch d {
	case onnx.Float16:
		return 0x1p-14
	case onnx.Double:
		return 0x1p-1022
	}
	return 0x1p-126
}

// floatTensor returns a tensor of a float type, declining where a finite value
// does not fit it.
func floatTensor(name string, d onnx.DType, shape []int64, v []float64) (*onnx.Tensor, error) {
	limit := math.MaxFloat32
	switch d {
	case onnx.Float16:
		limit = 65504
	case onnx.Double:
		limit = math.MaxFloat64
	}
	for _, x := range v {
		if math.IsNaN(x) || math.Abs(x) > limit {
			return nil, unfit(x, d)
		}
	}
	return onnx.FromFloat64s(name, d, shape, v)
}

// weight is an operand whose elements are moved about: a constant, or quantized
// constants behind DequantizeLinear.
type weight struct {
	value *onnx.Value
	shape []int64
	dtype onnx.DType
}

// weightOf returns the operand v with its static shape, or declines.
func weightOf(m *rewrite.Match, v *onnx.Value) (weight, error) {
	if v == nil {
		return weight{}, rewrite.Decline("the weights are omitted")
	}
	if t := v.Constant(); t != nil {
		return weight{v, t.Shape, t.DType}, nil
	}
	shape, ok := m.Facts.Shape(v).Static()
	if d := m.Facts.DType(v); ok && isReal(d) {
		return weight{v, shape, d}, nil
	}
	return weight{}, rewrite.Decline("the weights %q are not constant", v.Name())
}

// name is what constants made from the weights are called after.
func (w weight) name() string { return w.value.Name() }

// scaleWeight returns w with each element multiplied by the scale of its
// channel. axis is the axis of w that is the channels, -1 where they are not one.
func (f *folder) scaleWeight(w weight, scale []float64, axis int, channel func(i int) int) (*onnx.Value, error) {
	if all(scale, 1) {
		return w.value, nil
	}
	if n := w.value.Producer(); n.Is("DequantizeLinear") {
		return f.scaleQuantized(n, w, scale, axis)
	}
	t, err := constant(w.value, "the weight")
	if err != nil {
		return nil, err
	}
	if err := f.affords(w.value, t); err != nil {
		return nil, err
	}
	out, err := scaled(t, scale, channel)
	if err != nil {
		return nil, err
	}
	return f.p.Const(out), nil
}

// affords declines where v stays for other readers and a copy of it is too large.
func (f *folder) affords(v *onnx.Value, t *onnx.Tensor) error {
	if len(v.Uses()) > 1 && t.Size() > f.t.growth() {
		return rewrite.Decline("the weights %q of %d bytes are shared, and a copy would grow the model beyond the limit", v.Name(), t.Size())
	}
	return nil
}

// scaleQuantized scales weights (q − zero)·s by scaling s, which changes no
// quantized number: where one scale is for all, or s has one per channel.
func (f *folder) scaleQuantized(dq *onnx.Node, w weight, scale []float64, axis int) (*onnx.Value, error) {
	for _, v := range dq.Inputs() {
		if v != nil && v.Constant() == nil {
			return nil, rewrite.Decline("the weights %q are quantized at run time", w.name())
		}
	}
	if !(affine{scale: scale}).positive() {
		return nil, rewrite.Decline("a scale is not above zero, and the weights %q are quantized", w.name())
	}
	s := dq.Input(1).Constant()
	n, _ := s.Elements()
	along := dq.Int("axis", 1)
	if along < 0 {
		along += int64(len(w.shape))
	}
	perChannel := dq.Int("block_size", 0) == 0 && len(s.Shape) == 1 && n == int64(len(scale)) && along == int64(axis)
	if !perChannel && !all(scale, scale[0]) {
		return nil, rewrite.Decline("the weights %q are quantized with scales %v, not with one per channel", w.name(), fmt.Sprint(s.Shape))
	}
	channel := func(i int) int { return i }
	if !perChannel {
		channel = func(int) int { return 0 }
	}
	s2, err := scaled(s, scale, channel)
	if err != nil {
		return nil, err
	}
	in := append([]*onnx.Value(nil), dq.Inputs()...)
	in[1] = f.p.Const(s2)
	return f.p.Add("DequantizeLinear", in, dq.Attrs...), nil
}

// foldBias returns bias·scale + shift as an operand, nil where that is nothing;
// a bias that is not constant stays where nothing changes.
func (f *folder) foldBias(bias *onnx.Value, w weight, a affine) (*onnx.Value, error) {
	if a.pure() && (bias == nil || all(a.scale, 1)) {
		return bias, nil
	}
	var b *onnx.Tensor
	if bias != nil {
		var err error
		if b, err = constant(bias, "the bias"); err != nil {
			return nil, err
		}
	}
	t, err := foldedBias(w.name()+"_bias", w.dtype, b, a)
	if err != nil {
		return nil, err
	}
	return f.p.Const(t), nil
}

// foldedBias returns bias·scale + shift as a tensor [channels]; bias nil is zero.
func foldedBias(name string, d onnx.DType, bias *onnx.Tensor, a affine) (*onnx.Tensor, error) {
	out := slices.Clone(a.shift)
	if bias != nil {
		b, err := bias.Float64s()
		if err != nil {
			return nil, err
		}
		if len(b) != len(out) {
			return nil, rewrite.Decline("the bias has %d elements for %d channels", len(b), len(out))
		}
		for i := range out {
			out[i] += b[i] * a.scale[i]
		}
	}
	return floatTensor(name, d, []int64{int64(len(out))}, out)
}

// dims formats a shape for reasons.
func dims(shape []int64) string { return fmt.Sprint(shape) }

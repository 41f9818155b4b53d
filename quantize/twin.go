package quantize

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// twin writes a layer with products that are added in pairs and saturate:
// Σ clip(a₂ₖ·w₂ₖ + a₂ₖ₊₁·w₂ₖ₊₁), as a batch of products of two columns by two
// rows, one for each pair.
type twin struct {
	l     *layer8
	g     *onnx.Graph
	facts *opset.Facts
	n     int // nodes so far
}

func (t *twin) add(op string, in []*onnx.Value, attrs ...*onnx.Attr) *onnx.Value {
	k := onnx.NewNode(op, in, t.g.Model().Fresh(t.l.node.Output(0).Name()+"_pair"))
	k.Name, k.Attrs = k.Output(0).Name(), attrs
	t.g.InsertBefore(k, t.l.node)
	t.n++
	return k.Output(0)
}

func (t *twin) ints(v ...int64) *onnx.Value {
	return t.g.NewConst(onnx.FromInts(t.l.node.Output(0).Name()+"_shape", []int64{int64(len(v))}, v))
}

func (t *twin) floats(shape []int64, v ...float32) *onnx.Value {
	return t.g.NewConst(onnx.FromFloats(t.l.node.Output(0).Name()+"_number", shape, v))
}

// unsigned returns codes of the activation as the engine multiplies them.
func (t *twin) unsigned(codes *onnx.Value) *onnx.Value {
	v := t.add("Cast", []*onnx.Value{codes}, onnx.IntAttr("to", int64(onnx.Float)))
	if t.l.offset == 0 {
		return v
	}
	return t.add("Add", []*onnx.Value{v, t.floats([]int64{}, t.l.offset)})
}

// build replaces the layer; false where its sizes are not known.
func (t *twin) build() bool {
	n := t.l.node
	in, ok1 := t.facts.Shape(n.Input(0)).Static()
	out, ok2 := t.facts.Shape(n.Output(0)).Static()
	if !ok1 || !ok2 {
		return false
	}
	a := t.unsigned(t.l.input.Input(0))
	k := int64(len(t.l.pairs[0]))
	var columns *onnx.Value // [K, rows]
	var rows int64
	if n.Is("Conv") {
		columns = t.unfold(a, in, out)
		rows = out[0] * spatial(out)
	} else {
		rows = 1
		for _, d := range in[:len(in)-1] {
			rows *= d
		}
		columns = t.add("Transpose", []*onnx.Value{t.add("Reshape", []*onnx.Value{a, t.ints(rows, k)})}, onnx.IntsAttr("perm", 1, 0))
	}
	y := t.scaled(t.sums(columns, k, rows)) // [rows, channels]
	if n.Is("Conv") {
		y = t.add("Reshape", []*onnx.Value{y, t.ints(out[0], spatial(out), out[1])})
		y = t.add("Transpose", []*onnx.Value{y}, onnx.IntsAttr("perm", 0, 2, 1))
	}
	y = t.add("Reshape", []*onnx.Value{y, t.ints(out...)})
	y.Type = n.Output(0).Type
	if err := t.g.Replace(n.Output(0), y); err != nil {
		return false
	}
	t.g.SweepFrom(n)
	return true
}

func spatial(shape []int64) int64 {
	n := int64(1)
	for _, d := range shape[2:] {
		n *= d
	}
	return n
}

// unfold lays out the windows of a convolution over a [N, C, …] as columns
// [K, N·positions], in the order of the weights. Padding has the code of zero.
func (t *twin) unfold(a *onnx.Value, in, out []int64) *onnx.Value {
	n := t.l.node
	w := t.l.weight.Input(0).Constant().Shape
	rank := len(in) - 2
	pads := n.Ints("pads", make([]int64, 2*rank))
	if auto := n.Str("auto_pad", "NOTSET"); auto != "NOTSET" && auto != "" {
		pads = t.samePads(auto, in, out, w)
	}
	whole := append([]int64{0, 0}, pads[:rank]...)
	whole = append(append(whole, 0, 0), pads[rank:]...)
	zero := t.unsigned(t.l.input.Input(2))
	a = t.add("Pad", []*onnx.Value{a, t.ints(whole...), zero})
	c, window := w[1], int64(1)
	for _, d := range w[2:] {
		window *= d
	}
	// One filter for each place of the window, for each channel by itself.
	taps := make([]float32, c*window*window)
	for i := range c * window {
		taps[i*window+i%window] = 1
	}
	attrs := []*onnx.Attr{onnx.IntAttr("group", c)}
	for _, name := range []string{"strides", "dilations"} {
		if v := n.Ints(name, nil); v != nil {
			attrs = append(attrs, onnx.IntsAttr(name, v...))
		}
	}
	y := t.add("Conv", []*onnx.Value{a, t.floats(append([]int64{c * window, 1}, w[2:]...), taps...)}, attrs...)
	y = t.add("Reshape", []*onnx.Value{y, t.ints(out[0], c, window, spatial(out))})
	y = t.add("Transpose", []*onnx.Value{y}, onnx.IntsAttr("perm", 2, 1, 0, 3))
	return t.add("Reshape", []*onnx.Value{y, t.ints(c*window, out[0]*spatial(out))})
}

// samePads returns the padding that auto_pad stands for.
func (t *twin) samePads(auto string, in, out, w []int64) []int64 {
	rank := len(in) - 2
	pads := make([]int64, 2*rank)
	if auto == "VALID" {
		return pads
	}
	ones := make([]int64, rank)
	for i := range ones {
		ones[i] = 1
	}
	strides, dilations := t.l.node.Ints("strides", ones), t.l.node.Ints("dilations", ones)
	for i := range rank {
		total := max((out[i+2]-1)*strides[i]+dilations[i]*(w[i+2]-1)+1-in[i+2], 0)
		pads[i], pads[i+rank] = total/2, total-total/2
		if auto == "SAME_LOWER" {
			pads[i], pads[i+rank] = total-total/2, total/2
		}
	}
	return pads
}

// sums returns the saturated sums [rows, channels] of columns [K, rows].
func (t *twin) sums(columns *onnx.Value, k, rows int64) *onnx.Value {
	if k%2 == 1 {
		columns = t.add("Pad", []*onnx.Value{columns, t.ints(0, 0, 1, 0)})
		k++
	}
	pairs, m := k/2, int64(t.l.channels)
	a := t.add("Transpose", []*onnx.Value{t.add("Reshape", []*onnx.Value{columns, t.ints(pairs, 2, rows)})}, onnx.IntsAttr("perm", 0, 2, 1))
	w := make([]float32, k*m)
	for o, row := range t.l.pairs {
		for i, c := range row {
			w[int64(i)*m+int64(o)] = float32(c)
		}
	}
	p := t.add("MatMul", []*onnx.Value{a, t.floats([]int64{pairs, 2, m}, w...)})
	p = t.add("Clip", []*onnx.Value{p, t.floats([]int64{}, pairLow), t.floats([]int64{}, pairHigh)})
	return t.add("ReduceSum", []*onnx.Value{p, t.ints(0)}, onnx.IntAttr("keepdims", 0))
}

// scaled takes the zero point's part away from sums [rows, channels], and gives
// them their scale and bias.
func (t *twin) scaled(y *onnx.Value) *onnx.Value {
	all := make([]float32, t.l.channels)
	for o, row := range t.l.pairs {
		for _, c := range row {
			all[o] += float32(c)
		}
	}
	m := int64(t.l.channels)
	zero := t.unsigned(t.l.input.Input(2))
	y = t.add("Sub", []*onnx.Value{y, t.add("Mul", []*onnx.Value{zero, t.floats([]int64{m}, all...)})})
	y = t.add("Mul", []*onnx.Value{y, t.add("Mul", []*onnx.Value{t.l.input.Input(1), t.l.weight.Input(1)})})
	if b := t.l.node.Input(2); b != nil {
		y = t.add("Add", []*onnx.Value{y, b})
	}
	return y
}

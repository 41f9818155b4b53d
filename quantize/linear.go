package quantize

import (
	"encoding/binary"
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// linear is an anchor seen as a product over channels, y[o] = Σ w[o,i]·x[i] + b[o],
// where a Conv sums over the taps of its kernel too.
type linear struct {
	node    *onnx.Node
	out, in int // channels
	axis    int // of the channels of x and y: 1, or −1 for the last
	// at returns the channels that element k of w connects.
	at func(k int) (o, i int)
}

// linearOf returns n as a linear operator with constant weights; false where it
// is none that the scheme quantizes.
func linearOf(n *onnx.Node) (*linear, bool) {
	if place(n) != anchor || refuseWeights(n) != "" {
		return nil, false
	}
	w := n.Input(1).Constant()
	l := &linear{node: n}
	switch {
	case n.Is("Conv"):
		groups := int(n.Int("group", 1))
		l.out, l.axis = int(w.Shape[0]), 1
		per := int(w.Shape[1])
		if groups < 1 || l.out%groups != 0 {
			return nil, false
		}
		l.in = per * groups
		taps := channelsOf(w, 1).inner
		l.at = func(k int) (int, int) {
			o := k / (per * taps)
			return o, o/(l.out/groups)*per + k/taps%per
		}
	case len(w.Shape) != 2:
		return nil, false
	case n.Is("Gemm") && n.Int("transB", 0) == 1:
		l.out, l.in, l.axis = int(w.Shape[0]), int(w.Shape[1]), -1
		l.at = func(k int) (int, int) { return k / l.in, k % l.in }
	default:
		l.in, l.out, l.axis = int(w.Shape[0]), int(w.Shape[1]), -1
		l.at = func(k int) (int, int) { return k % l.out, k / l.out }
	}
	return l, true
}

// linears returns the linear operators of m whose activations can be measured, in order.
func linears(m *onnx.Model) []*linear {
	var out []*linear
	for n := range measurable(m) {
		if l, ok := linearOf(n); ok {
			out = append(out, l)
		}
	}
	return out
}

// each calls f for each weight, as it is now.
func (l *linear) each(f func(k, o, i int, w float32)) error {
	b, err := l.node.Input(1).Constant().Bytes()
	if err != nil {
		return err
	}
	for k := range len(b) / 4 {
		o, i := l.at(k)
		f(k, o, i, floatAt(b, k))
	}
	return nil
}

// peaks returns the largest magnitude of the weights to each output channel and
// from each input channel.
func (l *linear) peaks() (out, in []float32, err error) {
	out, in = make([]float32, l.out), make([]float32, l.in)
	err = l.each(func(_, o, i int, w float32) {
		a := float32(math.Abs(float64(w)))
		out[o], in[i] = max(out[o], a), max(in[i], a)
	})
	return out, in, err
}

// product returns Σ w[o,i]·x[i], summed over taps.
func (l *linear) product(x []float64) ([]float64, error) {
	y := make([]float64, l.out)
	err := l.each(func(_, o, i int, w float32) { y[o] += float64(w) * x[i] })
	return y, err
}

// computed returns t with each element replaced, when it is read.
func computed(t *onnx.Tensor, f func(k int, x float32) float32) *onnx.Tensor {
	c := *t
	c.External, c.Unknown = nil, nil
	c.Data = &coded{src: t.Data, size: 4, fill: func(out, src []byte, first int) {
		for i := range len(src) / 4 {
			binary.LittleEndian.PutUint32(out[4*i:], math.Float32bits(f(first+i, floatAt(src, i))))
		}
	}}
	return &c
}

// scaleOut returns the edit that multiplies the weights to output channel o by f[o].
func (l *linear) scaleOut(f []float64) edit {
	return edit{outputName(l.node), 1, func(t *onnx.Tensor) (*onnx.Tensor, error) {
		return computed(t, func(k int, x float32) float32 {
			o, _ := l.at(k)
			return float32(float64(x) * f[o])
		}), nil
	}}
}

// scaleIn returns the edit that multiplies the weights from input channel from+i
// by f[i].
func (l *linear) scaleIn(from int, f []float64) edit {
	return edit{outputName(l.node), 1, func(t *onnx.Tensor) (*onnx.Tensor, error) {
		return computed(t, func(k int, x float32) float32 {
			if _, i := l.at(k); i >= from && i < from+len(f) {
				return float32(float64(x) * f[i-from])
			}
			return x
		}), nil
	}}
}

// scaleVector returns the edit that multiplies element c of a constant vector by
// f[c]; where the input is omitted there is nothing to edit.
func scaleVector(n *onnx.Node, input int, f []float64) []edit {
	if n.Input(input) == nil {
		return nil
	}
	return []edit{{outputName(n), input, func(t *onnx.Tensor) (*onnx.Tensor, error) {
		return computed(t, func(k int, x float32) float32 { return float32(float64(x) * f[k]) }), nil
	}}}
}

// bias returns where the bias of l is added: input 2 of its node, or a constant
// of the Add that alone reads a MatMul. ok is false where there is no such place.
func (l *linear) bias() (n *onnx.Node, input int, ok bool) {
	if !l.node.Is("MatMul") {
		return l.node, 2, true
	}
	y := l.node.Output(0)
	if len(y.Uses()) != 1 || y.IsOutput() || !y.Uses()[0].Node.Is("Add") || y.Uses()[0].Node.Graph() != y.Graph() {
		return nil, 0, false
	}
	u := y.Uses()[0]
	other := 1 - u.Index
	v := u.Node.Input(other)
	t := v.Constant()
	if t == nil || t.DType != onnx.Float || !vectorOf(t, l.out) {
		return nil, 0, false
	}
	return u.Node, other, true
}

// vectorOf reports whether t has n elements along its last axis, and no others.
func vectorOf(t *onnx.Tensor, n int) bool {
	count, _ := t.Elements()
	return count == int64(n) && len(t.Shape) > 0 && t.Shape[len(t.Shape)-1] == count
}

// addBias returns the edit that adds d to the bias of l, which gets one where it
// has none.
func (l *linear) addBias(d []float64) (edit, bool) {
	n, input, ok := l.bias()
	if !ok {
		return edit{}, false
	}
	name := outputName(l.node) + "_bias"
	return edit{outputName(n), input, func(t *onnx.Tensor) (*onnx.Tensor, error) {
		if t == nil {
			f := make([]float32, len(d))
			for i, x := range d {
				f[i] = float32(x)
			}
			return onnx.FromFloats(name, []int64{int64(len(d))}, f), nil
		}
		return computed(t, func(k int, x float32) float32 { return float32(float64(x) + d[k]) }), nil
	}}, true
}

// biases returns the bias of l, zeros where it has none.
func (l *linear) biases() ([]float32, error) {
	n, input, ok := l.bias()
	if !ok || n.Input(input) == nil {
		return make([]float32, l.out), nil
	}
	return n.Input(input).Constant().Floats()
}

package fuse

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// withConstant reports whether n is arithmetic of a value with a constant.
func withConstant(n *onnx.Node) bool {
	return (n.Is("Add") || n.Is("Sub") || n.Is("Mul") || n.Is("Div")) && n.OpsetVersion("") >= 7 &&
		(n.Input(0).Constant() == nil) != (n.Input(1).Constant() == nil)
}

// channelwise returns what n does to v, where that is arithmetic with a constant
// that varies along the axes from first on only, whose sizes are given. Its
// elements are those of these axes together.
func channelwise(facts *opset.Facts, n *onnx.Node, v *onnx.Value, first int, axes onnx.Shape) (affine, bool) {
	if !withConstant(n) {
		return affine{}, false
	}
	c, reversed := n.Input(1), n.Input(1) == v
	if reversed {
		c = n.Input(0)
	}
	if c.Constant() == nil || reversed && n.Is("Div") {
		return affine{}, false
	}
	if axes == nil {
		return affine{}, false
	}
	values, ok := alongAxes(c.Constant(), len(facts.Shape(v)), first, axes)
	if !ok {
		return affine{}, false
	}
	a := affine{slices.Repeat([]float64{1}, len(values)), make([]float64, len(values)), 0}
	for i, x := range values {
		switch n.Op {
		case "Add":
			a.shift[i] = x
		case "Sub":
			a.shift[i] = -x
			if reversed {
				a.scale[i], a.shift[i] = -1, x
			}
		case "Mul":
			a.scale[i] = x
		case "Div":
			a.scale[i] = 1 / x
		}
	}
	return a, true
}

// alongAxes returns the elements of t, which broadcasts to rank axes, spread over
// those of the given sizes from first on; false where t varies along others too.
func alongAxes(t *onnx.Tensor, rank, first int, axes onnx.Shape) ([]float64, bool) {
	sizes, ok := axes.Static()
	count, fits := onnx.ElementCount(sizes)
	if n, known := t.Elements(); !ok || !fits || !known || n > count || count > maxChannels || len(t.Shape) > rank || first+len(sizes) > rank || !isReal(t.DType) {
		return nil, false
	}
	shape := append(slices.Repeat([]int64{1}, rank-len(t.Shape)), t.Shape...)
	for i, d := range shape {
		if d != 1 && (i < first || i >= first+len(sizes) || d != sizes[i-first]) {
			return nil, false
		}
	}
	from, err := t.Float64s()
	if err != nil {
		return nil, false
	}
	out := make([]float64, count)
	for i := range out {
		at, step, rest := 0, 1, i
		for k := len(sizes) - 1; k >= 0; k-- {
			size := int(sizes[k])
			if shape[first+k] != 1 {
				at += rest % size * step
				step *= size
			}
			rest /= size
		}
		out[i] = from[at]
	}
	return out, true
}

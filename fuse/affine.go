package fuse

import (
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// affine is y = x·scale + shift, with one element per channel, or a single one
// for the whole tensor.
type affine struct {
	scale, shift []float64
	after        int // axes after the one of the channels; of no meaning for a single element
}

// uniform reports whether all channels have the same scale and shift.
func (a affine) uniform() bool { return len(a.scale) == 1 }

// pure reports whether nothing is added.
func (a affine) pure() bool { return all(a.shift, 0) }

// positive reports whether every scale is above zero, so that order is kept.
func (a affine) positive() bool {
	return !slices.ContainsFunc(a.scale, func(s float64) bool { return !(s > 0) })
}

func all(v []float64, want float64) bool {
	return !slices.ContainsFunc(v, func(x float64) bool { return x != want })
}

// then returns b after a, or declines where they run along different axes.
func (a affine) then(b affine) (affine, error) {
	n := max(len(a.scale), len(b.scale))
	out := affine{scale: make([]float64, n), shift: make([]float64, n), after: a.after}
	if a.uniform() {
		out.after = b.after
	}
	if !a.uniform() && !b.uniform() && (a.after != b.after || len(a.scale) != len(b.scale)) {
		return out, rewrite.Decline("two constants vary along different axes")
	}
	for i := range n {
		j, k := i%len(a.scale), i%len(b.scale)
		out.scale[i] = a.scale[j] * b.scale[k]
		out.shift[i] = a.shift[j]*b.scale[k] + b.shift[k]
	}
	return out, nil
}

// along spreads a over the channels of an axis with the given number of axes
// after it, or declines where it varies along another.
func (a affine) along(after int, channels int64) (affine, error) {
	if a.uniform() && channels > 0 {
		return affine{slices.Repeat(a.scale, int(channels)), slices.Repeat(a.shift, int(channels)), after}, nil
	}
	switch {
	case a.after != after:
		return a, rewrite.Decline("the constant varies along another axis than the channels")
	case int64(len(a.scale)) != channels:
		return a, rewrite.Decline("%d channels are scaled or shifted, but the weights make %d", len(a.scale), channels)
	}
	return a, nil
}

// affineNode returns the data input of n and what n does to it, if that is an
// affine map with constant parameters, or declines.
func affineNode(n *onnx.Node, facts *opset.Facts) (*onnx.Value, affine, error) {
	switch {
	case n.Is("BatchNormalization"):
		a, err := batchNorm(n, facts)
		return n.Input(0), a, err
	case n.Is("Neg"):
		return n.Input(0), affine{scale: []float64{-1}, shift: []float64{0}}, nil
	case n.Is("Add"), n.Is("Sub"), n.Is("Mul"), n.Is("Div"):
		return arithmetic(n, facts)
	}
	return nil, affine{}, rewrite.Decline("%v is no arithmetic with a constant", n)
}

// arithmetic is affineNode of Add, Sub, Mul and Div, the constant on either side.
func arithmetic(n *onnx.Node, facts *opset.Facts) (*onnx.Value, affine, error) {
	x, c, reversed := n.Input(0), n.Input(1), false
	if c.Constant() == nil && x.Constant() != nil {
		x, c, reversed = c, x, true
	}
	t, err := constant(c, "the operand")
	if err != nil {
		return nil, affine{}, err
	}
	if n.OpsetVersion("") < 7 {
		return nil, affine{}, rewrite.Decline("%s of opset %d broadcasts by attributes", n.Op, n.OpsetVersion(""))
	}
	v, after, err := channelsOf(t, rankOf(x, facts))
	if err != nil {
		return nil, affine{}, err
	}
	a := affine{scale: slices.Repeat([]float64{1}, len(v)), shift: make([]float64, len(v)), after: after}
	switch {
	case n.Op == "Add":
		a.shift = v
	case n.Op == "Mul":
		a.scale = v
	case n.Op == "Sub" && reversed:
		a.scale, a.shift = slices.Repeat([]float64{-1}, len(v)), v
	case n.Op == "Sub":
		for i := range v {
			a.shift[i] = -v[i]
		}
	case reversed:
		return nil, a, rewrite.Decline("the constant is what is divided")
	default:
		for i := range v {
			a.scale[i] = 1 / v[i]
		}
	}
	return x, a, nil
}

// maxChannels bounds the constants that are taken for values per channel.
const maxChannels = 1 << 20

// channelsOf returns the elements of a constant that broadcasts to a tensor of
// the given rank without adding axes to it, and how many axes follow the one
// along which they vary. A rank that is not known is -1.
func channelsOf(t *onnx.Tensor, rank int) (v []float64, after int, err error) {
	n, _ := t.Elements()
	if !isReal(t.DType) || n < 1 || n > maxChannels {
		return nil, 0, rewrite.Decline("the operand is %v", t)
	}
	if len(t.Shape) > max(rank, 1) {
		return nil, 0, rewrite.Decline("the operand of shape %s may have more axes than what it meets", dims(t.Shape))
	}
	for i, d := range t.Shape {
		if d == n && n > 1 {
			after = len(t.Shape) - 1 - i
		} else if d != 1 {
			return nil, 0, rewrite.Decline("the operand of shape %s varies along another axis than the channels", dims(t.Shape))
		}
	}
	v, err = t.Float64s()
	return v, after, err
}

// rankOf returns the rank of v, also where only the filters of the Conv that
// makes it are known; -1 if it is unknown.
func rankOf(v *onnx.Value, facts *opset.Facts) int {
	if s := facts.Shape(v); s != nil {
		return len(s)
	}
	if n := v.Producer(); n.Is("Conv") || n.Is("ConvTranspose") {
		if w := n.Input(1).Constant(); w != nil {
			return len(w.Shape)
		}
	}
	return -1
}

// batchNorm returns the affine form of an inference-mode BatchNormalization
// (ONNX operator BatchNormalization), or declines.
func batchNorm(bn *onnx.Node, facts *opset.Facts) (affine, error) {
	var a affine
	if err := inference(bn); err != nil {
		return a, err
	}
	rank := rankOf(bn.Input(0), facts)
	if rank < 2 {
		return a, rewrite.Decline("the rank of what is normalized is not known")
	}
	var p [4][]float64
	for i, name := range []string{"scale", "B", "mean", "var"} {
		t, err := constant(bn.Input(i+1), name)
		if err != nil {
			return a, err
		}
		if p[i], err = t.Float64s(); err != nil {
			return a, err
		}
		if len(t.Shape) != 1 || len(p[i]) == 0 || len(p[i]) != len(p[0]) {
			return a, rewrite.Decline("%s has shape %v", name, t.Shape)
		}
	}
	eps := float64(bn.Float("epsilon", 1e-5))
	a = affine{make([]float64, len(p[0])), make([]float64, len(p[0])), rank - 2}
	for i := range p[0] {
		if !(p[3][i]+eps > 0) {
			return a, rewrite.Decline("the variance of channel %d is %v", i, p[3][i])
		}
		a.scale[i] = p[0][i] / math.Sqrt(p[3][i]+eps)
		a.shift[i] = p[1][i] - p[2][i]*a.scale[i]
	}
	return a, nil
}

// inference declines unless a BatchNormalization normalizes each channel by the
// statistics it is given, and gives nothing else.
func inference(bn *onnx.Node) error {
	version := bn.OpsetVersion("")
	switch {
	case bn.Int("training_mode", 0) != 0:
		return rewrite.Decline("BatchNormalization is in training mode")
	case bn.Int("spatial", 1) != 1:
		return rewrite.Decline("BatchNormalization is not spatial")
	case version < 7 && bn.Int("is_test", 0) == 0:
		return rewrite.Decline("BatchNormalization is in training mode (is_test is 0)")
	}
	for i, v := range bn.Outputs() {
		if i > 0 && v != nil && !v.Dead() {
			return rewrite.Decline("output %d of BatchNormalization is read", i)
		}
	}
	return nil
}

// constant returns the content of v, which reasons call what, or declines.
func constant(v *onnx.Value, what string) (*onnx.Tensor, error) {
	switch {
	case v == nil:
		return nil, rewrite.Decline("%s is omitted", what)
	case v.Constant() != nil:
		return v.Constant(), nil
	case v.Const != nil:
		return nil, rewrite.Decline("%s %q is an input with a default, which a caller may override", what, v.Name())
	case v.Producer().Is("DequantizeLinear"):
		return nil, rewrite.Decline("%s %q is quantized", what, v.Name())
	}
	return nil, rewrite.Decline("%s %q is not constant", what, v.Name())
}

// isReal reports whether weights of type d can be folded.
func isReal(d onnx.DType) bool {
	return slices.Contains([]onnx.DType{onnx.Float, onnx.Double, onnx.Float16, onnx.BFloat16}, d)
}

// soleUse declines unless n's first output is read by one node and is no graph output.
func soleUse(n *onnx.Node) error {
	if v := n.Output(0); v.IsOutput() || len(v.Uses()) != 1 {
		return rewrite.Decline("the result of %v is read elsewhere too", n)
	}
	return nil
}

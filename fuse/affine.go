package fuse

import (
	"fmt"
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// affine is a scale and a shift per channel: y = x·scale + shift.
type affine struct{ scale, shift []float64 }

// batchNorm returns the affine form of an inference-mode BatchNormalization
// whose parameters are bound to s, c, mean and variance (ONNX operator
// BatchNormalization), or declines.
func batchNorm(m *rewrite.Match, bn *onnx.Node) (affine, error) {
	var a affine
	if bn.Int("training_mode", 0) != 0 {
		return a, rewrite.Decline("BatchNormalization is in training mode")
	}
	if bn.Int("spatial", 1) != 1 {
		return a, rewrite.Decline("BatchNormalization is not spatial")
	}
	if m.Opset() < 7 && bn.Int("is_test", 0) == 0 {
		return a, rewrite.Decline("BatchNormalization is in training mode (is_test is 0)")
	}
	for i, v := range bn.Outputs() {
		if i > 0 && v != nil && !v.Dead() {
			return a, rewrite.Decline("output %d of BatchNormalization is read", i)
		}
	}
	var p [4][]float64
	for i, name := range []string{"s", "c", "mean", "variance"} {
		t, err := m.Const(name)
		if err != nil {
			return a, err
		}
		if p[i], err = t.Float64s(); err != nil {
			return a, err
		}
		if len(t.Shape) != 1 || len(p[i]) != len(p[0]) {
			return a, rewrite.Decline("%s has shape %v", name, t.Shape)
		}
	}
	eps := float64(bn.Float("epsilon", 1e-5))
	a = affine{make([]float64, len(p[0])), make([]float64, len(p[0]))}
	for i := range p[0] {
		if p[3][i]+eps <= 0 {
			return a, rewrite.Decline("the variance of channel %d is %v", i, p[3][i])
		}
		a.scale[i] = p[0][i] / math.Sqrt(p[3][i]+eps)
		a.shift[i] = p[1][i] - p[2][i]*a.scale[i]
	}
	return a, nil
}

// soleUse declines unless n's only output is read by one node and is no graph output.
func soleUse(n *onnx.Node) error {
	if v := n.Output(0); v.IsOutput() || len(v.Uses()) != 1 {
		return rewrite.Decline("the result of %v is read elsewhere too", n)
	}
	return nil
}

// scaled returns w with each element multiplied by scale of its channel:
// channel(i) is the channel of element i.
func scaled(w *onnx.Tensor, scale []float64, channel func(i int) int) (*onnx.Tensor, error) {
	v, err := w.Float64s()
	if err != nil {
		return nil, err
	}
	for i := range v {
		v[i] *= scale[channel(i)]
	}
	return floatTensor(w.Name, w.DType, w.Shape, v)
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
			return nil, rewrite.Decline("a folded weight would be %v, which %v cannot hold", x, d)
		}
	}
	return onnx.FromFloat64s(name, d, shape, v)
}

// foldedBias returns bias·scale + shift as a tensor of w's type; bias nil is zero.
func foldedBias(name string, d onnx.DType, bias *onnx.Tensor, a affine) (*onnx.Tensor, error) {
	out := append([]float64(nil), a.shift...)
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

// optionalConst returns the constant bound to name, nil if it is omitted, or declines.
func optionalConst(m *rewrite.Match, name string) (*onnx.Tensor, error) {
	if m.Value(name) == nil {
		return nil, nil
	}
	return m.Const(name)
}

// dims formats a shape for reasons.
func dims(shape []int64) string { return fmt.Sprint(shape) }

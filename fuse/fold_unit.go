package fuse

import (
	"context"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// storesQuantized reports whether folding n, a QuantizeLinear of a constant,
// leaves a quantized weight in front of DequantizeLinear, which is how engines
// look for one.
func storesQuantized(n *onnx.Node) bool {
	v := n.Output(0)
	if !n.Is("QuantizeLinear") || v == nil || v.IsOutput() {
		return false
	}
	for _, u := range v.Uses() {
		if !u.Node.Is("DequantizeLinear") {
			return false
		}
	}
	return true
}

// unit computes what QuantizeLinear n makes of an operator on dequantized
// constants: the three together are the operator on quantized weights, and
// become a quantized weight. It returns nil where n does not end such a unit.
func (f fold) unit(ctx context.Context, n *onnx.Node) []*onnx.Tensor {
	if !n.Is("QuantizeLinear") || n.Input(0) == nil {
		return nil
	}
	x := n.Input(0).Producer()
	if x == nil || x.Graph() != n.Graph() || len(x.Outputs()) != 1 || len(x.Subgraphs()) > 0 || neverFolded[x.Op] || opset.Varies(x) {
		return nil
	}
	in := make([]*onnx.Tensor, len(x.Inputs()))
	for i, v := range x.Inputs() {
		if v == nil {
			continue
		}
		if in[i] = f.dequantized(ctx, v); in[i] == nil {
			return nil
		}
	}
	y, err := f.compute(ctx, x, in)
	if err != nil {
		return nil
	}
	args, ok := make([]*onnx.Tensor, len(n.Inputs())), true
	args[0] = y[0]
	for i, v := range n.Inputs()[1:] {
		if v != nil {
			args[i+1] = v.Constant()
			ok = ok && args[i+1] != nil
		}
	}
	if !ok {
		return nil
	}
	out, err := f.compute(ctx, n, args)
	if err != nil || out[0].Size() > f.limit {
		return nil
	}
	return out
}

// dequantized returns a constant, or what DequantizeLinear makes of constants; nil for others.
func (f fold) dequantized(ctx context.Context, v *onnx.Value) *onnx.Tensor {
	if t := v.Constant(); t != nil {
		return t
	}
	n := producerOf(v, "DequantizeLinear")
	if n == nil {
		return nil
	}
	in, ok := constantInputs(n)
	if !ok {
		return nil
	}
	out, err := f.compute(ctx, n, in)
	if err != nil {
		return nil
	}
	return out[0]
}

package fuse

import (
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// fusedConv: a convolution and the activation behind it are one operator of ONNX
// Runtime's own.
func fusedConv(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: "fused-conv", Doc: "takes the activation behind a Conv into com.microsoft.FusedConv",
		Pattern: "Relu|Sigmoid|Tanh|LeakyRelu|HardSigmoid|Clip(conv=Conv(x, w, ?b), ...)",
		Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			if !t.Own() {
				return rewrite.ErrNotHere
			}
			conv := m.Node("conv")
			if err := soleUse(conv); err != nil {
				return err
			}
			if err := t.offer(m, microsoft, "FusedConv", m.Facts.DType(m.Value("x"))); err != nil {
				return err
			}
			attrs := append(slices.Clone(conv.Attrs), onnx.StringAttr("activation", m.Root.Op))
			params, err := activationParams(m.Facts, m.Root)
			if err != nil {
				return err
			}
			if params != nil {
				attrs = append(attrs, &onnx.Attr{Name: "activation_params", Type: onnx.AttrFloats, Floats: params})
			}
			p.Swap(m.Root.Output(0), p.AddNode(microsoft, "FusedConv", conv.Inputs(), 1, attrs...).Output(0))
			return nil
		},
	}
}

// activationParams are the numbers that the activation n has, in ONNX Runtime's order.
func activationParams(facts *opset.Facts, n *onnx.Node) ([]float32, error) {
	switch n.Op {
	case "LeakyRelu":
		return []float32{n.Float("alpha", 0.01)}, nil
	case "HardSigmoid":
		return []float32{n.Float("alpha", 0.2), n.Float("beta", 0.5)}, nil
	case "Clip":
		lo, hi := n.Float("min", -math.MaxFloat32), n.Float("max", math.MaxFloat32)
		for i, bound := range []*float32{&lo, &hi} {
			v := n.Input(1 + i)
			if v == nil {
				continue
			}
			x, ok := numberOf(facts, v)
			if !ok {
				return nil, rewrite.Decline("the bound %q is not constant", v.Name())
			}
			*bound = float32(x)
		}
		return []float32{lo, hi}, nil
	}
	return nil, nil
}

// fusedGemm: the same for Gemm.
func fusedGemm(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: "fused-gemm", Doc: "takes the activation behind a Gemm into com.microsoft.FusedGemm",
		Pattern: "Relu|Sigmoid|Tanh|LeakyRelu(gemm=Gemm(a, b, ?c))",
		Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			if !t.Own() {
				return rewrite.ErrNotHere
			}
			gemm := m.Node("gemm")
			if err := soleUse(gemm); err != nil {
				return err
			}
			if m.Opset() < 11 {
				return rewrite.Decline("the model's opset %d is below 11", m.Opset())
			}
			if err := t.offer(m, microsoft, "FusedGemm", m.Facts.DType(m.Value("a"))); err != nil {
				return err
			}
			attrs := append(slices.Clone(gemm.Attrs), onnx.StringAttr("activation", m.Root.Op))
			if m.Root.Op == "LeakyRelu" {
				attrs = append(attrs, onnx.FloatAttr("activation_alpha", m.Root.Float("alpha", 0.01)))
			}
			p.Swap(m.Root.Output(0), p.AddNode(microsoft, "FusedGemm", gemm.Inputs(), 1, attrs...).Output(0))
			return nil
		},
	}
}

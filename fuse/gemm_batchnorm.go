package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// gemmBatchNorm: on a matrix [N, C], BatchNormalization scales and shifts the
// columns that Gemm makes.
var gemmBatchNorm = rewrite.Rule{
	Name: "gemm-batchnorm", Doc: "folds BatchNormalization of a matrix into the Gemm before it",
	Pattern: "BatchNormalization(gemm=Gemm(x, w, ?b), s, c, mean, variance)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		gemm := m.Node("gemm")
		if err := soleUse(gemm); err != nil {
			return err
		}
		a, err := batchNorm(m, m.Root)
		if err != nil {
			return err
		}
		w, err := m.Const("w")
		if err != nil {
			return err
		}
		if len(w.Shape) != 2 {
			return rewrite.Decline("the weights have shape %v", w.Shape)
		}
		b, err := gemmBias(m, gemm, "b", int64(len(a.scale)))
		if err != nil {
			return err
		}
		columns, channel := w.Shape[1], func(i int) int { return i % int(w.Shape[1]) }
		if gemm.Int("transB", 0) != 0 {
			columns, channel = w.Shape[0], func(i int) int { return i / int(w.Shape[1]) }
		}
		if columns != int64(len(a.scale)) {
			return rewrite.Decline("%d channels are normalized, but Gemm makes %d", len(a.scale), columns)
		}
		w2, err := scaled(w, a.scale, channel)
		if err != nil {
			return err
		}
		b2, err := foldedBias(w.Name+"_bias", w.DType, b, a)
		if err != nil {
			return err
		}
		y := p.Add("Gemm", []*onnx.Value{m.Value("x"), p.Const(w2), p.Const(b2)}, withoutAttr(gemm, "beta")...)
		p.Swap(m.Root.Output(0), y)
		return nil
	},
}

// gemmBias returns beta·C of a Gemm as one element per column, nil if it has
// none; it declines where C is not constant or varies by row.
func gemmBias(m *rewrite.Match, gemm *onnx.Node, name string, columns int64) (*onnx.Tensor, error) {
	t, err := optionalConst(m, name)
	if t == nil || err != nil {
		return nil, err
	}
	return rowBias(t, float64(gemm.Float("beta", 1)), columns)
}

// rowBias returns t·factor as [columns], where t broadcasts along the rows of a matrix.
func rowBias(t *onnx.Tensor, factor float64, columns int64) (*onnx.Tensor, error) {
	n, _ := t.Elements()
	for i, d := range t.Shape {
		if d != 1 && i != len(t.Shape)-1 {
			return nil, rewrite.Decline("the bias of shape %s varies by row", dims(t.Shape))
		}
	}
	if len(t.Shape) > 2 || n != 1 && n != columns {
		return nil, rewrite.Decline("the bias has shape %s for %d columns", dims(t.Shape), columns)
	}
	v, err := t.Float64s()
	if err != nil {
		return nil, err
	}
	out := make([]float64, columns)
	for i := range out {
		out[i] = v[i%len(v)] * factor
	}
	return floatTensor(t.Name, t.DType, []int64{columns}, out)
}

// withoutAttr returns n's attributes but the one called name.
func withoutAttr(n *onnx.Node, name string) []*onnx.Attr {
	var out []*onnx.Attr
	for _, a := range n.Attrs {
		if a.Name != name {
			out = append(out, a)
		}
	}
	return out
}

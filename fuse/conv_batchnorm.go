package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// convBatchNorm: BatchNormalization over the output channels of Conv is a
// scale of the filters and a shift of the bias, whatever the group count.
var convBatchNorm = rewrite.Rule{
	Name: "conv-batchnorm", Doc: "folds BatchNormalization into the Conv before it",
	Pattern: "BatchNormalization(conv=Conv(x, w, ?b), s, c, mean, variance)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		return foldIntoConv(m, p, func(w *onnx.Tensor, group int64) (int64, func(int) int) {
			inner := 1
			for _, d := range w.Shape[1:] {
				inner *= int(d)
			}
			return w.Shape[0], func(i int) int { return i / inner }
		})
	},
}

// convTransposeBatchNorm: the filters of ConvTranspose are [C, M/group, ...], and
// output channel g·M/group + j belongs to the input channels of group g.
var convTransposeBatchNorm = rewrite.Rule{
	Name: "convtranspose-batchnorm", Doc: "folds BatchNormalization into the ConvTranspose before it",
	Pattern: "BatchNormalization(conv=ConvTranspose(x, w, ?b), s, c, mean, variance)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		return foldIntoConv(m, p, func(w *onnx.Tensor, group int64) (int64, func(int) int) {
			inner := 1
			for _, d := range w.Shape[2:] {
				inner *= int(d)
			}
			per := int(w.Shape[1])
			inPerGroup := int(w.Shape[0] / group)
			return w.Shape[1] * group, func(i int) int {
				k := i / inner
				return k/per/inPerGroup*per + k%per
			}
		})
	},
}

// foldIntoConv scales the filters of the node bound to conv. channels returns
// the number of output channels and the output channel of a weight.
func foldIntoConv(m *rewrite.Match, p *rewrite.Patch, channels func(*onnx.Tensor, int64) (int64, func(int) int)) error {
	conv := m.Node("conv")
	if err := soleUse(conv); err != nil {
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
	b, err := optionalConst(m, "b")
	if err != nil {
		return err
	}
	group := conv.Int("group", 1)
	if len(w.Shape) < 3 || group < 1 || w.Shape[0]%group != 0 {
		return rewrite.Decline("the filters have shape %v in %d groups", w.Shape, group)
	}
	count, channel := channels(w, group)
	if count != int64(len(a.scale)) {
		return rewrite.Decline("%d channels are normalized, but the filters make %d", len(a.scale), count)
	}
	w2, err := scaled(w, a.scale, channel)
	if err != nil {
		return err
	}
	b2, err := foldedBias(w.Name+"_bias", w.DType, b, a)
	if err != nil {
		return err
	}
	y := p.Add(conv.Op, []*onnx.Value{m.Value("x"), p.Const(w2), p.Const(b2)}, conv.Attrs...)
	p.Swap(m.Root.Output(0), y)
	return nil
}

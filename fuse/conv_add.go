package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// convAdd: adding one number per output channel to Conv is its bias.
var convAdd = rewrite.Rule{
	Name: "conv-add", Doc: "folds the addition of a constant per channel into the Conv or ConvTranspose before it",
	Pattern: "Add(conv=Conv|ConvTranspose(x, w, ?b), c)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		conv := m.Node("conv")
		if err := soleUse(conv); err != nil {
			return err
		}
		if m.Opset() < 7 {
			return rewrite.Decline("Add of opset %d broadcasts by attributes", m.Opset())
		}
		w, err := m.Const("w")
		if err != nil {
			return err
		}
		b, err := optionalConst(m, "b")
		if err != nil {
			return err
		}
		c, err := m.Const("c")
		if err != nil {
			return err
		}
		if len(w.Shape) < 3 {
			return rewrite.Decline("the filters have shape %v", w.Shape)
		}
		channels := w.Shape[0]
		if conv.Op == "ConvTranspose" {
			channels = w.Shape[1] * conv.Int("group", 1)
		}
		a, err := perChannel(c, len(w.Shape), channels)
		if err != nil {
			return err
		}
		b2, err := foldedBias(w.Name+"_bias", w.DType, b, a)
		if err != nil {
			return err
		}
		y := p.Add(conv.Op, []*onnx.Value{m.Value("x"), m.Value("w"), p.Const(b2)}, conv.Attrs...)
		p.Swap(m.Root.Output(0), y)
		return nil
	},
}

// perChannel returns c, added to a tensor [N, channels, ...] of the given rank,
// as a shift per channel; it declines where c varies along any other axis.
func perChannel(c *onnx.Tensor, rank int, channels int64) (affine, error) {
	var a affine
	n, _ := c.Elements()
	axis := len(c.Shape) - rank + 1 // of the channels in c, by right alignment
	for i, d := range c.Shape {
		if i != axis && d != 1 {
			return a, rewrite.Decline("the addend of shape %s varies along another axis than the channels", dims(c.Shape))
		}
	}
	if len(c.Shape) > rank || n != 1 && n != channels {
		return a, rewrite.Decline("the addend has shape %s for %d channels", dims(c.Shape), channels)
	}
	v, err := c.Float64s()
	if err != nil {
		return a, err
	}
	for i := range int(channels) {
		a.scale = append(a.scale, 1)
		a.shift = append(a.shift, v[i%len(v)])
	}
	return a, nil
}

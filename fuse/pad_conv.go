package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// padConv: Conv adds zeros around its input itself.
var padConv = rewrite.Rule{
	Name: "pad-conv", Doc: "folds Pad by zeros into the Conv after it",
	Pattern: "Conv(pad=Pad(x, ...), w, ?b)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		pad, err := padOf(m, m.Node("pad"))
		if err != nil {
			return err
		}
		if pad.value != 0 {
			return rewrite.Decline("Pad adds %v", pad.value)
		}
		pads, err := pad.intoWindow(m.Root)
		if err != nil {
			return err
		}
		attrs := withAttrs(m.Root, onnx.IntsAttr("pads", pads...))
		if m.Root.Attr("auto_pad") != nil {
			attrs = withAttrs(m.Root, onnx.StringAttr("auto_pad", "NOTSET"), onnx.IntsAttr("pads", pads...))
		}
		p.Swap(m.Root.Output(0), p.Add("Conv", []*onnx.Value{m.Value("x"), m.Value("w"), m.Value("b")}, attrs...))
		return nil
	},
}

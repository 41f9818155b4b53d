package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// castLike: the type that CastLike takes from its second input is known.
var castLike = rewrite.Rule{
	Name: "cast-like", Doc: "turns CastLike into Cast where the type is known", Pattern: "CastLike(x, like)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		d := m.Facts.DType(m.Value("like"))
		if d == onnx.Undefined {
			return rewrite.Decline("the type of %q is not known", m.Value("like").Name())
		}
		attrs := append([]*onnx.Attr{onnx.IntAttr("to", int64(d))}, m.Root.Attrs...)
		p.Swap(m.Root.Output(0), p.Add("Cast", []*onnx.Value{m.Value("x")}, attrs...))
		return nil
	},
}

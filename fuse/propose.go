package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// Nodes that rules propose for shapes, in the form that an opset has for them.

// axisSize proposes the size of an axis of v as int64 [1].
func axisSize(p *rewrite.Patch, version int64, v *onnx.Value, axis int64) *onnx.Value {
	if version >= 15 {
		return p.Add("Shape", []*onnx.Value{v}, onnx.IntAttr("start", axis), onnx.IntAttr("end", axis+1))
	}
	at := p.Const(onnx.FromInts("axis", []int64{1}, []int64{axis}))
	return p.Add("Gather", []*onnx.Value{p.Add("Shape", []*onnx.Value{v}), at}, onnx.IntAttr("axis", 0))
}

// withoutAxis proposes v without an axis, which has length 1.
func withoutAxis(p *rewrite.Patch, version int64, v *onnx.Value, axis int64) *onnx.Value {
	return changeAxis(p, "Squeeze", version, v, axis)
}

// withAxis proposes v with one more axis of length 1.
func withAxis(p *rewrite.Patch, version int64, v *onnx.Value, axis int64) *onnx.Value {
	return changeAxis(p, "Unsqueeze", version, v, axis)
}

func changeAxis(p *rewrite.Patch, op string, version int64, v *onnx.Value, axis int64) *onnx.Value {
	if version < 13 {
		return p.Add(op, []*onnx.Value{v}, onnx.IntsAttr("axes", axis))
	}
	return p.Add(op, []*onnx.Value{v, p.Const(onnx.FromInts("axes", []int64{1}, []int64{axis}))})
}

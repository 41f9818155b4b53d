package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// reshapeTarget returns the constant shape with which Reshape of a value of
// shape in certainly gives shape out: sizes where they are known, 0 where the
// dimension is that of the same place in in, and at most one −1. It declines
// where no such constant exists.
func reshapeTarget(f *opset.Facts, in, out onnx.Shape) ([]int64, error) {
	if in == nil || out == nil {
		return nil, rewrite.Decline("from %v to %v the ranks are not known", in, out)
	}
	target := make([]int64, len(out))
	minus, copied := -1, -1
	for i, d := range out {
		same := i < len(in) && in[i].Same(d)
		switch {
		case d.Known() && d.Value > 0:
			target[i] = d.Value
		case same:
			target[i] = 0
			if !f.Positive(d) {
				copied = i
			}
		case d.Known():
			return nil, rewrite.Decline("the shape %v is empty", out)
		case minus >= 0:
			return nil, rewrite.Decline("the sizes %v and %v of the result are both not known", out[minus], d)
		default:
			target[i], minus = -1, i
		}
	}
	if minus >= 0 && copied >= 0 {
		return nil, rewrite.Decline("the size %v may be 0, which leaves -1 without a meaning", out[copied])
	}
	return target, nil
}

// reshapeConstant: a shape that is computed becomes constant where propagation
// knows what comes out, also with a dynamic dimension.
var reshapeConstant = rewrite.Rule{
	Name: "reshape-constant", Doc: "gives Reshape a constant shape, with one -1 or with 0 for what is copied, where the computed one is known",
	Pattern: "Reshape(x, shape)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		shape := m.Value("shape")
		if shape.Constant() != nil {
			return rewrite.Decline("the shape is constant")
		}
		x, out := m.Value("x"), m.Root.Output(0)
		target, err := reshapeTarget(m.Facts, m.Facts.Shape(x), m.Facts.Shape(out))
		if err != nil {
			return err
		}
		if !knownTail(m.Facts, shape, target) {
			return rewrite.Decline("where -1 stands the computed shape may hold something else")
		}
		p.Swap(out, p.Add("Reshape", []*onnx.Value{x, intsConst(p, "shape", target)}))
		return nil
	},
}

// knownTail reports whether −1 in target certainly stands for what shape holds.
// Reshape fails where sizes do not fit, so any size that the computed shape has
// there is the one that −1 gives.
func knownTail(f *opset.Facts, shape *onnx.Value, target []int64) bool {
	dims := f.Shape(shape)
	return len(dims) == 1 && dims[0].Known() && dims[0].Value == int64(len(target))
}

// expandConstant: as reshape-constant, for Expand.
var expandConstant = rewrite.Rule{
	Name: "expand-constant", Doc: "gives Expand a constant shape where the computed one is known, with 1 where the input already has the size",
	Pattern: "Expand(x, shape)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		if m.Value("shape").Constant() != nil {
			return rewrite.Decline("the shape is constant")
		}
		x, out := m.Value("x"), m.Root.Output(0)
		in, want := m.Facts.Shape(x), m.Facts.Shape(out)
		if in == nil || want == nil {
			return rewrite.Decline("from %v to %v the ranks are not known", in, want)
		}
		target := make([]int64, len(want))
		for i, d := range want {
			k := i - (len(want) - len(in))
			switch {
			case k >= 0 && in[k].Same(d):
				target[i] = 1
			case d.Known():
				target[i] = d.Value
			default:
				return rewrite.Decline("the size %v of the result is not known", d)
			}
		}
		p.Swap(out, p.Add("Expand", []*onnx.Value{x, intsConst(p, "shape", target)}))
		return nil
	},
}

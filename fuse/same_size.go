package fuse

import (
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// tileOnce: one copy is the value itself.
var tileOnce = rewrite.Rule{
	Name: "tile-once", Doc: "removes Tile that repeats nothing",
	Pattern: "Tile(x, repeats)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		r, ok := knownInts(m.Facts, m.Value("repeats"))
		if !ok || m.Opset() < 6 || slices.ContainsFunc(r, func(n int64) bool { return n != 1 }) {
			return rewrite.Decline("the repeats are %v", r)
		}
		return swapIfSameShape(m, p, m.Value("x"))
	},
}

// resizeToSame: where neither size nor position changes, every way to
// interpolate gives the value itself.
var resizeToSame = rewrite.Rule{
	Name: "resize-to-same", Doc: "removes Resize and Upsample by the factor one",
	Pattern: "Resize|Upsample(x, ...)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		n := m.Root
		if mode := n.Str("coordinate_transformation_mode", "half_pixel"); strings.HasPrefix(mode, "tf_") {
			return rewrite.Decline("the coordinates are shifted or cut out (%s)", mode)
		}
		scales := n.Input(1)
		if n.Is("Resize") && m.Opset() >= 11 {
			scales = n.Input(2)
		}
		if n.Input(3) == nil && scales == nil {
			return rewrite.Decline("the scales are not an input")
		}
		if n.Input(3) == nil || scales != nil && scales.Constant() != nil {
			t := scales.Constant()
			if t == nil {
				return rewrite.Decline("the scales are not constant")
			}
			v, err := t.Float64s()
			if err != nil {
				return err
			}
			if (n.Input(3) == nil || len(v) > 0) && slices.ContainsFunc(v, func(s float64) bool { return s != 1 }) {
				return rewrite.Decline("the scales are %v", v)
			}
		}
		return swapIfSameShape(m, p, m.Value("x"))
	},
}

// concatEmpty: parts without elements add nothing.
var concatEmpty = rewrite.Rule{
	Name: "concat-empty", Doc: "leaves out parts of Concat that have no elements",
	Pattern: "Concat(...)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		axis, err := axisAttr(m, m.Root, m.Root.Output(0), 1)
		if err != nil {
			return err
		}
		var kept []*onnx.Value
		for _, v := range m.Root.Inputs() {
			s := m.Facts.Shape(v)
			if axis < int64(len(s)) && s[axis].Known() && s[axis].Value == 0 {
				continue
			}
			kept = append(kept, v)
		}
		if len(kept) == len(m.Root.Inputs()) || len(kept) == 0 {
			return rewrite.Decline("no part is empty, or all are")
		}
		p.Swap(m.Root.Output(0), p.Add("Concat", kept, onnx.IntAttr("axis", axis)))
		return nil
	},
}

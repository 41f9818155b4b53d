package fuse

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

var identity = rewrite.Rule{
	Name: "identity", Doc: "removes Identity",
	Pattern: "Identity(x)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		p.Swap(m.Root.Output(0), m.Value("x"))
		return nil
	},
}

var dropout = rewrite.Rule{
	Name: "dropout", Doc: "removes Dropout where it is not training and its mask is not read",
	Pattern: "Dropout(x, ?ratio, ?training)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		if mask := m.Root.Output(1); mask != nil && !mask.Dead() {
			return rewrite.Decline("the mask is read")
		}
		if m.Opset() < 7 && m.Root.Int("is_test", 0) == 0 {
			return rewrite.Decline("is_test is 0")
		}
		if m.Value("training") != nil {
			on, err := m.Const("training")
			if err != nil {
				return err
			}
			if v, err := on.Ints(); err != nil || len(v) != 1 || v[0] != 0 {
				return rewrite.Decline("training_mode is on")
			}
		}
		p.Swap(m.Root.Output(0), m.Value("x"))
		return nil
	},
}

var castToSame = rewrite.Rule{
	Name: "cast-to-same", Doc: "removes Cast to the type that the value has",
	Pattern: "Cast(x)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		x := m.Value("x")
		if to := onnx.DType(m.Root.Int("to", 0)); m.Facts.DType(x) == onnx.Undefined || m.Facts.DType(x) != to {
			return rewrite.Decline("from %v to %v", m.Facts.DType(x), to)
		}
		p.Swap(m.Root.Output(0), x)
		return nil
	},
}

// sameShape declines unless x certainly has the shape of the node's output.
func sameShape(m *rewrite.Match, x *onnx.Value) error {
	out := m.Root.Output(0)
	if !m.Facts.Shape(x).Equal(m.Facts.Shape(out)) {
		return rewrite.Decline("the shape goes from %v to %v", m.Facts.Shape(x), m.Facts.Shape(out))
	}
	return nil
}

// swapIfSameShape replaces the output of the node by x where shapes are equal.
func swapIfSameShape(m *rewrite.Match, p *rewrite.Patch, x *onnx.Value) error {
	if err := sameShape(m, x); err != nil {
		return err
	}
	p.Swap(m.Root.Output(0), x)
	return nil
}

var reshapeToSame = rewrite.Rule{
	Name: "reshape-to-same", Doc: "removes Reshape, Flatten, Squeeze and Unsqueeze that keep the shape",
	Pattern: "Reshape|Flatten|Squeeze|Unsqueeze(x, ?shape)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		return swapIfSameShape(m, p, m.Value("x"))
	},
}

var expandToSame = rewrite.Rule{
	Name: "expand-to-same", Doc: "removes Expand that keeps the shape",
	Pattern: "Expand(x, shape)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		return swapIfSameShape(m, p, m.Value("x"))
	},
}

var transposeToSame = rewrite.Rule{
	Name: "transpose-to-same", Doc: "removes Transpose that keeps the order of axes",
	Pattern: "Transpose(x)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		perm := m.Root.Ints("perm", nil)
		if perm == nil {
			return rewrite.Decline("the axes are reversed")
		}
		for i, axis := range perm {
			if int64(i) != axis {
				return rewrite.Decline("the axes go to %v", perm)
			}
		}
		p.Swap(m.Root.Output(0), m.Value("x"))
		return nil
	},
}

var sliceWhole = rewrite.Rule{
	Name: "slice-whole", Doc: "removes Slice that takes everything, forward",
	Pattern: "Slice(x, ?starts, ?ends, ?axes, ?steps)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		steps := m.Value("steps")
		if steps != nil {
			t, err := m.Const("steps")
			if err != nil {
				return err
			}
			if v, err := t.Ints(); err != nil || slices.ContainsFunc(v, func(s int64) bool { return s != 1 }) {
				return rewrite.Decline("the steps are %v", v)
			}
		}
		return swapIfSameShape(m, p, m.Value("x"))
	},
}

var padNothing = rewrite.Rule{
	Name: "pad-nothing", Doc: "removes Pad by zero elements",
	Pattern: "Pad(x, ?pads, ?value, ?axes)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		pads := m.Root.Ints("pads", nil)
		if m.Value("pads") != nil {
			t, err := m.Const("pads")
			if err != nil {
				return err
			}
			if pads, err = t.Ints(); err != nil {
				return err
			}
		}
		if pads == nil || slices.ContainsFunc(pads, func(n int64) bool { return n != 0 }) {
			return rewrite.Decline("the pads are %v", pads)
		}
		p.Swap(m.Root.Output(0), m.Value("x"))
		return nil
	},
}

var concatOne = rewrite.Rule{
	Name: "concat-one", Doc: "removes Concat, Max, Min, Sum and Mean of one value",
	Pattern: "Concat|Max|Min|Sum|Mean(x)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		p.Swap(m.Root.Output(0), m.Value("x"))
		return nil
	},
}

package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// axisAttr returns the axis attribute of n counted from the front of v, or declines.
func axisAttr(m *rewrite.Match, n *onnx.Node, v *onnx.Value, def int64) (int64, error) {
	axis := n.Int("axis", def)
	s := m.Facts.Shape(v)
	if axis < 0 {
		if s == nil {
			return 0, rewrite.Decline("the axis of %v counts from the end and the rank is not known", n)
		}
		axis += int64(len(s))
	}
	if axis < 0 || s != nil && axis >= int64(len(s)) {
		return 0, rewrite.Decline("%v has no axis %d", n, axis)
	}
	return axis, nil
}

// concatChain: a Concat that feeds only another one along the same axis.
var concatChain = rewrite.Rule{
	Name: "concat-chain", Doc: "joins at once what two Concat join along the same axis",
	Pattern: "Concat(...)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		out := m.Root.Output(0)
		axis, err := axisAttr(m, m.Root, out, 1)
		if err != nil {
			return err
		}
		var all []*onnx.Value
		merged := false
		for _, v := range m.Root.Inputs() {
			inner := producerOf(v, "Concat")
			if inner == nil || soleUse(inner) != nil {
				all = append(all, v)
				continue
			}
			if k, err := axisAttr(m, inner, v, 1); err != nil || k != axis {
				all = append(all, v)
				continue
			}
			all, merged = append(all, inner.Inputs()...), true
		}
		if !merged {
			return rewrite.Decline("no input is a Concat along the same axis that is read only here")
		}
		p.Swap(out, p.Add("Concat", all, onnx.IntAttr("axis", axis)))
		return nil
	},
}

// splitConcat: what Split takes apart and Concat joins again.
var splitConcat = rewrite.Rule{
	Name: "split-concat", Doc: "removes Concat of all parts that Split made, in order, along the same axis",
	Pattern: "Concat(...)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		split := producerOf(m.Root.Input(0), "Split")
		if split == nil || len(split.Outputs()) != len(m.Root.Inputs()) {
			return rewrite.Decline("the inputs are not all parts of one Split")
		}
		for i, v := range m.Root.Inputs() {
			if v == nil || v != split.Output(i) {
				return rewrite.Decline("the inputs are not the parts of %v in order", split)
			}
		}
		a, err := axisAttr(m, m.Root, m.Root.Input(0), 1)
		if err != nil {
			return err
		}
		b, err := axisAttr(m, split, split.Input(0), 0)
		if err != nil {
			return err
		}
		if a != b {
			return rewrite.Decline("%v cuts along axis %d, Concat joins along %d", split, b, a)
		}
		p.Swap(m.Root.Output(0), split.Input(0))
		return nil
	},
}

// concatSplit: what Concat joins and Split takes apart at the same places.
var concatSplit = rewrite.Rule{
	Name: "concat-split", Doc: "removes Split that cuts where Concat had joined",
	Pattern: "Split(concat=Concat(...), ?split)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		concat := m.Node("concat")
		a, err := axisAttr(m, concat, concat.Output(0), 1)
		if err != nil {
			return err
		}
		b, err := axisAttr(m, m.Root, concat.Output(0), 0)
		if err != nil {
			return err
		}
		if a != b || len(concat.Inputs()) != len(m.Root.Outputs()) {
			return rewrite.Decline("it does not cut as %v joins", concat)
		}
		for i, v := range concat.Inputs() {
			part := m.Root.Output(i)
			if part == nil {
				return rewrite.Decline("part %d is left out", i)
			}
			x, y := m.Facts.Shape(v), m.Facts.Shape(part)
			if a >= int64(len(x)) || a >= int64(len(y)) || !x[a].Same(y[a]) {
				return rewrite.Decline("part %d has shape %v, what was joined %v", i, y, x)
			}
			if part.IsOutput() {
				return rewrite.Decline("part %d is a graph output", i)
			}
		}
		for i, v := range concat.Inputs() {
			p.Swap(m.Root.Output(i), v)
		}
		return nil
	},
}

// splitOne: a Split into one part is the value itself.
var splitOne = rewrite.Rule{
	Name: "split-one", Doc: "removes Split into one part",
	Pattern: "Split(x, ?split)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		if n := len(m.Root.Outputs()); n != 1 {
			return rewrite.Decline("there are %d parts", n)
		}
		if !m.Facts.Shape(m.Root.Output(0)).Equal(m.Facts.Shape(m.Value("x"))) {
			return rewrite.Decline("the part may be smaller than the whole")
		}
		p.Swap(m.Root.Output(0), m.Value("x"))
		return nil
	},
}

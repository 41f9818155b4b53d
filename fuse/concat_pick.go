package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// place finds element at of what a Concat along axis joins: the input that holds
// it and its index there, counted from the front. at may count from the end.
func place(m *rewrite.Match, concat *onnx.Node, axis, at int64) (*onnx.Value, int64, error) {
	var total int64
	sizes := make([]int64, len(concat.Inputs()))
	for i, v := range concat.Inputs() {
		s := m.Facts.Shape(v)
		if axis >= int64(len(s)) || !s[axis].Known() {
			if at < 0 || at >= total {
				return nil, 0, rewrite.Decline("the size of input %d of %v is not known", i, concat)
			}
			sizes = sizes[:i]
			break
		}
		sizes[i] = s[axis].Value
		total += sizes[i]
	}
	if at < 0 {
		at += total
	}
	for i, n := range sizes {
		if at >= 0 && at < n {
			return concat.Input(i), at, nil
		}
		at -= n
	}
	return nil, 0, rewrite.Decline("the element is not certainly in one input of %v", concat)
}

// gatherConcat: one element of what was joined is an element of one part, as
// where a size is taken out of a shape that was put together.
var gatherConcat = rewrite.Rule{
	Name: "gather-concat", Doc: "takes one element of what Concat joins from the part that holds it",
	Pattern: "Gather(concat=Concat(...), i)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		concat := m.Node("concat")
		index, ok := knownInts(m.Facts, m.Value("i"))
		if !ok || len(index) != 1 {
			return rewrite.Decline("the index is not one constant")
		}
		axis, err := axisAttr(m, concat, concat.Output(0), 1)
		if err != nil {
			return err
		}
		if k, err := axisAttr(m, m.Root, concat.Output(0), 0); err != nil || k != axis {
			return rewrite.Decline("it takes along axis %d, %v joins along %d", k, concat, axis)
		}
		part, at, err := place(m, concat, axis, index[0])
		if err != nil {
			return err
		}
		shape := m.Facts.Shape(m.Value("i"))
		if shape == nil {
			return rewrite.Decline("the rank of the index is not known")
		}
		dims, _ := shape.Static()
		i := p.Const(onnx.FromInts("index", dims, []int64{at}))
		p.Swap(m.Root.Output(0), p.Add("Gather", []*onnx.Value{part, i}, onnx.IntAttr("axis", axis)))
		return nil
	},
}

// gatherUnsqueeze: the one element along an axis that Unsqueeze put in.
var gatherUnsqueeze = rewrite.Rule{
	Name: "gather-unsqueeze", Doc: "removes Gather of the one element along an axis that Unsqueeze put in",
	Pattern: "Gather(u=Unsqueeze(x, ?axes), i)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		u := m.Node("u")
		axes, given, err := axesArg(m, u)
		if err != nil {
			return err
		}
		mid := m.Facts.Shape(u.Output(0))
		if !given || len(axes) != 1 || mid == nil {
			return rewrite.Decline("Unsqueeze puts in %v", axes)
		}
		axes, ok := normalAxes(axes, len(mid))
		k, err := axisAttr(m, m.Root, u.Output(0), 0)
		if err != nil || !ok || axes[0] != k {
			return rewrite.Decline("it takes along another axis")
		}
		index, ok := knownInts(m.Facts, m.Value("i"))
		shape := m.Facts.Shape(m.Value("i"))
		if !ok || len(index) != 1 || index[0] != 0 && index[0] != -1 || shape == nil {
			return rewrite.Decline("the index is not the constant 0")
		}
		switch len(shape) {
		case 0:
			p.Swap(m.Root.Output(0), m.Value("x"))
		case 1:
			p.Swap(m.Root.Output(0), u.Output(0))
		default:
			return rewrite.Decline("the index has shape %v", shape)
		}
		return nil
	},
}

// sliceConcat: a stretch of what was joined that lies in one part.
var sliceConcat = rewrite.Rule{
	Name: "slice-concat", Doc: "takes a stretch of what Concat joins from the part that holds it",
	Pattern: "Slice(concat=Concat(...), ?starts, ?ends, ?axes, ?steps)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		concat := m.Node("concat")
		shape := m.Facts.Shape(concat.Output(0))
		axis, err := axisAttr(m, concat, concat.Output(0), 1)
		if err != nil {
			return err
		}
		if shape == nil {
			return rewrite.Decline("the rank is not known")
		}
		list, err := cuts(m, m.Root, len(shape))
		if err != nil {
			return err
		}
		if len(list) != 1 || list[0].axis != axis || !shape[axis].Known() {
			return rewrite.Decline("it does not cut along the axis that %v joins, of known size", concat)
		}
		c := list[0].within(shape[axis].Value)
		if c.start >= c.end {
			return rewrite.Decline("it takes nothing")
		}
		part, at, err := place(m, concat, axis, c.start)
		if err != nil {
			return err
		}
		size := m.Facts.Shape(part)[axis].Value
		if at+c.end-c.start > size {
			return rewrite.Decline("it takes of several parts")
		}
		if at == 0 && c.step == 1 && c.end-c.start == size {
			p.Swap(m.Root.Output(0), part)
			return nil
		}
		p.Swap(m.Root.Output(0), addSlice(m, p, part, []cut{{axis, at, at + c.end - c.start, c.step}}))
		return nil
	},
}

// sliceShape: part of a shape is what Shape itself can give (opset 15).
var sliceShape = rewrite.Rule{
	Name: "slice-shape", Doc: "lets Shape give only the sizes that Slice takes of it",
	Pattern: "Slice(shape=Shape(x), ?starts, ?ends, ?axes, ?steps)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		if m.Opset() < 15 {
			return rewrite.Decline("Shape has no range before opset 15")
		}
		rank := m.Facts.Shape(m.Value("x"))
		if rank == nil {
			return rewrite.Decline("the rank is not known")
		}
		list, err := cuts(m, m.Root, 1)
		if err != nil {
			return err
		}
		whole := m.Node("shape").Int("start", 0) == 0 && m.Node("shape").Int("end", int64(len(rank))) == int64(len(rank))
		if len(list) != 1 || list[0].step != 1 || !whole {
			return rewrite.Decline("it does not take a stretch of the whole shape")
		}
		c := list[0].within(int64(len(rank)))
		if c.start >= c.end {
			return rewrite.Decline("it takes nothing")
		}
		p.Swap(m.Root.Output(0), p.Add("Shape", []*onnx.Value{m.Value("x")}, onnx.IntAttr("start", c.start), onnx.IntAttr("end", c.end)))
		return nil
	},
}

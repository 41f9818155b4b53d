package fuse

import (
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// cut is what Slice takes along one axis, with positive step.
type cut struct{ axis, start, end, step int64 }

// cuts returns what a Slice with constant arguments takes, or declines. Axes
// are counted from the front; rank is that of its input, -1 if not known.
func cuts(m *rewrite.Match, n *onnx.Node, rank int) ([]cut, error) {
	var arg [4][]int64 // starts, ends, axes, steps
	for i, name := range []string{"starts", "ends", "axes", "steps"} {
		if m.Opset() < 10 {
			arg[i] = n.Ints(name, nil)
		} else if v := n.Input(1 + i); v != nil {
			var ok bool
			if arg[i], ok = knownInts(m.Facts, v); !ok {
				return nil, rewrite.Decline("the %s of %v are not constant", name, n)
			}
		}
	}
	if len(arg[0]) != len(arg[1]) || arg[2] != nil && len(arg[2]) != len(arg[0]) || arg[3] != nil && len(arg[3]) != len(arg[0]) {
		return nil, rewrite.Decline("the arguments of %v differ in length", n)
	}
	out := make([]cut, len(arg[0]))
	for i := range out {
		c := cut{int64(i), arg[0][i], arg[1][i], 1}
		if arg[2] != nil {
			c.axis = arg[2][i]
		}
		if arg[3] != nil {
			c.step = arg[3][i]
		}
		if c.axis < 0 && rank >= 0 {
			c.axis += int64(rank)
		}
		switch {
		case c.axis < 0:
			return nil, rewrite.Decline("an axis counts from the end and the rank is not known")
		case rank >= 0 && c.axis >= int64(rank):
			return nil, rewrite.Decline("%v cuts axis %d of a value of %d axes", n, c.axis, rank)
		case c.step < 1:
			return nil, rewrite.Decline("%v goes backwards", n)
		case slices.ContainsFunc(out[:i], func(d cut) bool { return d.axis == c.axis }):
			return nil, rewrite.Decline("%v names an axis twice", n)
		}
		out[i] = c
	}
	return out, nil
}

// within returns c with start and end counted from the front of size elements
// and within them.
func (c cut) within(size int64) cut {
	for _, p := range []*int64{&c.start, &c.end} {
		if *p < 0 {
			*p += size
		}
		*p = min(max(*p, 0), size)
	}
	c.end = max(c.end, c.start)
	return c
}

// length returns how many elements c takes; its ends are within the size.
func (c cut) length() int64 { return (c.end - c.start + c.step - 1) / c.step }

// then returns what d takes of what c takes, both along one axis of a value
// whose dimension there is size.
func (c cut) then(d cut, size onnx.Dim) (cut, error) {
	if size.Known() {
		c = c.within(size.Value)
		d = d.within(c.length())
	} else if c.start < 0 || c.end < 0 || d.start < 0 || d.end < 0 {
		return c, rewrite.Decline("an index counts from the end of axis %d, whose size is not known", c.axis)
	}
	start, ok1 := scaleIndex(c.start, d.start, c.step)
	end, ok2 := scaleIndex(c.start, d.end, c.step)
	step, ok3 := scaleIndex(0, d.step, c.step)
	if !ok1 || !ok3 {
		return c, rewrite.Decline("the indices along axis %d overflow", c.axis)
	}
	if !ok2 {
		end = c.end
	}
	return cut{c.axis, start, min(c.end, end), step}, nil
}

// scaleIndex returns base + i·step for numbers that are not negative, false on overflow.
func scaleIndex(base, i, step int64) (int64, bool) {
	if i != 0 && step > (math.MaxInt64-base)/i {
		return 0, false
	}
	return base + i*step, true
}

// addSlice proposes a Slice of x in the form of the opset in force.
func addSlice(m *rewrite.Match, p *rewrite.Patch, x *onnx.Value, list []cut) *onnx.Value {
	var starts, ends, axes, steps []int64
	plain := true
	for _, c := range list {
		starts, ends, axes, steps = append(starts, c.start), append(ends, c.end), append(axes, c.axis), append(steps, c.step)
		plain = plain && c.step == 1
	}
	if m.Opset() < 10 {
		return p.Add("Slice", []*onnx.Value{x}, onnx.IntsAttr("starts", starts...), onnx.IntsAttr("ends", ends...), onnx.IntsAttr("axes", axes...))
	}
	in := []*onnx.Value{x, intsConst(p, "starts", starts), intsConst(p, "ends", ends), intsConst(p, "axes", axes)}
	if !plain {
		in = append(in, intsConst(p, "steps", steps))
	}
	return p.Add("Slice", in)
}

var sliceChain = rewrite.Rule{
	Name: "slice-chain", Doc: "makes one Slice of two in a row",
	Pattern: "outer=Slice(inner=Slice(x, ?s1, ?e1, ?a1, ?t1), ?s2, ?e2, ?a2, ?t2)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		if err := soleUse(m.Node("inner")); err != nil {
			return err
		}
		shape := m.Facts.Shape(m.Value("x"))
		rank := len(shape)
		if shape == nil {
			rank = -1
		}
		first, err := cuts(m, m.Node("inner"), rank)
		if err != nil {
			return err
		}
		second, err := cuts(m, m.Node("outer"), rank)
		if err != nil {
			return err
		}
		all := slices.Clone(first)
		for _, d := range second {
			i := slices.IndexFunc(all, func(c cut) bool { return c.axis == d.axis })
			if i < 0 {
				all = append(all, d)
				continue
			}
			size := onnx.Symbol("")
			if d.axis < int64(len(shape)) {
				size = shape[d.axis]
			}
			if all[i], err = all[i].then(d, size); err != nil {
				return err
			}
		}
		p.Swap(m.Root.Output(0), addSlice(m, p, m.Value("x"), all))
		return nil
	},
}

package fuse

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// reshapeChain: of two reshapes in a row only the last shape counts.
var reshapeChain = rewrite.Rule{
	Name: "reshape-chain", Doc: "makes one Reshape of two of Reshape, Flatten, Squeeze and Unsqueeze in a row",
	Pattern: "outer=Reshape|Flatten|Squeeze|Unsqueeze(inner=Reshape|Flatten|Squeeze|Unsqueeze(x, ?s1), ?s2)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		if m.Opset() < 5 {
			return rewrite.Decline("the shape is an attribute at opset %d", m.Opset())
		}
		x, out := m.Value("x"), m.Root.Output(0)
		inner, outer := m.Node("inner"), m.Node("outer")
		if err := mergeable(inner, outer); err != nil {
			return err
		}
		if s, ok := absolute(m, outer); ok {
			p.Swap(out, p.Add("Reshape", []*onnx.Value{x, s}, outer.Attrs...))
			return nil
		}
		target, err := reshapeTarget(m.Facts, m.Facts.Shape(x), m.Facts.Shape(out))
		if err != nil {
			return err
		}
		p.Swap(out, p.Add("Reshape", []*onnx.Value{x, intsConst(p, "shape", target)}))
		return nil
	},
}

// mergeable declines pairs that have a rule of their own, and pairs that engines
// look for as they are.
func mergeable(inner, outer *onnx.Node) error {
	if inner.Op == outer.Op && !inner.Is("Reshape") && !inner.Is("Flatten") {
		return rewrite.Decline("two %s become one", inner.Op)
	}
	return nil
}

// absolute returns the shape of a Reshape that means the same whatever the
// shape of its input is: no element is 0, or 0 stands for itself.
func absolute(m *rewrite.Match, n *onnx.Node) (*onnx.Value, bool) {
	if !n.Is("Reshape") {
		return nil, false
	}
	shape, ok := knownInts(m.Facts, n.Input(1))
	if !ok || slices.Contains(shape, 0) && n.Int("allowzero", 0) == 0 {
		return nil, false
	}
	return n.Input(1), true
}

// unsqueezeChain: two Unsqueeze in a row are one, whatever the shape.
var unsqueezeChain = rewrite.Rule{
	Name: "unsqueeze-chain", Doc: "makes one Unsqueeze of two in a row",
	Pattern: "outer=Unsqueeze(inner=Unsqueeze(x, ?a1), ?a2)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		x, mid, out := m.Value("x"), m.Node("inner").Output(0), m.Root.Output(0)
		a1, a2, err := bothAxes(m)
		if err != nil {
			return err
		}
		if m.Value("x").IsInput() && readBy(out, "Cast", "Sub") {
			return rewrite.Decline("an attention mask is spread this way, which engines look for")
		}
		rank := len(m.Facts.Shape(mid))
		if m.Facts.Shape(mid) == nil {
			if slices.ContainsFunc(append(slices.Clone(a1), a2...), func(a int64) bool { return a < 0 }) {
				return rewrite.Decline("axes count from the end and the rank is not known")
			}
			rank = 1 << 20
		}
		first, ok1 := normalAxes(a1, rank)
		second, ok2 := normalAxes(a2, rank+len(a2))
		if !ok1 || !ok2 {
			return rewrite.Decline("the axes %v and %v do not fit", a1, a2)
		}
		p.Swap(out, withAxes(m, p, "Unsqueeze", 13, x, joinAxes(first, second)))
		return nil
	},
}

// joinAxes returns where the axes of the first Unsqueeze or the last Squeeze,
// inner, lie once the axes outer have been put in: all are axes of the larger
// shape, in ascending order.
func joinAxes(inner, outer []int64) []int64 {
	all := slices.Clone(outer)
	for _, a := range inner {
		for _, b := range outer { // ascending
			if b <= a {
				a++
			}
		}
		all = append(all, a)
	}
	slices.Sort(all)
	return all
}

// squeezeChain: two Squeeze in a row are one.
var squeezeChain = rewrite.Rule{
	Name: "squeeze-chain", Doc: "makes one Squeeze of two in a row",
	Pattern: "outer=Squeeze(inner=Squeeze(x, ?a1), ?a2)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		x, out := m.Value("x"), m.Root.Output(0)
		a1, a2, err := bothAxes(m)
		if err != nil {
			return err
		}
		if m.Facts.Shape(x) == nil {
			return rewrite.Decline("the rank of %q is not known", x.Name())
		}
		rank := len(m.Facts.Shape(x))
		first, ok1 := normalAxes(a1, rank)
		second, ok2 := normalAxes(a2, rank-len(a1))
		if !ok1 || !ok2 {
			return rewrite.Decline("the axes %v and %v do not fit", a1, a2)
		}
		p.Swap(out, withAxes(m, p, "Squeeze", 13, x, joinAxes(second, first)))
		return nil
	},
}

// bothAxes returns the axes of the inner and the outer node, or declines.
func bothAxes(m *rewrite.Match) (inner, outer []int64, err error) {
	inner, given1, err := axesArg(m, m.Node("inner"))
	if err != nil {
		return nil, nil, err
	}
	outer, given2, err := axesArg(m, m.Node("outer"))
	if err != nil {
		return nil, nil, err
	}
	if !given1 || !given2 {
		return nil, nil, rewrite.Decline("every axis of size 1 is meant")
	}
	return inner, outer, nil
}

// squeezeUnsqueeze: axes that are put in and taken out again.
var squeezeUnsqueeze = rewrite.Rule{
	Name: "squeeze-unsqueeze", Doc: "removes Squeeze and Unsqueeze of the same axes in a row",
	Pattern: "outer=Squeeze|Unsqueeze(inner=Squeeze|Unsqueeze(x, ?a1), ?a2)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		inner, outer := m.Node("inner"), m.Node("outer")
		if inner.Op == outer.Op {
			return rewrite.Decline("both are %s", inner.Op)
		}
		a1, a2, err := bothAxes(m)
		if err != nil {
			return err
		}
		rank := len(m.Facts.Shape(m.Value("x")))
		if m.Facts.Shape(m.Value("x")) == nil {
			rank = -1
		}
		if !sameAxes(inner, a1, a2, rank) {
			return rewrite.Decline("the axes are %v and %v", a1, a2)
		}
		p.Swap(m.Root.Output(0), m.Value("x"))
		return nil
	},
}

// sameAxes reports whether the outer node takes back what the inner one did,
// which reads a value of rank axes; -1 where that is not known.
func sameAxes(inner *onnx.Node, a1, a2 []int64, rank int) bool {
	if rank < 0 {
		x, y := slices.Clone(a1), slices.Clone(a2)
		slices.Sort(x)
		slices.Sort(y)
		return slices.Equal(x, y)
	}
	if inner.Is("Unsqueeze") {
		rank += len(a1)
	}
	x, ok1 := normalAxes(a1, rank)
	y, ok2 := normalAxes(a2, rank)
	return ok1 && ok2 && slices.Equal(x, y)
}

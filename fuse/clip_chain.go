package fuse

import (
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// interval is what Clip or Relu leaves through; its ends may be infinite.
type interval struct{ lo, hi float64 }

// intervalOf reads the bounds of a Clip or Relu, or declines.
func intervalOf(m *rewrite.Match, n *onnx.Node) (interval, error) {
	if n.Is("Relu") {
		return interval{0, math.Inf(1)}, nil
	}
	b := interval{math.Inf(-1), math.Inf(1)}
	if m.Opset() < 11 {
		lo, hi := n.Attr("min"), n.Attr("max")
		if lo != nil {
			b.lo = float64(lo.F)
		}
		if hi != nil {
			b.hi = float64(hi.F)
		}
	} else {
		for i, p := range []*float64{&b.lo, &b.hi} {
			v := n.Input(1 + i)
			if v == nil {
				continue
			}
			x, _, ok := scalarConst(v)
			if !ok {
				return b, rewrite.Decline("a bound of %v is not a constant of one element", n)
			}
			*p = x
		}
	}
	if !(b.lo <= b.hi) {
		return b, rewrite.Decline("%v has bounds %v and %v", n, b.lo, b.hi)
	}
	return b, nil
}

// then returns the interval that does what b does after a.
func (a interval) then(b interval) interval {
	clamp := func(x float64) float64 { return min(max(x, b.lo), b.hi) }
	return interval{clamp(a.lo), clamp(a.hi)}
}

// addClip proposes a Clip in the form of the opset in force, or declines.
func addClip(m *rewrite.Match, p *rewrite.Patch, x *onnx.Value, b interval) (*onnx.Value, error) {
	d := m.Facts.DType(x)
	switch {
	case !isFloat(d) && !d.IsInt():
		return nil, rewrite.Decline("the element type is %v", d)
	case d == onnx.BFloat16 && m.Opset() < 13, d.IsInt() && m.Opset() < 12:
		return nil, rewrite.Decline("Clip does not take %v at opset %d", d, m.Opset())
	case math.IsInf(b.lo, -1) && math.IsInf(b.hi, 1):
		return nil, rewrite.Decline("there are no bounds")
	}
	if m.Opset() < 11 {
		var attrs []*onnx.Attr
		if !math.IsInf(b.lo, -1) {
			attrs = append(attrs, onnx.FloatAttr("min", float32(b.lo)))
		}
		if !math.IsInf(b.hi, 1) {
			attrs = append(attrs, onnx.FloatAttr("max", float32(b.hi)))
		}
		return p.Add("Clip", []*onnx.Value{x}, attrs...), nil
	}
	in := []*onnx.Value{x, nil, nil}
	for i, v := range []float64{b.lo, b.hi} {
		if math.IsInf(v, 2*i-1) {
			continue
		}
		t, err := onnx.FromFloat64s([]string{"min", "max"}[i], d, []int64{}, []float64{v})
		if err != nil {
			return nil, err
		}
		if back, err := t.Float64s(); err != nil || back[0] != v {
			return nil, rewrite.Decline("%v does not hold the bound %v", d, v)
		}
		in[1+i] = p.Const(t)
	}
	return p.Add("Clip", in), nil
}

// clipChain: two bounds in a row are one.
var clipChain = rewrite.Rule{
	Name: "clip-chain", Doc: "makes one Clip or Relu of two in a row",
	Pattern: "outer=Clip|Relu(inner=Clip|Relu(x, ?l1, ?h1), ?l2, ?h2)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		inner, outer := m.Node("inner"), m.Node("outer")
		if inner.Is("Relu") && outer.Is("Relu") {
			p.Swap(m.Root.Output(0), inner.Output(0))
			return nil
		}
		if err := soleUse(inner); err != nil {
			return err
		}
		a, err := intervalOf(m, inner)
		if err != nil {
			return err
		}
		b, err := intervalOf(m, outer)
		if err != nil {
			return err
		}
		out, err := addClip(m, p, m.Value("x"), a.then(b))
		if err != nil {
			return err
		}
		p.Swap(m.Root.Output(0), out)
		return nil
	},
}

// minMax: a lower bound and an upper one, in whatever order and by whatever
// operators, are one Clip.
var minMax = rewrite.Rule{
	Name: "min-max", Doc: "turns Min and Max with constants, in a row or beside Relu and Clip, into Clip",
	Pattern: "outer=Max|Min(inner=Max|Min(x, c1), c2); outer=Max|Min(inner=Relu|Clip(x, ...), c2); outer=Relu|Clip(inner=Max|Min(x, c1), ...)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		inner, outer, x, c1 := m.Node("inner"), m.Node("outer"), m.Value("x"), m.Value("c1")
		if x.Constant() != nil && c1 != nil {
			x, c1 = c1, x
		}
		if inner.Op == outer.Op {
			return rewrite.Decline("both are %s", inner.Op)
		}
		if err := soleUse(inner); err != nil {
			return err
		}
		first, err := boundOf(m, inner, x, c1)
		if err != nil {
			return err
		}
		second, err := boundOf(m, outer, x, m.Value("c2"))
		if err != nil {
			return err
		}
		if m.Opset() < 11 && m.Facts.DType(x) == onnx.Double {
			return rewrite.Decline("Clip has float32 bounds at opset %d", m.Opset())
		}
		if inner.Is("Max") || inner.Is("Min") {
			if b := (interval{max(first.lo, second.lo), min(first.hi, second.hi)}); !(b.lo <= b.hi) {
				return rewrite.Decline("the bounds are %v and %v", b.lo, b.hi)
			}
		}
		out, err := addClip(m, p, x, first.then(second))
		if err != nil {
			return err
		}
		p.Swap(m.Root.Output(0), out)
		return nil
	},
}

// boundOf is [intervalOf], also of Max and Min of x with the constant c.
func boundOf(m *rewrite.Match, n *onnx.Node, x, c *onnx.Value) (interval, error) {
	b := interval{math.Inf(-1), math.Inf(1)}
	if !n.Is("Max") && !n.Is("Min") {
		return intervalOf(m, n)
	}
	v, t, ok := scalarConst(c)
	if !ok {
		return b, rewrite.Decline("the bounds are not constants of one element")
	}
	if s := m.Facts.Shape(x); !rankAtMost(t.Shape, s) {
		return b, rewrite.Decline("the bound of shape %v may add axes to %v", t.Shape, s)
	}
	if n.Is("Max") {
		b.lo = v
	} else {
		b.hi = v
	}
	return b, nil
}

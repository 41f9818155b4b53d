package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/algebra"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// orEqual returns the rule for "less or equal" and "greater or equal", which the
// standard has since opset 12.
func orEqual(name, strict, op string) rewrite.Rule {
	return rewrite.Rule{
		Name: name, Doc: "makes " + op + " of " + strict + " and Equal of the same values",
		Pattern: "Or(c=" + strict + "(a, b), e=Equal(c1, c2))",
		Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			a, b, c1, c2 := m.Value("a"), m.Value("b"), m.Value("c1"), m.Value("c2")
			switch {
			case !(a == c1 && b == c2 || a == c2 && b == c1):
				return rewrite.Decline("other values are equal than are compared")
			case m.Opset() < 12:
				return rewrite.Decline("%s needs opset 12", op)
			}
			p.Swap(m.Root.Output(0), p.Add(op, []*onnx.Value{a, b}))
			return nil
		},
	}
}

var (
	lessOrEqual    = orEqual("less-or-equal", "Less", "LessOrEqual")
	greaterOrEqual = orEqual("greater-or-equal", "Greater", "GreaterOrEqual")
)

// whereClip returns the rule that makes Clip with one bound of a choice: the
// bound where the value lies beyond it.
func whereClip(name, pattern string, upper bool) rewrite.Rule {
	return rewrite.Rule{
		Name: name, Doc: "turns a choice between a value and its bound into Clip", Pattern: pattern,
		Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			x, b := m.Value("x"), m.Value("b")
			d := m.Facts.DType(x)
			switch s := m.Facts.Shape(b); {
			case m.Opset() < 11 || d.IsInt() && m.Opset() < 12:
				return rewrite.Decline("Clip of opset %d does not take %v or computed bounds", m.Opset(), d)
			case s == nil || len(s) > 0:
				return rewrite.Decline("the bound has shape %v, not that of one number", s)
			case b.Constant() == nil && x.Constant() != nil:
				return rewrite.Decline("it is the bound that varies")
			}
			in := []*onnx.Value{x, b}
			if upper {
				in = []*onnx.Value{x, nil, b}
			}
			p.Swap(m.Root.Output(0), p.Add("Clip", in))
			return nil
		},
	}
}

var (
	whereLower = whereClip("where-lower", "Where(Less(x, b), b, x); Where(Greater(b, x), b, x)", false)
	whereUpper = whereClip("where-upper", "Where(Less(b, x), b, x); Where(Greater(x, b), b, x)", true)
)

// clipBounds: a lower and then an upper bound are what one Clip has, whatever they are.
var clipBounds = rewrite.Rule{
	Name: "clip-bounds", Doc: "makes one Clip of one with a lower bound and a second with an upper bound",
	Pattern: "Clip(inner=Clip(x, lo), ?none, hi)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		if m.Value("none") != nil {
			return rewrite.Decline("%v has a lower bound too", m.Root)
		}
		if err := soleUse(m.Node("inner")); err != nil {
			return err
		}
		p.Swap(m.Root.Output(0), p.Add("Clip", []*onnx.Value{m.Value("x"), m.Value("lo"), m.Value("hi")}))
		return nil
	},
}

// whereNaN: what is no number where x is none needs no choice for that.
var whereNaN = rewrite.Rule{
	Name: "where-nan", Doc: "takes away a choice for what is no number, where either side is none then",
	Pattern: "Where(c, a, b)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		kept, other := m.Value("b"), m.Value("a")
		x, when := numberTest(m.Value("c"))
		if x == nil {
			return rewrite.ErrNotHere
		}
		if !when {
			kept, other = other, kept
		}
		r := &algebra.Reader{Facts: m.Facts, Stop: []*onnx.Value{x}}
		switch {
		case !algebra.Undefined(r.Of(kept), x) || !algebra.Undefined(r.Of(other), x):
			return rewrite.Decline("a side of the choice may be a number where %q is none", x.Name())
		case !m.Facts.Shape(kept).Equal(m.Facts.Shape(m.Root.Output(0))):
			return rewrite.Decline("the shape may go from %v to %v", m.Facts.Shape(kept), m.Facts.Shape(m.Root.Output(0)))
		}
		p.Swap(m.Root.Output(0), kept)
		return nil
	},
}

// numberTest returns the value that a condition asks whether it is a number, and
// whether the condition holds where it is none; nil where it asks something else.
func numberTest(cond *onnx.Value) (x *onnx.Value, when bool) {
	when = true
	if n := producerOf(cond, "Not"); n != nil {
		cond, when = n.Input(0), false
	}
	if n := producerOf(cond, "IsNaN"); n != nil {
		return n.Input(0), when
	}
	if n := producerOf(cond, "Equal"); n != nil && n.Input(0) == n.Input(1) {
		return n.Input(0), !when
	}
	return nil, false
}

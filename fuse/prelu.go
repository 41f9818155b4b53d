package fuse

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/algebra"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// prelu: slope·x below 0, x above, with a slope that broadcasts to x (He and
// others, arXiv:1502.01852).
func prelu(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: "prelu", Doc: "recognises PRelu in a choice by sign, or by bounds",
		Pattern: "Where|Add|Sub|Sum(...)",
		Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			region := formula{of: linear}.reach().upstream(m.Root)
			if !isFloat(m.Facts.DType(m.Root.Output(0))) || !slices.ContainsFunc(region, func(n *onnx.Node) bool { return slices.ContainsFunc(signed, n.Is) }) {
				return rewrite.ErrNotHere
			}
			for _, x := range slices.Backward(variables(region)) {
				s, ok := slopeOf(m, region, x)
				if !ok {
					continue
				}
				if err := s.fits(t, m, x); err != nil {
					return err
				}
				slope, err := s.value(p)
				if err != nil {
					return err
				}
				p.Swap(m.Root.Output(0), p.Add("PRelu", []*onnx.Value{x, slope}))
				return nil
			}
			if !m.Root.Is("Where") {
				return rewrite.ErrNotHere
			}
			return rewrite.Decline("it computes something else")
		},
	}
}

// slope is what x is multiplied by below 0: a value times a number.
type slope struct {
	r      *algebra.Reader
	v      *onnx.Value
	factor float64
}

// slopeOf reads the root of a match as x above 0 and a multiple of x below, by a
// value of the region.
func slopeOf(m *rewrite.Match, region []*onnx.Node, x *onnx.Value) (slope, bool) {
	root, tol := m.Root.Output(0), tolerance(m.Facts.DType(m.Root.Output(0)))
	for _, v := range multipliers(region) {
		if v == x {
			continue
		}
		r := &algebra.Reader{Facts: m.Facts, Stop: []*onnx.Value{x, v}}
		h, ok := halvesOf(r.Of(root), algebra.Var(x))
		if !ok || len(h.below) != 1 || !algebra.Close(h.above, algebra.Var(x), tol) {
			continue
		}
		c := h.below[0].C
		if algebra.Close(h.below, algebra.Scale(c, algebra.Mul(algebra.Var(x), algebra.Var(v))), 0) {
			return slope{r, v, c}, true
		}
	}
	return slope{}, false
}

// multipliers returns the factors of the products of a region, but for single
// numbers, which LeakyRelu has.
func multipliers(region []*onnx.Node) []*onnx.Value {
	var out []*onnx.Value
	for _, n := range region {
		if !n.Is("Mul") {
			continue
		}
		for _, v := range n.Inputs() {
			if t := v.Constant(); t != nil {
				if _, number := onlyElement(t); number {
					continue
				}
			}
			if !slices.Contains(out, v) {
				out = append(out, v)
			}
		}
	}
	return out
}

// fits declines where PRelu does not do what is written.
func (s slope) fits(t *Target, m *rewrite.Match, x *onnx.Value) error {
	of, to := m.Facts.Shape(s.v), m.Facts.Shape(x)
	switch {
	case m.Opset() < 9:
		return rewrite.Decline("PRelu of opset %d has slopes by channel only", m.Opset())
	case m.Facts.DType(x) == onnx.BFloat16 && m.Opset() < bfloat16Since["PRelu"]:
		return rewrite.Decline("PRelu takes bfloat16 from opset %d on", bfloat16Since["PRelu"])
	case !spreadsTo(of, to):
		return rewrite.Decline("the slope of shape %v may not broadcast to %v", of, to)
	case s.factor != 1 && s.v.Constant() == nil:
		return rewrite.Decline("the slope would have to be multiplied by %v first", s.factor)
	}
	if err := t.offer(m, "", "PRelu", m.Facts.DType(x)); err != nil {
		return err
	}
	return replaceable(m, s.r, x)
}

// value returns the slope with its number multiplied in.
func (s slope) value(p *rewrite.Patch) (*onnx.Value, error) {
	if s.factor == 1 {
		return s.v, nil
	}
	t := s.v.Constant()
	w, err := t.Float64s()
	if err != nil {
		return nil, err
	}
	for i := range w {
		w[i] *= s.factor
	}
	out, err := floatTensor(s.v.Name(), t.DType, t.Shape, w)
	if err != nil {
		return nil, err
	}
	return p.Const(out), nil
}

// spreadsTo reports whether a value of shape s certainly broadcasts to shape to.
func spreadsTo(s, to onnx.Shape) bool {
	if s == nil || to == nil || len(s) > len(to) {
		return false
	}
	for i, d := range s {
		if one := d.Known() && d.Value == 1; !one && !d.Same(to[len(to)-len(s)+i]) {
			return false
		}
	}
	return true
}

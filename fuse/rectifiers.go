package fuse

import (
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/algebra"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// halves is a function of x as it is below 0 and above. At 0 it is 0, and it is
// no number where x is none. Infinities apart, of which x − |x| makes no number,
// that tells all about it, however it is written: as a choice, by bounds, by Abs.
type halves struct{ below, above algebra.Poly }

// halvesOf reads e as such a function.
func halvesOf(e, x algebra.Poly) (h halves, ok bool) {
	v, _, ok := x.Single()
	if !ok || !algebra.Undefined(e, v) {
		return h, false
	}
	if h.below, ok = algebra.In(e, v, algebra.Below); !ok {
		return h, false
	}
	if h.above, ok = algebra.In(e, v, algebra.Above); !ok {
		return h, false
	}
	at, ok := algebra.In(e, v, algebra.Zero)
	return h, ok && len(at) == 0
}

// growth reads p as factor·(exp(rate·x) − 1).
func growth(p, x algebra.Poly, tol float64) (factor, rate float64, ok bool) {
	for _, m := range p {
		if len(m.F) != 1 || m.F[0].Atom.Func != "exp" || m.F[0].Atom.Value != nil {
			continue
		}
		rate, offset, ok := line(m.F[0].Atom.Args[0], x)
		e := algebra.Call("exp", "", algebra.Scale(rate, x))
		if ok && offset == 0 && algebra.Close(p, algebra.Scale(m.C, algebra.Sub(e, algebra.Number(1))), tol) {
			return m.C, rate, true
		}
	}
	return 0, 0, false
}

// one reports whether c is 1 but for the rounding of what it was computed from.
func one(c, tol float64) bool { return math.Abs(c-1) <= min(tol, 1e-3) }

// multiple reads p as slope·x.
func multiple(p, x algebra.Poly) (slope float64, ok bool) {
	slope, offset, ok := line(p, x)
	return slope, ok && offset == 0
}

// exponential returns the reader of a function that is a multiple of x above 0
// and factor·(exp(rate·x) − 1) below.
func exponential(read func(slope, factor, rate, tol float64) ([]setting, bool)) func(e, x algebra.Poly, tol float64) ([]setting, bool) {
	return func(e, x algebra.Poly, tol float64) ([]setting, bool) {
		h, ok := halvesOf(e, x)
		if !ok {
			return nil, false
		}
		slope, ok := multiple(h.above, x)
		factor, rate, grows := growth(h.below, x, tol)
		if !ok || !grows {
			return nil, false
		}
		return read(slope, factor, rate, tol)
	}
}

// elu: α·(exp(x) − 1) below 0, x above (Clevert and others, arXiv:1511.07289).
var elu = formula{
	name: "elu", doc: "recognises Elu in a choice by sign, or by bounds",
	roots: "Where", also: "Add|Sub|Sum", inner: []string{"Exp"}, of: growing,
	read: exponential(func(slope, factor, rate, tol float64) ([]setting, bool) {
		return []setting{float("alpha", factor)}, one(slope, tol) && one(rate, 1e-6)
	}),
	emit: standard("Elu"),
}

// celu: α·(exp(x/α) − 1) below 0, x above (Barron, arXiv:1704.07483).
var celu = formula{
	name: "celu", doc: "recognises Celu in Elu of a scaled value, in a choice by sign, or by bounds",
	roots: "Mul|Div|Where", also: "Add|Sub|Sum", inner: []string{"Elu", "Exp"}, of: growing,
	read: exponential(func(slope, factor, rate, tol float64) ([]setting, bool) {
		fits := one(slope, tol) && one(factor*rate, tol) && factor > 0 && !one(rate, 1e-6)
		return []setting{float("alpha", factor)}, fits
	}),
	emit: func(t *Target, m *rewrite.Match, p *rewrite.Patch, x *onnx.Value, attrs []*onnx.Attr) (*onnx.Value, error) {
		if d := m.Facts.DType(x); d != onnx.Float {
			return nil, rewrite.Decline("Celu of opset %d does not take %v", m.Opset(), d)
		}
		return standard("Celu")(t, m, p, x, attrs)
	},
}

// selu: γ·x above 0, γ·α·(exp(x) − 1) below (Klambauer and others, arXiv:1706.02515).
var selu = formula{
	name: "selu", doc: "recognises Selu in a choice by sign, or by bounds, or in a multiple of Elu",
	roots: "Where|Mul", also: "Add|Sub|Sum", inner: []string{"Exp", "Elu"}, of: growing,
	read: exponential(func(slope, factor, rate, tol float64) ([]setting, bool) {
		fits := one(rate, 1e-6) && slope != 1 && slope != 0
		return []setting{float("alpha", factor/slope), float("gamma", slope)}, fits
	}),
	emit: standard("Selu"),
}

// piecewise returns the reader of a function that is x above 0 and a multiple of
// it below.
func piecewise(read func(slope float64) ([]setting, bool)) func(e, x algebra.Poly, tol float64) ([]setting, bool) {
	return func(e, x algebra.Poly, tol float64) ([]setting, bool) {
		h, ok := halvesOf(e, x)
		if !ok || !algebra.Close(h.above, x, min(tol, 1e-3)) {
			return nil, false
		}
		if len(h.below) == 0 {
			return read(0)
		}
		slope, ok := multiple(h.below, x)
		if !ok {
			return nil, false
		}
		return read(slope)
	}
}

// signed are the operators with which functions are written that are something
// else below 0 than above.
var signed = []string{"Where", "Max", "Min", "Relu", "Clip", "Abs"}

// linear are the operators of which such functions are made, growing those of
// which functions with exp are.
var (
	linear  = slices.Concat(rational, signed, []string{"Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Not", "ThresholdedRelu"})
	growing = append([]string{"Exp", "Elu"}, linear...)
)

// relu: x above 0, 0 below.
var relu = formula{
	name: "relu", doc: "recognises Relu in the larger of a value and 0, or in half of the value and its size",
	roots: "Max", also: "Where|Mul|Div|Add|Sub", inner: signed, of: linear,
	read: piecewise(func(slope float64) ([]setting, bool) { return nil, slope == 0 }),
	emit: standard("Relu"),
}

// abs: x above 0, −x below.
var abs = formula{
	name: "abs", doc: "recognises Abs in a choice by sign, or in the larger of a value and its opposite",
	roots: "Max", also: "Where|Add|Sub|Sum", inner: signed, of: linear,
	read: piecewise(func(slope float64) ([]setting, bool) { return nil, slope == -1 }),
	emit: standard("Abs"),
}

// leakyRelu: α·x below 0, x above.
var leakyRelu = formula{
	name: "leakyrelu", doc: "recognises LeakyRelu in a choice by sign, by bounds, or in the larger of a value and a part of it",
	roots: "Where|Max|Min", also: "Add|Sub|Sum|Mul", inner: signed, of: linear,
	read: piecewise(func(slope float64) ([]setting, bool) {
		return []setting{float("alpha", slope)}, slope != 0 && slope != 1 && slope != -1
	}),
	emit: standard("LeakyRelu"),
}

// thresholdedRelu: x above α, else 0.
var thresholdedRelu = formula{
	name: "thresholdedrelu", doc: "recognises ThresholdedRelu in a choice by size",
	roots: "Where", inner: []string{"Where"},
	read: func(e, x algebra.Poly, tol float64) ([]setting, bool) {
		a, c, ok := callOf(e, "where")
		if !ok || c != 1 {
			return nil, false
		}
		cond, _, ok := callOf(a.Args[0], "less")
		if !ok {
			return nil, false
		}
		alpha, ok := cond.Args[0].Const()
		if !ok || !algebra.Close(e, algebra.Where(algebra.Less(algebra.Number(alpha), x), x, nil), tol) {
			return nil, false
		}
		return []setting{float("alpha", alpha)}, true
	},
	emit: standard("ThresholdedRelu"),
}

// shrink: x + bias below −λ, x − bias above λ, else 0.
var shrink = formula{
	name: "shrink", doc: "recognises Shrink in a choice by size",
	roots: "Where", inner: []string{"Where"}, of: append([]string{"Or"}, linear...),
	read: func(e, x algebra.Poly, tol float64) ([]setting, bool) {
		a, c, ok := callOf(e, "where")
		if !ok || c != 1 {
			return nil, false
		}
		for _, bias := range offsets(a, x) {
			lambda, ok := threshold(a.Args[0])
			if !ok || lambda < 0 {
				continue
			}
			n, b := algebra.Number(lambda), algebra.Number(bias)
			low, high := algebra.Less(x, algebra.Scale(-1, n)), algebra.Less(n, x)
			forms := []algebra.Poly{
				algebra.Where(low, algebra.Add(x, b), algebra.Where(high, algebra.Sub(x, b), nil)),
				algebra.Where(high, algebra.Sub(x, b), algebra.Where(low, algebra.Add(x, b), nil)),
			}
			if bias == 0 {
				forms = append(forms, algebra.Where(algebra.Or(low, high), x, nil), algebra.Where(algebra.Less(n, algebra.Call("abs", "", x)), x, nil))
			}
			if closeToAny(e, tol, forms) {
				return []setting{float("lambd", lambda), float("bias", bias)}, true
			}
		}
		return nil, false
	},
	emit: standard("Shrink"),
}

// offsets returns by how much the first choice may shift x, in either direction.
func offsets(a *algebra.Atom, x algebra.Poly) []float64 {
	slope, offset, ok := line(a.Args[1], x)
	if !ok || slope != 1 {
		return nil
	}
	return []float64{offset, -offset}
}

// threshold returns the size of the number in a comparison, or in the first of two.
func threshold(cond algebra.Poly) (float64, bool) {
	if or, _, ok := callOf(cond, "or"); ok {
		return threshold(or.Args[0])
	}
	less, _, ok := callOf(cond, "less")
	if !ok {
		return 0, false
	}
	for _, arg := range less.Args {
		if c, ok := arg.Const(); ok {
			return math.Abs(c), true
		}
	}
	return 0, false
}

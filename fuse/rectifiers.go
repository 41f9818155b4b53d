package fuse

import (
	"math"

	"github.com/lapidary-ml/lapidary/internal/algebra"
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// negative returns the choice of a where x is below 0, else of b, in the ways in
// which it is written. Where x is 0 both are equal, or the form is left out.
func negative(x, a, b algebra.Poly, equalAtZero bool) []algebra.Poly {
	out := []algebra.Poly{algebra.Where(algebra.Less(x, nil), a, b)}
	if equalAtZero {
		out = append(out, algebra.Where(algebra.Less(nil, x), b, a),
			algebra.Where(algebra.Call("notgreater", "", x, nil), a, b), algebra.Where(algebra.Call("notgreater", "", nil, x), b, a))
	}
	return out
}

func closeToAny(e algebra.Poly, tol float64, forms []algebra.Poly) bool {
	for _, f := range forms {
		if algebra.Close(e, f, tol) {
			return true
		}
	}
	return false
}

// growth returns α·(exp(x) − 1).
func growth(x algebra.Poly, alpha float64) algebra.Poly {
	return algebra.Scale(alpha, algebra.Sub(algebra.Call("exp", "", x), algebra.Number(1)))
}

// expFactor returns the number before exp in the terms of a choice, where there is one.
func expFactor(e algebra.Poly) (float64, bool) {
	a, c, ok := callOf(e, "where")
	if !ok {
		return 0, false
	}
	for _, arg := range a.Args[1:] {
		for _, m := range arg {
			if len(m.F) == 1 && m.F[0].P == 1 && m.F[0].Atom.Func == "exp" && m.F[0].Atom.Value == nil {
				return c * m.C, true
			}
		}
	}
	return 0, false
}

// elu: α·(exp(x) − 1) below 0, x above (Clevert and others, arXiv:1511.07289).
var elu = formula{
	name: "elu", doc: "recognises Elu in a choice by sign",
	roots: "Where", inner: []string{"Exp"},
	read: func(e, x algebra.Poly, tol float64) ([]*onnx.Attr, bool) {
		alpha, ok := expFactor(e)
		if !ok || !closeToAny(e, tol, negative(x, growth(x, alpha), x, true)) {
			return nil, false
		}
		return []*onnx.Attr{onnx.FloatAttr("alpha", float32(alpha))}, true
	},
	emit: standard("Elu"),
}

// celu: α·(exp(x/α) − 1) below 0, x above (Barron, arXiv:1704.07483).
var celu = formula{
	name: "celu", doc: "recognises Celu in Elu of a scaled value",
	roots: "Mul|Where", inner: []string{"Elu", "Exp"},
	read: func(e, x algebra.Poly, tol float64) ([]*onnx.Attr, bool) {
		alpha, ok := expFactor(e)
		if !ok || alpha == 0 || alpha == 1 {
			return nil, false
		}
		u := algebra.Scale(1/alpha, x)
		var forms []algebra.Poly
		for _, f := range negative(u, growth(u, 1), u, true) {
			forms = append(forms, algebra.Scale(alpha, f))
		}
		if !closeToAny(e, tol, append(forms, negative(x, growth(u, alpha), x, true)...)) {
			return nil, false
		}
		return []*onnx.Attr{onnx.FloatAttr("alpha", float32(alpha))}, true
	},
	emit: standard("Celu"),
}

// selu: γ·x above 0, γ·α·(exp(x) − 1) below (Klambauer and others, arXiv:1706.02515).
var selu = formula{
	name: "selu", doc: "recognises Selu in a choice by sign",
	roots: "Where|Mul", inner: []string{"Exp", "Elu"},
	read: func(e, x algebra.Poly, tol float64) ([]*onnx.Attr, bool) {
		both, ok := expFactor(e)
		a, c, called := callOf(e, "where")
		if !ok || !called {
			return nil, false
		}
		for _, arg := range a.Args[1:] {
			slope, offset, ok := line(arg, x)
			gamma := c * slope
			if !ok || offset != 0 || gamma == 1 || gamma == 0 {
				continue
			}
			var forms []algebra.Poly
			for _, f := range negative(x, growth(x, both/c), algebra.Scale(slope, x), true) {
				forms = append(forms, algebra.Scale(c, f))
			}
			if closeToAny(e, tol, forms) {
				return []*onnx.Attr{onnx.FloatAttr("alpha", float32(both/gamma)), onnx.FloatAttr("gamma", float32(gamma))}, true
			}
		}
		return nil, false
	},
	emit: standard("Selu"),
}

// leakyRelu: α·x below 0, x above.
var leakyRelu = formula{
	name: "leakyrelu", doc: "recognises LeakyRelu in a choice by sign, or in the larger of a value and a part of it",
	roots: "Where|Max", inner: []string{"Where", "Max"},
	read: func(e, x algebra.Poly, tol float64) ([]*onnx.Attr, bool) {
		for _, name := range []string{"where", "larger"} {
			a, c, ok := callOf(e, name)
			if !ok || c != 1 {
				continue
			}
			for _, arg := range a.Args {
				alpha, offset, ok := line(arg, x)
				if !ok || offset != 0 || alpha == 1 {
					continue
				}
				forms := negative(x, algebra.Scale(alpha, x), x, true)
				if alpha > 0 && alpha < 1 {
					forms = append(forms, algebra.Larger(x, algebra.Scale(alpha, x)))
				}
				if closeToAny(e, tol, forms) {
					return []*onnx.Attr{onnx.FloatAttr("alpha", float32(alpha))}, true
				}
			}
		}
		return nil, false
	},
	emit: standard("LeakyRelu"),
}

// thresholdedRelu: x above α, else 0.
var thresholdedRelu = formula{
	name: "thresholdedrelu", doc: "recognises ThresholdedRelu in a choice by size",
	roots: "Where", inner: []string{"Where"},
	read: func(e, x algebra.Poly, tol float64) ([]*onnx.Attr, bool) {
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
		return []*onnx.Attr{onnx.FloatAttr("alpha", float32(alpha))}, true
	},
	emit: standard("ThresholdedRelu"),
}

// shrink: x + bias below −λ, x − bias above λ, else 0.
var shrink = formula{
	name: "shrink", doc: "recognises Shrink in a choice by size",
	roots: "Where", inner: []string{"Where"},
	read: func(e, x algebra.Poly, tol float64) ([]*onnx.Attr, bool) {
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
			if closeToAny(e, tol, forms) {
				return []*onnx.Attr{onnx.FloatAttr("lambd", float32(lambda)), onnx.FloatAttr("bias", float32(bias))}, true
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

// threshold returns the size of the number in a comparison.
func threshold(cond algebra.Poly) (float64, bool) {
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

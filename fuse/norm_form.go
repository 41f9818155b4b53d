package fuse

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/algebra"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// normForm is a normalization read from arithmetic: (x − mean)/√(variance + ε)
// over some axes, or without the mean, times a scale, plus a shift.
type normForm struct {
	r       *algebra.Reader
	x       *onnx.Value
	axes    []int64 // of x, ascending
	centred bool    // the mean is taken away
	epsilon float64
	scale   *onnx.Value // nil: none
	factor  float64     // times a number
	shift   *onnx.Value // nil: none

	mean, inverse algebra.Poly // the mean, and one over the root
}

// normOf reads root as a normalization of any value of a region, or declines.
func normOf(m *rewrite.Match, root *onnx.Value, region []*onnx.Node) (*normForm, error) {
	type key struct{ root *onnx.Value }
	type reading struct {
		f   *normForm
		err error
	}
	r := rewrite.Reading(m, key{root}, func() reading {
		f, err := readNormOf(m, root, region)
		return reading{f, err}
	})
	return r.f, r.err
}

// readNormOf is normOf without its memory. A normalization that takes a mean away
// is preferred: without it, it is one of the difference.
func readNormOf(m *rewrite.Match, root *onnx.Value, region []*onnx.Node) (*normForm, error) {
	tol := tolerance(m.Facts.DType(root))
	var plain *normForm
	bounded := false
	for _, x := range averaged(region) {
		if m.Facts.Shape(x) == nil || !isFloat(m.Facts.DType(x)) {
			continue
		}
		r := &algebra.Reader{Facts: m.Facts, Stop: []*onnx.Value{x}, Means: true}
		e := r.Of(root)
		bounded = bounded || overBoundedNorm(e)
		for _, k := range inverseRoots(e) {
			f := readNorm(r, e, k, x, tol)
			if f == nil {
				continue
			}
			if f.centred {
				return f, nil
			}
			if plain == nil {
				plain = f
			}
		}
	}
	switch {
	case plain == nil && bounded:
		return nil, rewrite.Decline("it divides by a norm that is kept from 0, and no operator does: RMSNormalization adds to the square, and LpNormalization gives 0 where the norm is 0")
	case plain == nil:
		return nil, rewrite.Decline("it computes something else")
	}
	return plain, nil
}

// overBoundedNorm reports whether e has one over the root of a mean that a bound
// or an addend keeps from 0.
func overBoundedNorm(e algebra.Poly) bool {
	root := func(p algebra.Poly) bool {
		return slices.ContainsFunc(p, func(m algebra.Mono) bool {
			return len(m.F) == 1 && m.F[0].P == 0.5 && m.F[0].Atom.Func == "mean"
		})
	}
	for _, m := range e {
		for _, f := range m.F {
			if f.P == -1 && f.Atom.Value == nil && (f.Atom.Func == "" || f.Atom.Func == "clip") && root(f.Atom.Args[0]) {
				return true
			}
		}
	}
	return false
}

// averaged returns the values of which a region takes the mean, or the mean of
// the square.
func averaged(region []*onnx.Node) []*onnx.Value {
	var out []*onnx.Value
	add := func(v *onnx.Value) {
		if v != nil && v.Constant() == nil && !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	for _, n := range region {
		if !isMean(n) {
			continue
		}
		v := n.Input(0)
		if s := v.Producer(); s != nil && (s.Is("Mul") || s.Is("Pow")) {
			add(s.Input(0))
		}
		add(v)
	}
	return out
}

// isMean reports whether n may be a mean: one, a sum that is divided, or the
// square of a norm that is.
func isMean(n *onnx.Node) bool {
	return n.Is("ReduceMean") || n.Is("ReduceSum") || n.Is("ReduceSumSquare") || n.Is("ReduceL2")
}

// inverseRoots returns the factors of e that are one over a root.
func inverseRoots(e algebra.Poly) []algebra.Factor {
	var out []algebra.Factor
	for _, m := range e {
		for _, f := range m.F {
			if f.P == -0.5 && !slices.ContainsFunc(out, func(g algebra.Factor) bool { return g.Atom == f.Atom }) {
				out = append(out, f)
			}
		}
	}
	return out
}

// readNorm reads e as a normalization of x by the factor k, nil where it is none.
func readNorm(r *algebra.Reader, e algebra.Poly, k algebra.Factor, x *onnx.Value, tol float64) *normForm {
	variance := algebra.Poly{{C: 1, F: []algebra.Factor{{Atom: k.Atom, P: 1}}}}
	if k.Atom.Func == "" && k.Atom.Value == nil {
		variance = notBelowZero(k.Atom.Args[0])
	}
	f := &normForm{r: r, x: x, inverse: algebra.Poly{{C: 1, F: []algebra.Factor{k}}}}
	for _, m := range variance {
		if len(m.F) == 0 {
			f.epsilon = m.C
		}
	}
	if f.axes = meanAxes(variance); f.axes == nil || f.epsilon < 0 {
		return nil
	}
	if count, ok := r.Count(x, f.axes); ok { // a sum divided by one element less is not a mean
		tol = min(tol, max(0.4/float64(count), 4e-7))
	}
	v := algebra.Var(x)
	f.mean = algebra.Reduce("mean", v, f.axes)
	square := algebra.Reduce("mean", algebra.Pow(v, 2), f.axes)
	eps := algebra.Number(f.epsilon)
	centred := algebra.Sub(v, f.mean)
	around := algebra.Reduce("mean", algebra.Pow(centred, 2), f.axes)
	apart := algebra.Sub(square, algebra.Pow(f.mean, 2))
	core := algebra.Mul(v, f.inverse)
	switch {
	case algebra.Close(variance, algebra.Add(around, eps), tol), algebra.Close(variance, algebra.Add(apart, eps), tol):
		f.centred = true
		core = algebra.Mul(centred, f.inverse)
	case !algebra.Close(variance, algebra.Add(square, eps), tol):
		return nil
	}
	if !f.affine(e, core, tol) {
		return nil
	}
	return f
}

// notBelowZero returns p, or what it would be if no term were kept from falling
// below 0: a variance never does, but for rounding.
func notBelowZero(p algebra.Poly) algebra.Poly {
	var out algebra.Poly
	for _, m := range p {
		term := algebra.Poly{m}
		if a, c, ok := callOf(term, "clip"); ok {
			if lo, hi := a.Bounds(); lo == 0 && math.IsInf(hi, 1) {
				term = algebra.Scale(c, a.Args[0])
			}
		}
		out = algebra.Add(out, term)
	}
	return out
}

// meanAxes returns the axes of the first mean in an expression.
func meanAxes(p algebra.Poly) []int64 {
	for _, m := range p {
		for _, f := range m.F {
			if f.Atom.Func != "mean" || f.Atom.Value != nil {
				continue
			}
			var out []int64
			for _, s := range strings.Fields(strings.Trim(f.Atom.Attr, "[]")) {
				a, err := strconv.ParseInt(s, 10, 64)
				if err != nil {
					return nil
				}
				out = append(out, a)
			}
			return out
		}
	}
	return nil
}

// affine finds scale and shift such that e is core·scale + shift.
func (f *normForm) affine(e, core algebra.Poly, tol float64) bool {
	var shift algebra.Poly
	f.factor = 0
	for _, m := range e {
		if !slices.ContainsFunc(m.F, func(g algebra.Factor) bool { return g.Atom == f.inverse[0].F[0].Atom }) {
			shift = append(shift, m)
			continue
		}
		if !slices.ContainsFunc(m.F, func(g algebra.Factor) bool { return g.Atom.Value == f.x && g.P == 1 }) {
			continue
		}
		f.factor = m.C
		for _, g := range m.F {
			if g.Atom.Value == f.x || g.Atom == f.inverse[0].F[0].Atom {
				continue
			}
			if f.scale != nil || g.Atom.Value == nil || g.P != 1 {
				return false
			}
			f.scale = g.Atom.Value
		}
	}
	want := algebra.Scale(f.factor, core)
	if f.scale != nil {
		want = algebra.Mul(want, algebra.Var(f.scale))
	}
	if len(shift) > 0 {
		v, c, ok := shift.Single()
		if !ok || c != 1 || v == f.x {
			return false
		}
		f.shift = v
		want = algebra.Add(want, algebra.Var(v))
	}
	return algebra.Close(e, want, tol)
}

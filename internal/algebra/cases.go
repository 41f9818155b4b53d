package algebra

import (
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Case is what is supposed of a variable.
type Case int

// The cases: each number is in one of them.
const (
	Below Case = -1 // it is negative
	Zero  Case = 0
	Above Case = 1 // it is positive
)

// In returns p where x is in case c: bounds, sizes and choices that the case
// decides are gone. It is false where it does not decide one.
func In(p Poly, x *onnx.Value, c Case) (Poly, bool) { return supposed{x, c}.poly(p) }

// supposed is a variable with the case that it is in.
type supposed struct {
	x *onnx.Value
	c Case
}

func (s supposed) poly(p Poly) (Poly, bool) {
	var out Poly
	for _, m := range p {
		q := Number(m.C)
		for _, f := range m.F {
			a, ok := s.atom(f.Atom)
			if !ok || len(a) == 0 && f.P <= 0 {
				return nil, false
			}
			q = Mul(q, Pow(a, f.P))
		}
		out = Add(out, q)
	}
	return out, true
}

func (s supposed) atom(a *Atom) (Poly, bool) {
	if a.Value != nil {
		if a.Value == s.x && s.c == Zero {
			return nil, true
		}
		return Poly{{C: 1, F: []Factor{{a, 1}}}}, true
	}
	if a.Func == "where" {
		return s.choice(a)
	}
	args := make([]Poly, len(a.Args))
	for i, p := range a.Args {
		var ok bool
		if args[i], ok = s.poly(p); !ok {
			return nil, false
		}
	}
	switch a.Func {
	case "":
		return args[0], true
	case "exp":
		if c, ok := args[0].Const(); ok {
			return Number(math.Exp(c)), true
		}
	case "abs":
		sign, ok := s.sign(args[0])
		return Scale(float64(sign), args[0]), ok
	case "larger":
		return s.larger(args[0], args[1])
	case "clip":
		return s.clip(args[0], a)
	}
	return Call(a.Func, a.Attr, args...), true
}

// choice returns the side of a where that its condition takes.
func (s supposed) choice(a *Atom) (Poly, bool) {
	yes, ok := s.holds(a.Args[0])
	switch {
	case !ok:
		return nil, false
	case yes:
		return s.poly(a.Args[1])
	}
	return s.poly(a.Args[2])
}

// holds returns the truth of a condition.
func (s supposed) holds(cond Poly) (yes, ok bool) {
	a, ok := condition(cond)
	if !ok {
		return false, false
	}
	switch a.Func {
	case "not":
		yes, ok = s.holds(a.Args[0])
		return !yes, ok
	case "or":
		l, ok1 := s.holds(a.Args[0])
		r, ok2 := s.holds(a.Args[1])
		return l || r, ok1 && ok2
	}
	l, ok1 := s.poly(a.Args[0])
	r, ok2 := s.poly(a.Args[1])
	if !ok1 || !ok2 {
		return false, false
	}
	sign, ok := s.sign(Sub(r, l))
	return sign > 0 || sign == 0 && a.Func == "notgreater", ok
}

// condition returns what p is of comparisons, their negations and alternatives.
func condition(p Poly) (*Atom, bool) {
	if len(p) != 1 || len(p[0].F) != 1 || p[0].C != 1 || p[0].F[0].P != 1 {
		return nil, false
	}
	a := p[0].F[0].Atom
	return a, a.Value == nil && slices.Contains([]string{"less", "notgreater", "not", "or"}, a.Func)
}

func (s supposed) larger(a, b Poly) (Poly, bool) {
	sign, ok := s.sign(Sub(a, b))
	if sign < 0 {
		return b, ok
	}
	return a, ok
}

func (s supposed) clip(p Poly, a *Atom) (Poly, bool) {
	lo, hi := a.Bounds()
	ok := true
	if !math.IsInf(lo, -1) {
		p, ok = s.larger(p, Number(lo))
	}
	if ok && !math.IsInf(hi, 1) {
		p, ok = s.larger(Scale(-1, p), Number(-hi))
		p = Scale(-1, p)
	}
	return p, ok
}

// sign returns −1, 0 or 1, as p has only values below 0, 0, or above; false where
// it may have others.
func (s supposed) sign(p Poly) (int, bool) {
	if len(p) == 2 && math.Abs(p[0].C+p[1].C) <= 1e-9*math.Abs(p[0].C) {
		for i := range p { // exp(u) − 1 has the sign of u
			if e := p[i].F; len(p[1-i].F) == 0 && len(e) == 1 && e[0].P == 1 && e[0].Atom.Func == "exp" && e[0].Atom.Value == nil {
				sign, ok := s.sign(e[0].Atom.Args[0])
				return sign * direction(p[i].C), ok
			}
		}
	}
	all := 0
	for _, m := range p {
		sign, ok := s.term(m)
		if !ok || all != 0 && sign != all {
			return 0, false
		}
		all = sign
	}
	return all, true
}

func (s supposed) term(m Mono) (int, bool) {
	sign := direction(m.C)
	for _, f := range m.F {
		switch {
		case f.Atom.Value == nil && (f.Atom.Func == "exp" || f.Atom.Func == "sigmoid"):
		case f.Atom.Value == s.x && f.P == math.Trunc(f.P):
			if s.c == Below && math.Mod(f.P, 2) != 0 {
				sign = -sign
			}
		default:
			return 0, false
		}
	}
	return sign, true
}

func direction(c float64) int {
	switch {
	case c < 0:
		return -1
	case c > 0:
		return 1
	}
	return 0
}

// Undefined reports whether p is no number where x is none. It is false too where
// that depends on more than x.
func Undefined(p Poly, x *onnx.Value) bool {
	for _, m := range p {
		for _, f := range m.F {
			if undefined(f.Atom, x) {
				return true
			}
		}
	}
	return false
}

func undefined(a *Atom, x *onnx.Value) bool {
	if a.Value != nil || a.Func != "where" {
		return a.Value == x && x != nil || a.Value == nil && anyUndefined(a.Args, x)
	}
	yes, ok := compared(a.Args[0], x)
	switch {
	case !ok:
		return false
	case yes:
		return Undefined(a.Args[1], x)
	}
	return Undefined(a.Args[2], x)
}

// compared returns the truth of a condition where x is no number: no comparison
// with it holds.
func compared(cond Poly, x *onnx.Value) (yes, ok bool) {
	a, ok := condition(cond)
	switch {
	case !ok:
		return false, false
	case a.Func == "not":
		yes, ok = compared(a.Args[0], x)
		return !yes, ok
	case a.Func == "or":
		l, ok1 := compared(a.Args[0], x)
		r, ok2 := compared(a.Args[1], x)
		return l || r, ok1 && ok2
	}
	return false, anyUndefined(a.Args, x)
}

func anyUndefined(list []Poly, x *onnx.Value) bool {
	for _, p := range list {
		if Undefined(p, x) {
			return true
		}
	}
	return false
}

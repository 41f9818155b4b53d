package algebra

import "slices"

// called returns a function in the form that stands for all of its spellings, where
// it has several: odd and even functions have an argument that begins with a
// positive number.
func called(name string, args []Poly) (Poly, bool) {
	switch name {
	case "erf", "tanh":
		if len(args[0]) > 0 && args[0][0].C < 0 {
			return Scale(-1, Call(name, "", Scale(-1, args[0]))), true
		}
	case "abs":
		if len(args[0]) > 0 && args[0][0].C < 0 {
			return Call(name, "", Scale(-1, args[0])), true
		}
	}
	return nil, false
}

// is reports whether a is a function.
func (a *Atom) is(name string) bool { return a.Value == nil && a.Func == name }

// Softplus returns log(1 + exp(p)).
func Softplus(p Poly) Poly { return Call("log", "", Add(Number(1), Call("exp", "", p))) }

// aboveOne returns u where p is 1 + exp(u): one over that is sigmoid(−u).
func aboveOne(p Poly) (u Poly, ok bool) {
	if len(p) != 2 || p[0].C != 1 || p[1].C != 1 {
		return nil, false
	}
	for i, m := range p {
		if len(p[1-i].F) == 0 && len(m.F) == 1 && m.F[0].P == 1 && m.F[0].Atom.is("exp") {
			return m.F[0].Atom.Args[0], true
		}
	}
	return nil, false
}

// joined puts sigmoid(u) in the place of exp(u)·sigmoid(−u).
func joined(list []Factor) []Factor {
	for i, f := range list {
		if f.P != 1 || !f.Atom.is("sigmoid") {
			continue
		}
		u := Scale(-1, f.Atom.Args[0])
		j := slices.IndexFunc(list, func(g Factor) bool { return g.P == 1 && g.Atom.is("exp") && Close(g.Atom.Args[0], u, 1e-12) })
		if j < 0 {
			continue
		}
		list[i] = Factor{call("sigmoid", "", []Poly{u}), 1}
		return slices.Delete(list, j, j+1)
	}
	return list
}

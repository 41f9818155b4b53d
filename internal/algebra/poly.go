package algebra

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Poly is a sum of monomials in canonical order; none is zero.
type Poly []Mono

// Mono is a number times powers of atoms in canonical order.
type Mono struct {
	C float64
	F []Factor
}

// Factor is an atom to a power.
type Factor struct {
	Atom *Atom
	P    float64
}

// Atom is a value of the graph, or a function of expressions.
type Atom struct {
	Value *onnx.Value // nil for a function
	Func  string      // erf, exp, mean …, or "" for an expression in parentheses
	Attr  string      // what else the function depends on, such as its axes
	Args  []Poly

	shape uint64 // hash of the structure without numbers, which gives the order
	key   uint64 // hash of the whole, which tells most atoms apart
	size  int    // about how long the written form is, in bytes
}

// maxTerms bounds the monomials of an expression; what would have more is not
// multiplied out.
const maxTerms = 16

// Number returns the expression c.
func Number(c float64) Poly {
	if c == 0 {
		return nil
	}
	return Poly{{C: c}}
}

// Var returns the expression that is a value.
func Var(v *onnx.Value) Poly {
	id := hashText(hashStart, v.Name())
	return Poly{{C: 1, F: []Factor{{&Atom{Value: v, shape: id, key: id, size: 12}, 1}}}}
}

// Call returns a function of expressions.
func Call(name, attr string, args ...Poly) Poly {
	if p, ok := called(name, args); ok {
		return p
	}
	return Poly{{C: 1, F: []Factor{{call(name, attr, args), 1}}}}
}

func call(name, attr string, args []Poly) *Atom {
	id := hashText(hashText(hashStart, name), attr)
	a := &Atom{Func: name, Attr: attr, Args: args, shape: id, key: id, size: len(name) + len(attr) + 4}
	for _, p := range args {
		a.shape, a.key, a.size = hash(a.shape, p.shape()), hash(a.key, p.key()), a.size+p.size()+1
	}
	return a
}

// String writes the expression.
func (p Poly) String() string {
	parts := make([]string, len(p))
	for i, m := range p {
		parts[i] = m.String()
	}
	return strings.Join(parts, "+")
}

// String writes the number and the powers.
func (m Mono) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%.7g", m.C)
	for _, f := range m.F {
		fmt.Fprintf(&b, "·%v^%v", f.Atom, f.P)
	}
	return b.String()
}

// String writes a name, or a function with its arguments.
func (a *Atom) String() string {
	if a.Value != nil {
		return a.Value.Name()
	}
	return fmt.Sprintf("%s[%s]%v", a.Func, a.Attr, a.Args)
}

// shape is a hash of the expression without its numbers.
func (p Poly) shape() uint64 {
	h := hash(hashStart, uint64(len(p)))
	for _, m := range p {
		h = hash(h, m.shape())
	}
	return h
}

// key is a hash of the expression; expressions that are the same have the same.
func (p Poly) key() uint64 {
	h := hash(hashStart, uint64(len(p)))
	for _, m := range p {
		h = hash(hash(h, rounded(m.C)), m.key())
	}
	return h
}

// size is about the length of the written form.
func (p Poly) size() int {
	n := 0
	for _, m := range p {
		for _, f := range m.F {
			n += f.Atom.size + 4
		}
	}
	return n
}

func (m Mono) shape() uint64 {
	h := uint64(hashStart)
	for _, f := range m.F {
		h = hash(hash(h, f.Atom.shape), math.Float64bits(f.P))
	}
	return h
}

// key is a hash of the powers, without the number before them.
func (m Mono) key() uint64 {
	h := uint64(hashStart)
	for _, f := range m.F {
		h = hash(hash(h, f.Atom.key), math.Float64bits(f.P))
	}
	return h
}

// sameAtom reports whether two atoms are one, up to the seventh digit of their
// numbers.
func sameAtom(a, b *Atom) bool {
	return a == b || a.key == b.key && closeAtoms(a, b, 1e-6)
}

// samePowers reports whether two monomials differ in their number at most.
func samePowers(a, b Mono) bool {
	return slices.EqualFunc(a.F, b.F, func(f, g Factor) bool { return f.P == g.P && sameAtom(f.Atom, g.Atom) })
}

// Const returns the number that p is.
func (p Poly) Const() (float64, bool) {
	switch {
	case len(p) == 0:
		return 0, true
	case len(p) == 1 && len(p[0].F) == 0:
		return p[0].C, true
	}
	return 0, false
}

// Single returns the value that p is times a number.
func (p Poly) Single() (v *onnx.Value, c float64, ok bool) {
	if len(p) == 1 && len(p[0].F) == 1 && p[0].F[0].P == 1 && p[0].F[0].Atom.Value != nil {
		return p[0].F[0].Atom.Value, p[0].C, true
	}
	return nil, 0, false
}

// Scale returns c·p.
func Scale(c float64, p Poly) Poly {
	if c == 0 {
		return nil
	}
	out := slices.Clone(p)
	for i := range out {
		out[i].C *= c
	}
	return out
}

// Add returns the sum.
func Add(list ...Poly) Poly {
	var out Poly
	for _, p := range list {
		out = append(out, p...)
	}
	return canonical(out)
}

// Sub returns a − b.
func Sub(a, b Poly) Poly { return Add(a, Scale(-1, b)) }

// canonical sorts monomials and joins those that differ in their number only.
// It takes p over.
func canonical(p Poly) Poly {
	type hashed struct {
		Mono
		shape, key uint64
	}
	var few [maxTerms]hashed
	list := few[:0]
	for _, m := range p {
		list = append(list, hashed{m, m.shape(), m.key()})
	}
	slices.SortStableFunc(list, func(a, b hashed) int {
		return cmp.Or(cmp.Compare(a.shape, b.shape), cmp.Compare(a.key, b.key))
	})
	out := p[:0]
	for _, m := range list {
		n := len(out)
		if n == 0 || !samePowers(out[n-1], m.Mono) {
			out = append(out, m.Mono)
			continue
		}
		if out[n-1].C += m.C; math.Abs(out[n-1].C) < 1e-12*math.Abs(m.C) {
			out = out[:n-1]
		}
	}
	return out
}

// Mul returns the product, multiplied out where that is not too long.
func Mul(a, b Poly) Poly {
	if len(a)*len(b) > maxTerms {
		a, b = atom(a), atom(b)
	}
	out := make(Poly, 0, len(a)*len(b))
	for _, x := range a {
		for _, y := range b {
			out = append(out, times(x, y))
		}
	}
	return canonical(out)
}

// atom puts an expression of several terms in parentheses.
func atom(p Poly) Poly {
	if len(p) < 2 {
		return p
	}
	return Call("", "", p)
}

// times multiplies monomials. Powers of one atom are joined where they have one
// sign: a power and its inverse together say that the atom is not 0.
func times(a, b Mono) Mono {
	out := Mono{C: a.C * b.C, F: slices.Clone(a.F)}
	for _, f := range b.F {
		i := slices.IndexFunc(out.F, func(g Factor) bool { return (g.P > 0) == (f.P > 0) && sameAtom(g.Atom, f.Atom) })
		if i < 0 {
			out.F = append(out.F, f)
			continue
		}
		out.F[i].P += f.P
	}
	out.F = joined(out.F)
	slices.SortStableFunc(out.F, func(x, y Factor) int {
		return cmp.Or(cmp.Compare(x.Atom.shape, y.Atom.shape), cmp.Compare(x.Atom.key, y.Atom.key))
	})
	return out
}

// Pow returns p to the power e.
func Pow(p Poly, e float64) Poly {
	c, number := p.Const()
	whole := e == math.Trunc(e)
	u, logistic := aboveOne(p)
	switch {
	case e == 1:
		return p
	case e == -1 && logistic:
		return Call("sigmoid", "", Scale(-1, u))
	case number && (c > 0 || c < 0 && whole):
		return Number(math.Pow(c, e))
	case (e == 2 || e == 3) && len(p) <= 3:
		out := p
		for range int(e) - 1 {
			out = Mul(out, p)
		}
		return out
	case len(p) == 1 && (whole || rootable(p[0])):
		m := Mono{C: math.Pow(p[0].C, e), F: slices.Clone(p[0].F)}
		for i := range m.F {
			m.F[i].P *= e
		}
		return Poly{m}
	}
	return Poly{{C: 1, F: []Factor{{call("", "", []Poly{p}), e}}}}
}

// rootable reports whether a root of the monomial is the product of the roots:
// its number is positive, and it has one atom, to the power of 1 or −1.
func rootable(m Mono) bool {
	return m.C > 0 && (len(m.F) == 0 || len(m.F) == 1 && math.Abs(m.F[0].P) == 1)
}

// Close reports whether two expressions are the same up to a relative
// difference of tol in their numbers.
func Close(a, b Poly, tol float64) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !near(a[i].C, b[i].C, tol) || len(a[i].F) != len(b[i].F) {
			return false
		}
		for j, f := range a[i].F {
			g := b[i].F[j]
			if f.P != g.P || !closeAtoms(f.Atom, g.Atom, tol) {
				return false
			}
		}
	}
	return true
}

func closeAtoms(a, b *Atom, tol float64) bool {
	if a == b {
		return true
	}
	if a.Value != b.Value || a.Func != b.Func || a.Attr != b.Attr || len(a.Args) != len(b.Args) {
		return false
	}
	for i := range a.Args {
		if !Close(a.Args[i], b.Args[i], tol) {
			return false
		}
	}
	return true
}

func near(a, b, tol float64) bool {
	return a == b || math.Abs(a-b) <= tol*math.Max(math.Abs(a), math.Abs(b))
}

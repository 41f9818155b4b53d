package algebra

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
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

	shape string // the structure without numbers, which gives the order
	key   string // the whole, which tells atoms apart
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
	id := fmt.Sprintf("%p", v)
	return Poly{{C: 1, F: []Factor{{&Atom{Value: v, shape: id, key: id}, 1}}}}
}

// Call returns a function of expressions.
func Call(name, attr string, args ...Poly) Poly {
	return Poly{{C: 1, F: []Factor{{call(name, attr, args), 1}}}}
}

func call(name, attr string, args []Poly) *Atom {
	a := &Atom{Func: name, Attr: attr, Args: args}
	var shape, key strings.Builder
	fmt.Fprintf(&shape, "%s[%s](", name, attr)
	fmt.Fprintf(&key, "%s[%s](", name, attr)
	for i, p := range args {
		if i > 0 {
			shape.WriteByte(',')
			key.WriteByte(',')
		}
		shape.WriteString(p.shape())
		key.WriteString(p.String())
	}
	a.shape, a.key = shape.String()+")", key.String()+")"
	return a
}

// String writes the expression with its numbers; equal expressions have equal strings.
func (p Poly) String() string {
	return p.text(func(m Mono) string { return strconv.FormatFloat(m.C, 'g', 7, 64) + m.key() })
}

// shape writes the expression without its numbers.
func (p Poly) shape() string { return p.text(Mono.shape) }

func (p Poly) text(f func(Mono) string) string {
	parts := make([]string, len(p))
	for i, m := range p {
		parts[i] = f(m)
	}
	return strings.Join(parts, "+")
}

// size is about the length of the written form.
func (p Poly) size() int {
	n := 0
	for _, m := range p {
		for _, f := range m.F {
			n += len(f.Atom.key) + 4
		}
	}
	return n
}

func (m Mono) key() string { return m.text(func(a *Atom) string { return a.key }) }

func (m Mono) shape() string { return m.text(func(a *Atom) string { return a.shape }) }

func (m Mono) text(f func(*Atom) string) string {
	var b strings.Builder
	for _, x := range m.F {
		b.WriteString("·")
		b.WriteString(f(x.Atom))
		b.WriteByte('^')
		b.WriteString(strconv.FormatFloat(x.P, 'g', -1, 64))
	}
	return b.String()
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
func canonical(p Poly) Poly {
	type written struct {
		Mono
		shape, key string
	}
	list := make([]written, len(p))
	for i, m := range p {
		list[i] = written{m, m.shape(), m.key()}
	}
	slices.SortStableFunc(list, func(a, b written) int {
		return cmp.Or(strings.Compare(a.shape, b.shape), strings.Compare(a.key, b.key))
	})
	var out Poly
	last := ""
	for _, m := range list {
		if n := len(out); n > 0 && last == m.key {
			out[n-1].C += m.C
			if math.Abs(out[n-1].C) < 1e-12*math.Abs(m.C) {
				out = out[:n-1]
				if last = ""; n > 1 {
					last = out[n-2].key()
				}
			}
			continue
		}
		out, last = append(out, m.Mono), m.key
	}
	return out
}

// Mul returns the product, multiplied out where that is not too long.
func Mul(a, b Poly) Poly {
	if len(a)*len(b) > maxTerms {
		a, b = atom(a), atom(b)
	}
	var out Poly
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
		i := slices.IndexFunc(out.F, func(g Factor) bool { return g.Atom.key == f.Atom.key && (g.P > 0) == (f.P > 0) })
		if i < 0 {
			out.F = append(out.F, f)
			continue
		}
		out.F[i].P += f.P
	}
	slices.SortStableFunc(out.F, func(x, y Factor) int {
		if c := strings.Compare(x.Atom.shape, y.Atom.shape); c != 0 {
			return c
		}
		return strings.Compare(x.Atom.key, y.Atom.key)
	})
	return out
}

// Pow returns p to the power e.
func Pow(p Poly, e float64) Poly {
	c, number := p.Const()
	whole := e == math.Trunc(e)
	switch {
	case e == 1:
		return p
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

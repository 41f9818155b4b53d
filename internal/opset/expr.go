package opset

import (
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

// Limits that keep expressions small; beyond them a size is unknown.
const (
	maxTerms   = 12
	maxFactors = 8
	maxDepth   = 6
)

// expr is an integer: a constant plus a sum of products of atoms. A nil *expr
// is an unknown integer; every operation accepts and may return nil. An expr is
// immutable and canonical: equal sums print alike.
type expr struct {
	k     int64
	terms []term // by key, no zero coefficients
	text  string // canonical form; "" for constants
}

// term is a coefficient times a product of atoms, sorted by name.
type term struct {
	c     int64
	atoms []*atom
	key   string
}

// atomKind says how an atom was made.
type atomKind uint8

const (
	symbolAtom atomKind = iota
	exactAtom           // a/b, known to leave no remainder
	floorAtom           // a/b rounded down
	truncAtom           // a/b rounded toward zero
	maxAtom
	minAtom
)

// atom is a symbol or a function of two expressions.
type atom struct {
	kind  atomKind
	name  string // printed form, unique per atom
	a, b  *expr
	fresh int   // 1 + the highest number of a fresh symbol in it; 0 if none
	least int64 // symbols: the least value assumed
	depth int
}

func constant(k int64) *expr { return &expr{k: k} }

// known returns e's number, if it is one.
func (e *expr) known() (int64, bool) {
	if e == nil || len(e.terms) > 0 {
		return 0, false
	}
	return e.k, true
}

func (e *expr) is(k int64) bool { n, ok := e.known(); return ok && n == k }

// same reports whether two expressions are certainly equal.
func (e *expr) same(f *expr) bool {
	return e != nil && f != nil && e.k == f.k && e.text == f.text
}

// fresh returns 1 + the highest number of a fresh symbol in e, 0 if there is none.
func (e *expr) fresh() int {
	n := 0
	if e != nil {
		for _, t := range e.terms {
			for _, a := range t.atoms {
				n = max(n, a.fresh)
			}
		}
	}
	return n
}

func (e *expr) depth() int {
	n := 0
	for _, t := range e.terms {
		for _, a := range t.atoms {
			n = max(n, a.depth)
		}
	}
	return n
}

func ofAtom(a *atom) *expr { return build(0, []term{{c: 1, atoms: []*atom{a}, key: a.name}}) }

// build makes the canonical expression of a sum; nil where it grows too large.
func build(k int64, terms []term) *expr {
	slices.SortFunc(terms, func(a, b term) int { return strings.Compare(a.key, b.key) })
	out := terms[:0:0]
	for _, t := range terms {
		if n := len(out); n > 0 && out[n-1].key == t.key {
			c, ok := addInt(out[n-1].c, t.c)
			if !ok {
				return nil
			}
			out[n-1].c = c
			continue
		}
		out = append(out, t)
	}
	out = slices.DeleteFunc(out, func(t term) bool { return t.c == 0 })
	if e, changed := cancelQuotients(k, out); changed {
		return e
	}
	if len(out) > maxTerms {
		return nil
	}
	e := &expr{k: k, terms: out}
	if len(out) > 0 {
		e.text = e.print()
	}
	return e
}

// cancelQuotients replaces d·(a/d), the quotient being exact, by a.
func cancelQuotients(k int64, terms []term) (*expr, bool) {
	for i, t := range terms {
		for j, a := range t.atoms {
			d, ok := int64(0), false
			if a.kind == exactAtom {
				d, ok = a.b.known()
			}
			if !ok || d == 0 || t.c%d != 0 {
				continue
			}
			rest := slices.Delete(slices.Clone(terms), i, i+1)
			others := slices.Delete(slices.Clone(t.atoms), j, j+1)
			e := mul(constant(t.c/d), a.a)
			for _, o := range others {
				e = mul(e, ofAtom(o))
			}
			return add(build(k, rest), e), true
		}
	}
	return nil, false
}

// print returns the canonical text: terms in order of key, the constant last.
func (e *expr) print() string {
	var b strings.Builder
	for i, t := range e.terms {
		switch {
		case t.c == 1:
			if i > 0 {
				b.WriteByte('+')
			}
		case t.c == -1:
			b.WriteByte('-')
		default:
			if t.c > 0 && i > 0 {
				b.WriteByte('+')
			}
			b.WriteString(strconv.FormatInt(t.c, 10))
			b.WriteByte('*')
		}
		b.WriteString(t.key)
	}
	if e.k > 0 {
		b.WriteByte('+')
	}
	if e.k != 0 {
		b.WriteString(strconv.FormatInt(e.k, 10))
	}
	return b.String()
}

// String returns the canonical text; "?" for unknown.
func (e *expr) String() string {
	switch {
	case e == nil:
		return "?"
	case len(e.terms) == 0:
		return strconv.FormatInt(e.k, 10)
	}
	return e.text
}

func add(a, b *expr) *expr {
	if a == nil || b == nil {
		return nil
	}
	k, ok := addInt(a.k, b.k)
	if !ok {
		return nil
	}
	if len(a.terms)+len(b.terms) == 0 {
		return constant(k)
	}
	return build(k, slices.Concat(a.terms, b.terms))
}

func neg(a *expr) *expr { return mul(constant(-1), a) }

func sub(a, b *expr) *expr { return add(a, neg(b)) }

func mul(a, b *expr) *expr {
	if a == nil || b == nil {
		return nil
	}
	k, ok := mulInt(a.k, b.k)
	if !ok || len(a.terms)*len(b.terms) > maxTerms*maxTerms {
		return nil
	}
	var terms []term
	for _, t := range a.terms {
		if terms, ok = appendScaled(terms, t, b.k); !ok {
			return nil
		}
	}
	for _, t := range b.terms {
		if terms, ok = appendScaled(terms, t, a.k); !ok {
			return nil
		}
	}
	for _, t := range a.terms {
		for _, u := range b.terms {
			c, ok := mulInt(t.c, u.c)
			if !ok || len(t.atoms)+len(u.atoms) > maxFactors {
				return nil
			}
			terms = append(terms, product(c, slices.Concat(t.atoms, u.atoms)))
		}
	}
	return build(k, terms)
}

func appendScaled(terms []term, t term, k int64) ([]term, bool) {
	c, ok := mulInt(t.c, k)
	if c != 0 {
		terms = append(terms, term{c: c, atoms: t.atoms, key: t.key})
	}
	return terms, ok
}

// product returns c times the product of atoms.
func product(c int64, atoms []*atom) term {
	slices.SortFunc(atoms, func(a, b *atom) int { return strings.Compare(a.name, b.name) })
	names := make([]string, len(atoms))
	for i, a := range atoms {
		names[i] = a.name
	}
	return term{c: c, atoms: atoms, key: strings.Join(names, "*")}
}

// divide returns a/b where that is exact by construction: b divides every term.
func divide(a, b *expr) (*expr, bool) {
	if a == nil || b == nil || b.is(0) {
		return nil, false
	}
	if a.same(b) {
		return constant(1), true
	}
	d, atoms := b.k, []*atom(nil)
	if len(b.terms) > 0 {
		if len(b.terms) > 1 || b.k != 0 {
			return divideSum(a, b)
		}
		d, atoms = b.terms[0].c, b.terms[0].atoms
	}
	if a.k%d != 0 || a.k != 0 && len(atoms) > 0 || a.k == math.MinInt64 {
		return nil, false
	}
	var terms []term
	k := a.k / d
	for _, t := range a.terms {
		rest, ok := removeAtoms(t.atoms, atoms)
		if !ok || t.c%d != 0 {
			return nil, false
		}
		if len(rest) == 0 {
			if k, ok = addInt(k, t.c/d); !ok {
				return nil, false
			}
			continue
		}
		terms = append(terms, product(t.c/d, rest))
	}
	return build(k, terms), true
}

// divideSum handles a divisor that is a sum: a must be a multiple of it by one term.
func divideSum(a, b *expr) (*expr, bool) {
	if len(a.terms) == 0 || len(b.terms) == 0 {
		return nil, false
	}
	for _, t := range a.terms {
		for _, u := range b.terms {
			rest, ok := removeAtoms(t.atoms, u.atoms)
			if !ok || t.c%u.c != 0 {
				continue
			}
			q := constant(t.c / u.c)
			for _, x := range rest {
				q = mul(q, ofAtom(x))
			}
			if mul(q, b).same(a) {
				return q, true
			}
		}
	}
	return nil, false
}

// removeAtoms returns the factors of list left after taking out those of take.
func removeAtoms(list, take []*atom) ([]*atom, bool) {
	out := slices.Clone(list)
	for _, x := range take {
		i := slices.IndexFunc(out, func(a *atom) bool { return a.name == x.name })
		if i < 0 {
			return nil, false
		}
		out = slices.Delete(out, i, i+1)
	}
	return out, true
}

// quotient returns a/b for a division that the operator's definition makes exact.
func quotient(a, b *expr) *expr {
	if q, ok := divide(a, b); ok {
		return q
	}
	if a == nil || b == nil || b.is(0) || isConst(a) && isConst(b) {
		return nil
	}
	return function(exactAtom, a, b)
}

func isConst(e *expr) bool { _, ok := e.known(); return ok }

// floorDiv returns a/b rounded down, for b > 0. Where b is a number, whole
// multiples of it are taken out and the first coefficient is made positive, so
// that -floor(-H/2) is floor((H+1)/2).
func floorDiv(a, b *expr) *expr {
	if a == nil || b == nil {
		return nil
	}
	if q, ok := divide(a, b); ok {
		return q
	}
	d, ok := b.known()
	if !ok {
		return function(floorAtom, a, b)
	}
	if d <= 0 {
		return nil
	}
	if len(a.terms) > 0 && a.terms[0].c < 0 {
		return neg(floorDiv(add(neg(a), constant(d-1)), b))
	}
	whole, rest := constant(floorInt(a.k, d)), constant(a.k-floorInt(a.k, d)*d)
	for _, t := range a.terms {
		q := floorInt(t.c, d)
		part := build(0, []term{{c: 1, atoms: t.atoms, key: t.key}})
		whole = add(whole, mul(constant(q), part))
		rest = add(rest, mul(constant(t.c-q*d), part))
	}
	if rest == nil || whole == nil {
		return nil
	}
	if isConst(rest) {
		return whole
	}
	return add(whole, flattenFloor(rest, d))
}

// flattenFloor returns floor(a/d), using floor((floor(x/p)+q)/d) = floor((x+p·q)/(p·d)).
func flattenFloor(a *expr, d int64) *expr {
	if len(a.terms) == 1 && a.terms[0].c == 1 && len(a.terms[0].atoms) == 1 {
		x := a.terms[0].atoms[0]
		if x.kind == floorAtom {
			if p, ok := x.b.known(); ok {
				if pd, ok := mulInt(p, d); ok {
					return floorDiv(add(x.a, mul(constant(p), constant(a.k))), constant(pd))
				}
			}
		}
	}
	return function(floorAtom, a, constant(d))
}

// truncDiv returns a/b rounded toward zero, as integer Div does.
func truncDiv(a, b *expr) *expr {
	if a == nil || b == nil || b.is(0) {
		return nil
	}
	if x, ok := a.known(); ok {
		if y, ok := b.known(); ok {
			if y == -1 {
				return neg(a)
			}
			return constant(x / y)
		}
	}
	if q, ok := divide(a, b); ok {
		return q
	}
	if lo, ok := a.least(); ok && lo >= 0 {
		if lo, ok := b.least(); ok && lo > 0 {
			return floorDiv(a, b)
		}
	}
	return function(truncAtom, a, b)
}

// function returns kind applied to a and b as an atom.
func function(kind atomKind, a, b *expr) *expr {
	if a == nil || b == nil {
		return nil
	}
	x := &atom{kind: kind, a: a, b: b, fresh: max(a.fresh(), b.fresh()), depth: 1 + max(a.depth(), b.depth())}
	if x.depth > maxDepth {
		return nil
	}
	frac := operand(a) + "/" + operand(b)
	switch kind {
	case exactAtom:
		x.name = frac
		if len(a.terms) > 1 || a.k != 0 || strings.Contains(a.text, "*") || strings.Contains(a.text, "/") {
			x.name = "(" + a.String() + ")/" + operand(b)
		}
	case floorAtom:
		x.name = "floor(" + frac + ")"
	case truncAtom:
		x.name = "trunc(" + frac + ")"
	case maxAtom:
		x.name = "max(" + a.String() + "," + b.String() + ")"
	case minAtom:
		x.name = "min(" + a.String() + "," + b.String() + ")"
	}
	if len(x.name) > 200 {
		return nil
	}
	return ofAtom(x)
}

// operand prints e as one factor of a quotient.
func operand(e *expr) string {
	s := e.String()
	if len(e.terms) == 1 && e.k == 0 && e.terms[0].c == 1 && len(e.terms[0].atoms) == 1 && e.terms[0].atoms[0].kind != exactAtom {
		return s
	}
	if len(e.terms) == 0 && e.k >= 0 {
		return s
	}
	return "(" + s + ")"
}

// least returns a lower bound of e, if one is known; symbols are taken to be
// at least 0.
func (e *expr) least() (int64, bool) { return e.bound(0) }

// bound is least for symbols that are at least assumed, or what they themselves promise.
func (e *expr) bound(assumed int64) (int64, bool) {
	if e == nil {
		return 0, false
	}
	sum := e.k
	for _, t := range e.terms {
		if t.c < 0 {
			return 0, false
		}
		p := t.c
		for _, a := range t.atoms {
			lo, ok := a.lower(assumed)
			if !ok || lo < 0 {
				return 0, false
			}
			if p, ok = mulInt(p, lo); !ok {
				return 0, false
			}
		}
		s, ok := addInt(sum, p)
		if !ok {
			return 0, false
		}
		sum = s
	}
	return sum, true
}

func (a *atom) lower(assumed int64) (int64, bool) {
	if a.kind == symbolAtom {
		return min(a.least, assumed), true
	}
	x, xok := a.a.bound(assumed)
	y, yok := a.b.bound(assumed)
	switch a.kind {
	case maxAtom:
		if xok && yok {
			return max(x, y), true
		}
		if xok {
			return x, true
		}
		return y, yok
	case minAtom:
		return min(x, y), xok && yok
	}
	d, ok := a.b.known()
	if ok && d > 0 && xok && x >= 0 {
		return x / d, true
	}
	return 0, xok && yok && x >= 0 && y > 0
}

func maximum(a, b *expr) *expr { return maxOf(a, b, 0) }

func minimum(a, b *expr) *expr { return minOf(a, b, 0) }

// maxOf returns the larger of two expressions whose symbols are at least assumed.
func maxOf(a, b *expr, assumed int64) *expr {
	if big, _, ok := order(a, b, assumed); ok {
		return big
	}
	if a != nil && b != nil && a.String() > b.String() {
		a, b = b, a
	}
	return function(maxAtom, a, b)
}

// minOf returns the smaller of two expressions whose symbols are at least assumed.
func minOf(a, b *expr, assumed int64) *expr {
	if _, small, ok := order(a, b, assumed); ok {
		return small
	}
	if a != nil && b != nil && a.String() > b.String() {
		a, b = b, a
	}
	return function(minAtom, a, b)
}

// order returns the larger and the smaller of two expressions where that is certain.
func order(a, b *expr, assumed int64) (big, small *expr, ok bool) {
	if lo, ok := sub(a, b).bound(assumed); ok && lo >= 0 {
		return a, b, true
	}
	if lo, ok := sub(b, a).bound(assumed); ok && lo >= 0 {
		return b, a, true
	}
	return nil, nil, false
}

// modulo returns a mod b with the sign of b, as Mod does for integers, where b > 0.
func modulo(a, b *expr) *expr {
	if lo, ok := b.least(); !ok || lo <= 0 {
		return nil
	}
	return sub(a, mul(b, floorDiv(a, b)))
}

func addInt(a, b int64) (int64, bool) {
	s := a + b
	return s, (s > a) == (b > 0)
}

func mulInt(a, b int64) (int64, bool) {
	if a == math.MinInt64 || b == math.MinInt64 {
		return 0, a == 0 || b == 0
	}
	hi, lo := bits.Mul64(uint64(abs(a)), uint64(abs(b)))
	return a * b, hi == 0 && lo <= math.MaxInt64
}

func abs(a int64) int64 {
	if a < 0 {
		return -a
	}
	return a
}

// floorInt returns a/b rounded down, for b > 0.
func floorInt(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

package eval

import (
	"slices"
	"strings"
)

// einsumOperators sum products of elements that carry the same labels.
func einsumOperators() []operator {
	return []operator{{"Einsum", 12, latest, "equation", einsum}}
}

// equation is a parsed Einsum equation over operands of known ranks. Axes under
// an ellipsis are labelled '0', '1', … from the right.
type equation struct {
	terms [][]rune // labels of each operand's axes
	out   []rune
	sizes map[rune]int64
}

// equation reads the attribute and the sizes of its labels.
func (c *call) equation() *equation {
	text := strings.ReplaceAll(c.str("equation", ""), " ", "")
	left, right, explicit := strings.Cut(text, "->")
	e := &equation{sizes: map[rune]int64{}}
	terms := strings.Split(left, ",")
	if len(terms) != len(c.in) {
		c.fail("equation %q has %d terms for %d operands", text, len(terms), len(c.in))
	}
	hidden := 0 // most axes under an ellipsis
	for i, t := range terms {
		a := c.input(i)
		n := a.rank() - len(strings.Replace(t, "...", "", 1))
		labels := c.labels(t, n, text)
		if len(labels) != a.rank() {
			c.fail("term %q of equation %q for shape %v", t, text, a.shape)
		}
		if strings.Contains(t, "...") {
			hidden = max(hidden, n)
		}
		for d, l := range labels {
			if old, seen := e.sizes[l]; !seen || old == 1 {
				e.sizes[l] = a.shape[d]
			}
		}
		e.terms = append(e.terms, labels)
	}
	if !explicit {
		right = implicit(left)
	}
	e.out = c.labels(right, hidden, text)
	for i, l := range e.out {
		if _, known := e.sizes[l]; !known || slices.Contains(e.out[:i], l) {
			c.fail("equation %q: label %q of the result", text, l)
		}
	}
	c.checkSizes(e, text)
	return e
}

// checkSizes refuses labels that stand for axes of different sizes, other than
// 1 under an ellipsis.
func (c *call) checkSizes(e *equation, text string) {
	for i, term := range e.terms {
		for d, l := range term {
			if n := c.in[i].shape[d]; n != e.sizes[l] && !(n == 1 && l >= '0' && l <= '9') {
				c.fail("equation %q: label %q has sizes %d and %d", text, l, n, e.sizes[l])
			}
		}
	}
}

// labels returns the labels of a term whose ellipsis stands for n axes.
func (c *call) labels(term string, n int, text string) []rune {
	before, after, dots := strings.Cut(term, "...")
	out := []rune(before)
	if dots {
		if n < 0 || n > 9 {
			c.fail("term %q of equation %q for %d axes too few", term, text, -n)
		}
		for k := n - 1; k >= 0; k-- {
			out = append(out, rune('0'+k))
		}
		out = append(out, []rune(after)...)
	}
	for _, l := range before + after {
		if !(l >= 'a' && l <= 'z' || l >= 'A' && l <= 'Z') {
			c.fail("equation %q: label %q", text, l)
		}
	}
	return out
}

// implicit returns the result of an equation without one: the ellipsis, then
// what occurs once, in alphabetical order.
func implicit(left string) string {
	var once []string
	for _, l := range left {
		if l != ',' && l != '.' && strings.Count(left, string(l)) == 1 {
			once = append(once, string(l))
		}
	}
	slices.Sort(once)
	out := strings.Join(once, "")
	if strings.Contains(left, "...") {
		out = "..." + out
	}
	return out
}

func einsum(c *call) []*array {
	e := c.equation()
	first := c.input(0)
	order := slices.Clone(e.out)
	for _, t := range e.terms {
		for _, l := range t {
			if !slices.Contains(order, l) {
				order = append(order, l)
			}
		}
	}
	sizes := make([]int64, len(order))
	for i, l := range order {
		sizes[i] = e.sizes[l]
	}
	steps := make([][]int, len(e.terms))
	for i, t := range e.terms {
		if c.in[i].dt != first.dt {
			c.fail("operands are %v and %v", first.dt, c.in[i].dt)
		}
		steps[i] = make([]int, len(order))
		own := strides(c.in[i].shape)
		for d, l := range t {
			if c.in[i].shape[d] != 1 {
				steps[i][slices.Index(order, l)] += own[d]
			}
		}
	}
	shape := sizes[:len(e.out)]
	c.count(first.dt, shape)
	c.work(sizes...)
	if first.dt.IsFloat() {
		return one(store(c, first.dt, shape, contract[float64](c.in, steps, sizes, len(shape))))
	}
	if kindOf(first) != kindI64 || !first.dt.IsInt() {
		c.unsupported("element type %v", first.dt)
	}
	return one(store(c, first.dt, shape, contract[int64](c.in, steps, sizes, len(shape))))
}

// contract sums the products of the operands over all axes behind the first
// outer ones; steps are the operands' strides under sizes.
func contract[T float64 | int64](operands []*array, steps [][]int, sizes []int64, outer int) []T {
	vs := make([][]T, len(operands))
	for i, a := range operands {
		vs[i] = load[T](a)
	}
	inner := product(sizes[outer:])
	out := make([]T, product(sizes[:outer]))
	pos := make([]int64, len(sizes))
	for i := range out {
		for range inner {
			p := T(1)
			for k, v := range vs {
				p *= v[offset(pos, steps[k])]
			}
			out[i] += p
			next(pos, sizes)
		}
	}
	return out
}

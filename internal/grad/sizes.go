package grad

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// sizes is a vector of integers: numbers where they are known when the graph is built, else a value that the run computes.
type sizes struct {
	known []int64
	at    *onnx.Value
}

// sizesOf returns the sizes of axes from, …, to-1 of v.
func (b *builder) sizesOf(v *onnx.Value, from, to int) sizes {
	s := b.facts.Shape(v)
	if dims, ok := s[from:to].Static(); ok {
		return sizes{known: dims}
	}
	return sizes{at: b.opWith("Shape", attrs{"start": from, "end": to}, v)}
}

// fixed returns numbers.
func fixed(v ...int64) sizes { return sizes{known: v} }

// same returns n times v.
func same(n int, v int64) sizes { return sizes{known: slices.Repeat([]int64{v}, n)} }

// value returns s as a value.
func (b *builder) value(s sizes) *onnx.Value {
	if s.at == nil {
		return b.ints(s.known...)
	}
	return s.at
}

// isKnown reports whether the numbers are known.
func (s sizes) isKnown() bool { return s.at == nil }

// calc applies an operator of integer arithmetic element by element.
func (b *builder) calc(op string, x, y sizes) sizes {
	if !x.isKnown() || !y.isKnown() {
		return sizes{at: b.op(op, b.value(x), b.value(y))}
	}
	out := slices.Clone(x.known)
	for i, v := range y.known {
		switch op {
		case "Add":
			out[i] += v
		case "Sub":
			out[i] -= v
		case "Mul":
			out[i] *= v
		case "Div":
			out[i] /= v
		case "Max":
			out[i] = max(out[i], v)
		}
	}
	return sizes{known: out}
}

func (b *builder) plusSizes(x, y sizes) sizes  { return b.calc("Add", x, y) }
func (b *builder) minusSizes(x, y sizes) sizes { return b.calc("Sub", x, y) }

// joined puts vectors one after the other.
func (b *builder) joined(parts ...sizes) sizes {
	known, out := true, []int64{}
	for _, p := range parts {
		known = known && p.isKnown()
		out = append(out, p.known...)
	}
	if known {
		return sizes{known: out}
	}
	values := make([]*onnx.Value, len(parts))
	for i, p := range parts {
		values[i] = b.value(p)
	}
	return sizes{at: b.opWith("Concat", attrs{"axis": 0}, values...)}
}

// padded puts zeros around the axes of x, begin in front and end behind, or cuts elements off where these are negative.
// Both are for the axes from the third on.
func (b *builder) padded(x *onnx.Value, begin, end sizes) *onnx.Value {
	zero := func(s sizes) bool {
		return s.isKnown() && !slices.ContainsFunc(s.known, func(n int64) bool { return n != 0 })
	}
	if zero(begin) && zero(end) {
		return x
	}
	front := same(2, 0)
	return b.op("Pad", x, b.value(b.joined(front, begin, front, end)))
}

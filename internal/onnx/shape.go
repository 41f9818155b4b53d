package onnx

import (
	"strconv"
	"strings"
)

// Dim is one dimension: a size, a symbol, or unknown.
type Dim struct {
	Value      int64  // the size where ≥ 0; negative: not known as a number
	Param      string // the symbol's name, "" if none
	Denotation string
}

// Fixed returns the dimension of size n.
func Fixed(n int64) Dim { return Dim{Value: n} }

// Symbol returns the dimension named s; Symbol("") is an unknown dimension.
func Symbol(s string) Dim { return Dim{Value: -1, Param: s} }

// Known reports whether d has a number.
func (d Dim) Known() bool { return d.Value >= 0 }

// Same reports whether d and e are certainly equal: the same number or the same symbol.
func (d Dim) Same(e Dim) bool {
	if d.Known() || e.Known() {
		return d.Known() && e.Known() && d.Value == e.Value
	}
	return d.Param != "" && d.Param == e.Param
}

// String returns the number, the symbol, or "?".
func (d Dim) String() string {
	switch {
	case d.Known():
		return strconv.FormatInt(d.Value, 10)
	case d.Param != "":
		return d.Param
	}
	return "?"
}

// Shape is a tensor's dimensions. A nil Shape means the rank is unknown;
// an empty non-nil Shape is that of a scalar.
type Shape []Dim

// ShapeOf returns the shape with the given fixed sizes; ShapeOf() is a scalar's.
func ShapeOf(dims ...int64) Shape {
	s := make(Shape, len(dims))
	for i, d := range dims {
		s[i] = Fixed(d)
	}
	return s
}

// Ranked reports whether the number of dimensions is known.
func (s Shape) Ranked() bool { return s != nil }

// Static returns the sizes where every dimension is known, and whether that is so.
func (s Shape) Static() ([]int64, bool) {
	if s == nil {
		return nil, false
	}
	out := make([]int64, len(s))
	for i, d := range s {
		if !d.Known() {
			return nil, false
		}
		out[i] = d.Value
	}
	return out, true
}

// Equal reports whether both shapes are ranked and certainly equal in every dimension.
func (s Shape) Equal(t Shape) bool {
	if s == nil || t == nil || len(s) != len(t) {
		return false
	}
	for i := range s {
		if !s[i].Same(t[i]) {
			return false
		}
	}
	return true
}

// Contradicts reports whether no tensor can have both shapes.
func (s Shape) Contradicts(t Shape) bool {
	if s == nil || t == nil {
		return false
	}
	if len(s) != len(t) {
		return true
	}
	for i := range s {
		if s[i].Known() && t[i].Known() && s[i].Value != t[i].Value {
			return true
		}
	}
	return false
}

// String returns "[1,3,N,?]", or "[...]" where the rank is unknown.
func (s Shape) String() string {
	if s == nil {
		return "[...]"
	}
	parts := make([]string, len(s))
	for i, d := range s {
		parts[i] = d.String()
	}
	return "[" + strings.Join(parts, ",") + "]"
}

// ElementCount multiplies dims. It returns false on a negative size or overflow.
func ElementCount(dims []int64) (int64, bool) {
	n := int64(1)
	for _, d := range dims {
		if d < 0 {
			return 0, false
		}
		if d == 0 {
			return 0, zeroOK(dims)
		}
		if n > (1<<62)/d {
			return 0, false
		}
		n *= d
	}
	return n, true
}

// zeroOK reports that no dimension is negative, so that a zero one makes the count 0.
func zeroOK(dims []int64) bool {
	for _, d := range dims {
		if d < 0 {
			return false
		}
	}
	return true
}

package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// castChain: a type in between that holds every value of the type before it
// changes nothing.
var castChain = rewrite.Rule{
	Name: "cast-chain", Doc: "makes one Cast of two in a row where the type between loses nothing",
	Pattern: "outer=Cast(inner=Cast(x))",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		from, mid := m.Facts.DType(m.Value("x")), onnx.DType(m.Node("inner").Int("to", 0))
		if !holds(mid, from) {
			return rewrite.Decline("%v does not hold every value of %v", mid, from)
		}
		to := onnx.DType(m.Root.Int("to", 0))
		if _, ok := bits(to); !ok && to != onnx.Bool {
			return rewrite.Decline("the last type is %v", to)
		}
		if to == from {
			p.Swap(m.Root.Output(0), m.Value("x"))
			return nil
		}
		p.Swap(m.Root.Output(0), p.Add("Cast", []*onnx.Value{m.Value("x")}, onnx.IntAttr("to", int64(to))))
		return nil
	},
}

// numeric describes a number type: how many bits of magnitude it holds exactly,
// and of floats the largest exponent.
type numeric struct {
	signed   bool
	float    bool
	exact    int // integers of magnitude up to 2^exact are exact
	exponent int // floats: magnitudes below 2^exponent are finite
	least    int // floats: multiples of 2^least are exact down to zero
}

// bits returns what d holds; false for types whose conversions have rules of
// their own (float8, 4-bit types, strings, complex numbers).
func bits(d onnx.DType) (numeric, bool) {
	switch d {
	case onnx.Int8:
		return numeric{signed: true, exact: 7}, true
	case onnx.Int16:
		return numeric{signed: true, exact: 15}, true
	case onnx.Int32:
		return numeric{signed: true, exact: 31}, true
	case onnx.Int64:
		return numeric{signed: true, exact: 63}, true
	case onnx.Uint8:
		return numeric{exact: 8}, true
	case onnx.Uint16:
		return numeric{exact: 16}, true
	case onnx.Uint32:
		return numeric{exact: 32}, true
	case onnx.Uint64:
		return numeric{exact: 64}, true
	case onnx.Float16:
		return numeric{true, true, 11, 16, -24}, true
	case onnx.BFloat16:
		return numeric{true, true, 8, 128, -133}, true
	case onnx.Float:
		return numeric{true, true, 24, 128, -149}, true
	case onnx.Double:
		return numeric{true, true, 53, 1024, -1074}, true
	}
	return numeric{}, false
}

// holds reports whether every value of type b is one of type a.
func holds(a, b onnx.DType) bool {
	x, ok := bits(a)
	if !ok {
		return false
	}
	if b == onnx.Bool {
		return true
	}
	y, ok := bits(b)
	switch {
	case !ok || y.float && !x.float || y.signed && !x.signed:
		return false
	case y.float:
		return x.exact >= y.exact && x.exponent >= y.exponent && x.least <= y.least
	}
	return x.exact >= y.exact
}

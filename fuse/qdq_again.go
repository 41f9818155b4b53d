package fuse

import (
	"bytes"
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// qdqAgain: what was dequantized by a scale and is quantized by the same scale
// is the same integer: (q − z)·s / s differs from q − z by far less than one
// half, so that rounding gives it back (ONNX operators QuantizeLinear and
// DequantizeLinear).
var qdqAgain = rewrite.Rule{
	Name: "qdq-again", Doc: "removes DequantizeLinear and QuantizeLinear in a row that have the same scale and zero point",
	Pattern: "outer=QuantizeLinear(inner=DequantizeLinear(q, s1, ?z1), s2, ?z2)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		q, out := m.Value("q"), m.Root.Output(0)
		d := m.Facts.DType(q)
		if d.Bits() == 0 || d.Bits() > 16 || !d.IsInt() {
			return rewrite.Decline("the quantized type is %v", d)
		}
		if m.Facts.DType(out) != d {
			return rewrite.Decline("it is quantized to %v and was %v", m.Facts.DType(out), d)
		}
		for _, pair := range [][2]string{{"s1", "s2"}, {"z1", "z2"}} {
			if !sameConst(m.Value(pair[0]), m.Value(pair[1])) {
				return rewrite.Decline("%s and %s are not the same constant", valueName(m.Value(pair[0])), valueName(m.Value(pair[1])))
			}
		}
		scale, err := m.Const("s1")
		if err != nil {
			return err
		}
		if err := plainScale(scale); err != nil {
			return err
		}
		for _, a := range []struct {
			name string
			def  int64
		}{{"axis", 1}, {"block_size", 0}} {
			if x, y := m.Node("inner").Int(a.name, a.def), m.Node("outer").Int(a.name, a.def); x != y && len(scale.Shape) > 0 {
				return rewrite.Decline("the attribute %s is %d and %d", a.name, x, y)
			}
		}
		p.Swap(out, q)
		return nil
	},
}

// plainScale declines scales with which a product and a quotient do not undo
// each other within rounding.
func plainScale(s *onnx.Tensor) error {
	v, err := s.Float64s()
	if err != nil {
		return err
	}
	least := math.Ldexp(1, -100)
	if s.DType == onnx.Float16 {
		least = math.Ldexp(1, -10)
	}
	for _, x := range v {
		if !(x >= least && x <= 1/least) {
			return rewrite.Decline("the scale %v may overflow or vanish", x)
		}
	}
	return nil
}

// sameConst reports whether two values are one, or constants of equal type,
// shape and content; an omitted one equals only an omitted one.
func sameConst(a, b *onnx.Value) bool {
	if a == b {
		return true
	}
	if a == nil || b == nil {
		return false
	}
	x, y := a.Constant(), b.Constant()
	if x == nil || y == nil || x.DType != y.DType || !slices.Equal(x.Shape, y.Shape) || x.DType == onnx.String {
		return false
	}
	p, err1 := x.Bytes()
	q, err2 := y.Bytes()
	return err1 == nil && err2 == nil && bytes.Equal(p, q)
}

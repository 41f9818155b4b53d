package fuse

import (
	"math"

	"github.com/lapidary-ml/lapidary/internal/algebra"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// half returns ½·x·(1 + y).
func half(x, y algebra.Poly) algebra.Poly {
	return algebra.Scale(0.5, algebra.Mul(x, algebra.Add(algebra.Number(1), y)))
}

// gelu: x·Φ(x) by the error function (Hendrycks and Gimpel, arXiv:1606.08415).
var gelu = formula{
	name: "gelu", doc: "recognises Gelu in any arithmetic that computes it by Erf",
	roots: "Mul|Div|Add", inner: []string{"Erf"}, of: smooth,
	read: spelled(func(x algebra.Poly) algebra.Poly {
		return half(x, algebra.Call("erf", "", algebra.Scale(1/math.Sqrt2, x)))
	}),
	emit: either("Gelu", "Gelu"),
}

// geluCubic returns √(2/π)·(x + 0.044715·x³).
func geluCubic(x algebra.Poly) algebra.Poly {
	return algebra.Scale(math.Sqrt(2/math.Pi), algebra.Add(x, algebra.Scale(0.044715, algebra.Pow(x, 3))))
}

// geluTanh: its approximation by tanh, or by the sigmoid of the double.
var geluTanh = formula{
	name: "gelu-tanh", doc: "recognises the approximation of Gelu by Tanh or Sigmoid, as Gelu or, for ONNX Runtime, FastGelu",
	roots: "Mul|Div|Add", inner: []string{"Tanh"}, aside: []string{"Sigmoid", "Exp"}, of: smooth,
	read: spelled(
		func(x algebra.Poly) algebra.Poly { return half(x, algebra.Call("tanh", "", geluCubic(x))) },
		func(x algebra.Poly) algebra.Poly { return algebra.Mul(x, logistic(algebra.Scale(2, geluCubic(x)))) }),
	emit: func(t *Target, m *rewrite.Match, p *rewrite.Patch, x *onnx.Value, _ []*onnx.Attr) (*onnx.Value, error) {
		return either("Gelu", "FastGelu")(t, m, p, x, []*onnx.Attr{onnx.StringAttr("approximate", "tanh")})
	},
}

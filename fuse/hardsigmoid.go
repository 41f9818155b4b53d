package fuse

import (
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/algebra"
)

// hardSigmoid: max(0, min(1, α·x + β)), also with the bounds before the scale.
var hardSigmoid = formula{
	name: "hardsigmoid", doc: "recognises HardSigmoid in bounds of a scaled and shifted value",
	roots: "Clip|Min|Max|Relu|Mul|Div", inner: []string{"Clip", "Min", "Max", "Relu"}, of: slices.Concat(rational, signed),
	read: func(e, x algebra.Poly, tol float64) ([]setting, bool) {
		a, c, ok := callOf(e, "clip")
		if !ok {
			return nil, false
		}
		lo, hi := a.Bounds()
		slope, offset, ok := line(a.Args[0], x)
		bounded := lo == 0 && math.Abs(c*hi-1) <= tol
		if !ok || !bounded || slope == 1 && offset == 0 && c == 1 {
			return nil, false
		}
		return []setting{float("alpha", c*slope), float("beta", c*offset)}, true
	},
	emit: standard("HardSigmoid"),
}

// hardSwish: x·max(0, min(6, x + 3)) / 6 (Howard and others, arXiv:1905.02244).
var hardSwish = formula{
	name: "hardswish", doc: "recognises HardSwish in any arithmetic that computes it by bounds",
	roots: "Mul|Div", inner: []string{"Clip", "Min", "Max", "Relu", "HardSigmoid"}, of: slices.Concat(rational, signed, []string{"HardSigmoid"}),
	read: spelled(
		func(x algebra.Poly) algebra.Poly {
			return algebra.Scale(1.0/6, algebra.Mul(x, algebra.Clip(algebra.Add(x, algebra.Number(3)), 0, 6)))
		},
		func(x algebra.Poly) algebra.Poly {
			return algebra.Mul(x, algebra.Clip(algebra.Add(algebra.Scale(1.0/6, x), algebra.Number(0.5)), 0, 1))
		}),
	emit: standard("HardSwish"),
}

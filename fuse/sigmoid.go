package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/algebra"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// rational are the operators of arithmetic, smooth those of which activations
// without a bend are made.
var (
	rational = []string{"Add", "Sub", "Sum", "Mul", "Div", "Neg", "Reciprocal", "Identity"}
	smooth   = append([]string{"Pow", "Exp", "Log", "Tanh", "Sigmoid", "Softplus", "Erf"}, rational...)
)

func onePlus(p algebra.Poly) algebra.Poly { return algebra.Add(algebra.Number(1), p) }

// sigmoid: 1 / (1 + exp(−x)).
var sigmoid = formula{
	name: "sigmoid", doc: "recognises Sigmoid in any arithmetic that computes it by Exp, or by Tanh of half",
	roots: "Div|Reciprocal|Pow", also: "Mul|Sub|Add", inner: []string{"Exp"}, aside: []string{"Tanh", "Sigmoid"}, of: smooth,
	read: spelled(logistic,
		func(x algebra.Poly) algebra.Poly {
			return algebra.Sub(algebra.Number(1), logistic(algebra.Scale(-1, x)))
		},
		func(x algebra.Poly) algebra.Poly {
			return algebra.Scale(0.5, onePlus(algebra.Call("tanh", "", algebra.Scale(0.5, x))))
		}),
	emit: standard("Sigmoid"),
}

func logistic(x algebra.Poly) algebra.Poly { return algebra.Call("sigmoid", "", x) }

// tanh: (exp(x) − exp(−x)) / (exp(x) + exp(−x)), which is 2·sigmoid(2·x) − 1.
var tanh = formula{
	name: "tanh", doc: "recognises Tanh in any arithmetic that computes it by Exp, or by Sigmoid of the double",
	roots: "Div", also: "Sub|Mul|Add", inner: []string{"Exp"}, aside: []string{"Sigmoid"}, of: smooth,
	read: spelled(
		func(x algebra.Poly) algebra.Poly {
			return algebra.Sub(algebra.Scale(2, logistic(algebra.Scale(2, x))), algebra.Number(1))
		},
		func(x algebra.Poly) algebra.Poly {
			return algebra.Sub(logistic(algebra.Scale(2, x)), logistic(algebra.Scale(-2, x)))
		},
		func(x algebra.Poly) algebra.Poly {
			e, f := algebra.Call("exp", "", x), algebra.Call("exp", "", algebra.Scale(-1, x))
			return algebra.Mul(algebra.Sub(e, f), algebra.Pow(algebra.Add(e, f), -1))
		}),
	emit: standard("Tanh"),
}

// softsign: x / (1 + |x|).
var softsign = formula{
	name: "softsign", doc: "recognises Softsign in any arithmetic that computes it by Abs",
	roots: "Div|Mul", inner: []string{"Abs"},
	read: spelled(func(x algebra.Poly) algebra.Poly {
		return algebra.Mul(x, algebra.Pow(onePlus(algebra.Call("abs", "", x)), -1))
	}),
	emit: standard("Softsign"),
}

// mish: x·tanh(softplus(x)) (Misra, arXiv:1908.08681), which is a quotient of
// sums of exp.
var mish = formula{
	name: "mish", doc: "recognises Mish in Tanh and Softplus, or in Exp",
	roots: "Mul", also: "Div", inner: []string{"Softplus"}, aside: []string{"Log", "Exp"}, of: smooth,
	read: spelled(
		func(x algebra.Poly) algebra.Poly {
			return algebra.Mul(x, algebra.Call("tanh", "", algebra.Softplus(x)))
		},
		func(x algebra.Poly) algebra.Poly {
			e := algebra.Call("exp", "", x)
			n := algebra.Add(algebra.Pow(e, 2), algebra.Scale(2, e))
			return algebra.Mul(x, algebra.Mul(n, algebra.Pow(algebra.Add(n, algebra.Number(2)), -1)))
		}),
	emit: standard("Mish"),
}

// swish: x·sigmoid(α·x) (Ramachandran and others, arXiv:1710.05941). ONNX
// Runtime's name for it is QuickGelu.
var swish = formula{
	name: "swish", doc: "recognises Swish, also called SiLU: as Swish from opset 24 on, as QuickGelu for ONNX Runtime",
	roots: "Mul", also: "Div", inner: []string{"Sigmoid"}, aside: []string{"Exp"}, of: smooth,
	read: readSwish,
	emit: func(t *Target, m *rewrite.Match, p *rewrite.Patch, x *onnx.Value, attrs []*onnx.Attr) (*onnx.Value, error) {
		if t.offer(m, "com.microsoft", "QuickGelu", m.Facts.DType(x)) == nil {
			return p.AddNode("com.microsoft", "QuickGelu", []*onnx.Value{x}, 1, attrs...).Output(0), nil
		}
		return standard("Swish")(t, m, p, x, attrs)
	},
}

func readSwish(e, x algebra.Poly, tol float64) ([]setting, bool) {
	if len(e) != 1 {
		return nil, false
	}
	for _, f := range e[0].F {
		if f.Atom.Func != "sigmoid" || f.Atom.Value != nil {
			continue
		}
		alpha, ok := multiple(f.Atom.Args[0], x)
		if ok && algebra.Close(e, algebra.Mul(x, logistic(algebra.Scale(alpha, x))), tol) {
			return []setting{float("alpha", alpha)}, true
		}
	}
	return nil, false
}

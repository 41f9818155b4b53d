package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/algebra"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

func onePlus(p algebra.Poly) algebra.Poly { return algebra.Add(algebra.Number(1), p) }

// sigmoid: 1 / (1 + exp(−x)).
var sigmoid = formula{
	name: "sigmoid", doc: "recognises Sigmoid in any arithmetic that computes it by Exp",
	roots: "Div|Reciprocal|Pow", inner: []string{"Exp"},
	read: spelled(func(x algebra.Poly) algebra.Poly {
		return algebra.Pow(onePlus(algebra.Call("exp", "", algebra.Scale(-1, x))), -1)
	}),
	emit: standard("Sigmoid"),
}

// softplus: log(1 + exp(x)).
var softplus = formula{
	name: "softplus", doc: "recognises Softplus in Log and Exp",
	roots: "Log", inner: []string{"Exp"},
	read: spelled(func(x algebra.Poly) algebra.Poly {
		return algebra.Call("log", "", onePlus(algebra.Call("exp", "", x)))
	}),
	emit: standard("Softplus"),
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

// mish: x·tanh(softplus(x)) (Misra, arXiv:1908.08681).
var mish = formula{
	name: "mish", doc: "recognises Mish in Tanh and Softplus",
	roots: "Mul", inner: []string{"Softplus", "Log"},
	read: spelled(func(x algebra.Poly) algebra.Poly {
		return algebra.Mul(x, algebra.Call("tanh", "", algebra.Softplus(x)))
	}),
	emit: standard("Mish"),
}

// swish: x·sigmoid(α·x) (Ramachandran and others, arXiv:1710.05941). ONNX
// Runtime's name for it is QuickGelu.
var swish = formula{
	name: "swish", doc: "recognises Swish, also called SiLU: as Swish from opset 24 on, as QuickGelu for ONNX Runtime",
	roots: "Mul", inner: []string{"Sigmoid"},
	read: func(e, x algebra.Poly, tol float64) ([]*onnx.Attr, bool) {
		if len(e) != 1 {
			return nil, false
		}
		for _, f := range e[0].F {
			if f.Atom.Func != "sigmoid" || f.Atom.Value != nil {
				continue
			}
			alpha, offset, ok := line(f.Atom.Args[0], x)
			if ok && offset == 0 && algebra.Close(e, algebra.Mul(x, algebra.Call("sigmoid", "", algebra.Scale(alpha, x))), tol) {
				return []*onnx.Attr{onnx.FloatAttr("alpha", float32(alpha))}, true
			}
		}
		return nil, false
	},
	emit: func(t *Target, m *rewrite.Match, p *rewrite.Patch, x *onnx.Value, attrs []*onnx.Attr) (*onnx.Value, error) {
		if t.offer(m, "com.microsoft", "QuickGelu", m.Facts.DType(x)) == nil {
			return p.AddNode("com.microsoft", "QuickGelu", []*onnx.Value{x}, 1, attrs...).Output(0), nil
		}
		return standard("Swish")(t, m, p, x, attrs)
	},
}

package algebra

import (
	"math"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// TestIn: a case decides bounds, sizes and choices, and nothing else.
func TestIn(t *testing.T) {
	g := onnx.NewModel(17).Graph
	v, w := g.AddInput("x", nil), g.AddInput("w", nil)
	x, y := Var(v), Var(w)
	inf := math.Inf(1)
	exp1 := Sub(Call("exp", "", x), Number(1))
	for name, c := range map[string]struct {
		p    Poly
		c    Case
		want Poly
		open bool
	}{
		"positive part of the negative": {p: Clip(Scale(-1, x), 0, inf), c: Below, want: Scale(-1, x)},
		"negative part at 0":            {p: Clip(x, -inf, 0), c: Zero},
		"size":                          {p: Mul(y, Call("abs", "", x)), c: Below, want: Scale(-1, Mul(x, y))},
		"growth has the sign of x":      {p: Clip(Scale(2, exp1), -inf, 0), c: Above},
		"fall has the other":            {p: Clip(Scale(-2, exp1), -inf, 0), c: Above, want: Scale(-2, exp1)},
		"exp of a bound":                {p: Call("exp", "", Clip(x, -inf, 0)), c: Above, want: Number(1)},
		"the larger part":               {p: Larger(x, Scale(0.1, x)), c: Below, want: Scale(0.1, x)},
		"choice at 0":                   {p: Where(Call("notgreater", "", nil, x), y, nil), c: Zero, want: y},
		"negation":                      {p: Where(Call("not", "", Less(x, nil)), y, nil), c: Below},
		"either":                        {p: Where(Or(Less(x, nil), Less(y, nil)), y, nil), c: Below, open: true},
		"either of x":                   {p: Where(Or(Less(x, nil), Less(nil, x)), y, nil), c: Zero},
		"a bound that cuts the case":    {p: Clip(x, 1, inf), c: Above, open: true},
		"one that does not":             {p: Clip(x, -1, inf), c: Above, want: x},
		"choice by another":             {p: Where(Less(y, nil), x, nil), c: Above, open: true},
		"one over 0":                    {p: Pow(x, -1), c: Zero, open: true},
	} {
		got, ok := In(c.p, v, c.c)
		if ok == c.open || ok && !Close(got, c.want, 1e-12) {
			t.Errorf("%s: %v, %v, want %v", name, got, ok, c.want)
		}
	}
}

// TestUndefined: no comparison holds with what is no number.
func TestUndefined(t *testing.T) {
	g := onnx.NewModel(17).Graph
	v := g.AddInput("x", nil)
	x := Var(v)
	for name, c := range map[string]struct {
		p    Poly
		want bool
	}{
		"sum":              {Add(Number(1), x), true},
		"else branch":      {Where(Less(nil, x), nil, x), true},
		"then branch":      {Where(Less(nil, x), x, nil), false},
		"negated":          {Where(Call("not", "", Less(nil, x)), x, nil), true},
		"either compared":  {Where(Or(Less(nil, x), Less(x, nil)), nil, x), true},
		"of another value": {Var(g.AddInput("y", nil)), false},
		"within":           {Call("exp", "", Clip(x, 0, 1)), true},
	} {
		if got := Undefined(c.p, v); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

package algebra

import (
	"math"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

func variables() (x, y Poly) {
	g := onnx.NewModel(17).Graph
	return Var(g.AddInput("x", nil)), Var(g.AddInput("y", nil))
}

// TestSameForm: what is equal over the reals has one form.
func TestSameForm(t *testing.T) {
	x, y := variables()
	for name, pair := range map[string][2]Poly{
		"order of terms":       {Add(x, y), Add(y, x)},
		"order of factors":     {Mul(x, y), Mul(y, x)},
		"multiplied out":       {Mul(Add(x, y), Sub(x, y)), Sub(Pow(x, 2), Pow(y, 2))},
		"like terms":           {Add(x, Scale(2, x)), Scale(3, x)},
		"what cancels":         {Add(x, y, Scale(-1, x)), y},
		"square":               {Mul(x, x), Pow(x, 2)},
		"root and reciprocal":  {Pow(Pow(Add(x, y), 0.5), -1), Pow(Add(x, y), -0.5)},
		"number outside a sum": {Reduce("sum", Scale(2, x), []int64{1}), Scale(2, Reduce("sum", x, []int64{1}))},
		"bound in a bound":     {Clip(Clip(x, 0, math.Inf(1)), math.Inf(-1), 6), Clip(x, 0, 6)},
		"bound within another": {Clip(Clip(x, -1, 1), 0, 6), Clip(x, 0, 1)},
		"the larger":           {Larger(x, y), Larger(y, x)},
		"odd function":         {Call("erf", "", Scale(-2, x)), Scale(-1, Call("erf", "", Scale(2, x)))},
		"size of the negative": {Call("abs", "", Sub(x, y)), Call("abs", "", Sub(y, x))},
		"sigmoid by exp":       {Pow(Add(Number(1), Call("exp", "", Scale(-1, x))), -1), Call("sigmoid", "", x)},
		"its other form":       {Mul(Call("exp", "", x), Pow(Add(Number(1), Call("exp", "", x)), -1)), Call("sigmoid", "", x)},
	} {
		if !Close(pair[0], pair[1], 1e-12) {
			t.Errorf("%s: %v and %v", name, pair[0], pair[1])
		}
	}
}

// TestOtherForm: what is defined elsewhere, or is another formula, stays apart.
func TestOtherForm(t *testing.T) {
	x, y := variables()
	for name, pair := range map[string][2]Poly{
		"root of a square":       {Pow(Pow(x, 2), 0.5), x},
		"quotient of itself":     {Mul(x, Pow(x, -1)), Number(1)},
		"another number":         {Scale(2, x), Scale(2.1, x)},
		"an open bound is not 0": {Clip(x, 0, math.Inf(1)), Clip(x, 0, 0)},
		"another axis":           {Reduce("mean", x, []int64{1}), Reduce("mean", x, []int64{2})},
		"the largest scaled":     {Reduce("max", Scale(-1, x), []int64{1}), Scale(-1, Reduce("max", x, []int64{1}))},
		"choice turned round":    {Where(Less(x, y), x, y), Where(Less(y, x), x, y)},
	} {
		if Close(pair[0], pair[1], 1e-6) {
			t.Errorf("%s: %v and %v are taken for one", name, pair[0], pair[1])
		}
	}
}

// TestTolerance: numbers may differ by what exporters round away.
func TestTolerance(t *testing.T) {
	x, _ := variables()
	a, b := Scale(0.7978845608, Call("tanh", "", Scale(0.044715, x))), Scale(0.79788458, Call("tanh", "", Scale(0.044714998, x)))
	if !Close(a, b, 1e-5) || Close(a, b, 1e-9) {
		t.Errorf("%v and %v", a, b)
	}
}

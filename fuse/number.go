package fuse

import (
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// numberOf returns the number that v is, where v has one element and is a
// constant or computed from constants and known sizes.
func numberOf(facts *opset.Facts, v *onnx.Value) (float64, bool) { return numberIn(facts, v, 12) }

func numberIn(facts *opset.Facts, v *onnx.Value, depth int) (float64, bool) {
	if v == nil || depth == 0 {
		return 0, false
	}
	if t := v.Constant(); t != nil {
		return onlyElement(t)
	}
	if ints, ok := facts.Ints(v); ok && len(ints) == 1 && ints[0].Known {
		return float64(ints[0].Value), true
	}
	n := v.Producer()
	if n == nil || onnx.NormalDomain(n.Domain) != "" {
		return 0, false
	}
	x, ok := numberIn(facts, n.Input(0), depth-1)
	if !ok {
		return 0, false
	}
	switch n.Op {
	case "Cast", "CastLike", "Identity", "Squeeze", "Unsqueeze", "Reshape":
		return x, true
	case "Sqrt":
		return math.Sqrt(x), x >= 0
	case "Reciprocal":
		return 1 / x, x != 0
	}
	y, ok := numberIn(facts, n.Input(1), depth-1)
	if !ok || !facts.DType(v).IsFloat() {
		return 0, false
	}
	switch n.Op {
	case "Mul":
		return x * y, true
	case "Div":
		return x / y, y != 0
	case "Pow":
		return math.Pow(x, y), true
	}
	return 0, false
}

// onlyElement returns the only element of t.
func onlyElement(t *onnx.Tensor) (float64, bool) {
	if n, ok := t.Elements(); !ok || n != 1 || !t.DType.IsFloat() && !t.DType.IsInt() && t.DType != onnx.Bool {
		return 0, false
	}
	x, err := t.Float64s()
	if err != nil || len(x) != 1 {
		return 0, false
	}
	return x[0], true
}

// filledWith returns the number that every element of v is.
func filledWith(facts *opset.Facts, v *onnx.Value) (float64, bool) {
	if x, ok := numberOf(facts, v); ok {
		return x, true
	}
	if v == nil {
		return 0, false
	}
	if t := v.Constant(); t != nil {
		return evenElements(t)
	}
	n := v.Producer()
	switch {
	case n == nil:
		return 0, false
	case n.Is("ConstantOfShape"):
		a := n.Attr("value")
		if a == nil {
			return 0, true
		}
		if a.T == nil {
			return 0, false
		}
		return onlyElement(a.T)
	case n.Is("Expand"), n.Is("Cast"), n.Is("CastLike"), n.Is("Reshape"), n.Is("Unsqueeze"), n.Is("Squeeze"), n.Is("Identity"):
		return filledWith(facts, n.Input(0))
	}
	return 0, false
}

// maxInspected is the most elements of a constant that rules look at to find its structure.
const maxInspected = 1 << 24

// evenElements returns the number that every element of t is.
func evenElements(t *onnx.Tensor) (float64, bool) {
	if n, ok := t.Elements(); !ok || n == 0 || n > maxInspected {
		return 0, false
	}
	x, err := t.Float64s()
	if err != nil {
		return 0, false
	}
	for _, e := range x {
		if e != x[0] {
			return 0, false
		}
	}
	return x[0], true
}

// closeTo reports whether a and b agree to what float32 constants can tell, or,
// for constants of 16 bits, to what those can.
func closeTo(a, b float64, d onnx.DType) bool {
	tol := 2e-6
	if d == onnx.Float16 || d == onnx.BFloat16 {
		tol = 4e-3
	}
	return math.Abs(a-b) <= tol*math.Abs(b)
}

package fuse

import (
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// ownMasks reads the masks of a block anew, causality among them as numbers to be
// added, where ONNX Runtime's kernels would mix it up with the others: they hide
// the columns after a row's own by the lowest number of the type, beside which a
// mask of that number hides no more than they do.
func (b *attnBlock) ownMasks() error {
	if !b.mask.causal || len(b.mask.add)+len(b.mask.fill) == 0 || b.leavesRoom() {
		return nil
	}
	b.spelled, b.mask = true, attnMask{}
	if err := b.masks(); err != nil {
		return err
	}
	return b.checkCache()
}

// leavesRoom reports whether what is added to scores is certain to stay far above
// the lowest number of their type.
func (b *attnBlock) leavesRoom() bool {
	lowest := -1e38
	if b.elem == onnx.Float16 {
		lowest = -3e4
	}
	sum := 0.0
	for _, v := range b.mask.add {
		r, ok := valuesOf(b.facts, v, 12)
		if !ok {
			return false
		}
		sum += r.low
	}
	for _, t := range b.mask.fill {
		sum += min(t.fill, 0)
	}
	return sum >= lowest
}

// bounds is where the elements of a tensor are.
type bounds struct{ low, high float64 }

// valuesOf returns where the elements of v are certain to be, false if that is not known.
func valuesOf(facts *opset.Facts, v *onnx.Value, depth int) (bounds, bool) {
	if v == nil || depth == 0 {
		return bounds{}, false
	}
	if t := v.Constant(); t != nil {
		return constValues(t)
	}
	if d := facts.DType(v); d == onnx.Bool {
		return bounds{0, 1}, true
	} else if d.IsInt() {
		return bounds{-math.Ldexp(1, d.Bits()), math.Ldexp(1, d.Bits())}, true
	}
	n := v.Producer()
	if n == nil || onnx.NormalDomain(n.Domain) != "" {
		return bounds{}, false
	}
	switch n.Op {
	case "Cast", "Identity", "Unsqueeze", "Squeeze", "Reshape", "Expand", "Slice", "Gather", "Transpose":
		return valuesOf(facts, n.Input(0), depth-1)
	case "Where":
		return combined(facts, n.Input(1), n.Input(2), depth, func(a, b bounds) []float64 { return []float64{a.low, b.low, a.high, b.high} })
	case "Add":
		return combined(facts, n.Input(0), n.Input(1), depth, func(a, b bounds) []float64 { return []float64{a.low + b.low, a.high + b.high} })
	case "Sub":
		return combined(facts, n.Input(0), n.Input(1), depth, func(a, b bounds) []float64 { return []float64{a.low - b.high, a.high - b.low} })
	case "Mul":
		return combined(facts, n.Input(0), n.Input(1), depth, func(a, b bounds) []float64 {
			return []float64{a.low * b.low, a.low * b.high, a.high * b.low, a.high * b.high}
		})
	}
	return bounds{}, false
}

// combined returns where values are that ends gives for those of two tensors.
func combined(facts *opset.Facts, x, y *onnx.Value, depth int, ends func(a, b bounds) []float64) (bounds, bool) {
	a, ok1 := valuesOf(facts, x, depth-1)
	b, ok2 := valuesOf(facts, y, depth-1)
	if !ok1 || !ok2 {
		return bounds{}, false
	}
	return spanning(ends(a, b))
}

func constValues(t *onnx.Tensor) (bounds, bool) {
	if n, ok := t.Elements(); !ok || n == 0 || n > maxInspected || t.DType == onnx.String {
		return bounds{}, false
	}
	x, err := t.Float64s()
	if err != nil {
		return bounds{}, false
	}
	return spanning(x)
}

// spanning returns the bounds of some numbers, false where one is none.
func spanning(x []float64) (bounds, bool) {
	out := bounds{math.Inf(1), math.Inf(-1)}
	for _, e := range x {
		if math.IsNaN(e) {
			return bounds{}, false
		}
		out = bounds{min(out.low, e), max(out.high, e)}
	}
	return out, true
}

package fuse

import (
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// lanePart says which elements along the last axis of whole a value has.
type lanePart struct {
	whole   *onnx.Value
	second  bool // the second of the two parts, else the first
	strided bool // every second element, else one half
}

// partOf reads v as half of the elements along the last axis of a value.
func partOf(facts *opset.Facts, v *onnx.Value) (lanePart, bool) {
	n := v.Producer()
	if n == nil || !settledNode(n) {
		return lanePart{}, false
	}
	if n.Is("Squeeze") || n.Is("Reshape") {
		return pairPart(facts, v, n.Input(0))
	}
	if n.Is("Gather") {
		if i, ok := numberOf(facts, n.Input(1)); ok && len(facts.Shape(n.Input(1))) == 0 && isLast(facts, n, n.Int("axis", 0)) {
			return pairOf(facts, n.Input(0), i != 0)
		}
		return lanePart{}, false
	}
	lo, hi, step, whole, ok := lanes(facts, v)
	width := lastDim(facts, whole)
	switch {
	case !ok || width < 2 || width%2 != 0:
		return lanePart{}, false
	case step == 1 && hi-lo == width/2 && (lo == 0 || lo == width/2):
		return lanePart{whole, lo != 0, false}, true
	case step == 2 && lo < 2 && (hi-lo+1)/2 == width/2:
		return lanePart{whole, lo == 1, true}, true
	}
	return lanePart{}, false
}

// pairPart reads v, which takes away the last axis of x, where x is one of each
// pair of neighbours.
func pairPart(facts *opset.Facts, v, x *onnx.Value) (lanePart, bool) {
	a, b := facts.Shape(v), facts.Shape(x)
	if len(b) != len(a)+1 || lastDim(facts, x) != 1 {
		return lanePart{}, false
	}
	lo, hi, _, pairs, ok := lanes(facts, x)
	if !ok || hi != lo+1 {
		return lanePart{}, false
	}
	return pairOf(facts, pairs, lo != 0)
}

// pairOf reads pairs [..., width/2, 2] as made from a value [..., width].
func pairOf(facts *opset.Facts, pairs *onnx.Value, second bool) (lanePart, bool) {
	n := pairs.Producer()
	if n == nil || !n.Is("Reshape") || lastDim(facts, pairs) != 2 {
		return lanePart{}, false
	}
	in, out := facts.Shape(n.Input(0)), facts.Shape(pairs)
	if len(out) != len(in)+1 || len(in) < 2 || !out[len(in)-1].Known() || lastDim(facts, n.Input(0)) != 2*out[len(in)-1].Value {
		return lanePart{}, false
	}
	return lanePart{n.Input(0), second, true}, true
}

// lanes reads v as the elements lo, lo+step, … below hi along the last axis of a value.
func lanes(facts *opset.Facts, v *onnx.Value) (lo, hi, step int64, whole *onnx.Value, ok bool) {
	n := v.Producer()
	switch {
	case n == nil:
		return
	case n.Is("Split"):
		if !isLast(facts, n, n.Int("axis", 0)) {
			return
		}
		for i := range v.Index() {
			d := lastDim(facts, n.Output(i))
			if d < 0 {
				return
			}
			lo += d
		}
		d := lastDim(facts, v)
		return lo, lo + d, 1, n.Input(0), d >= 0
	case n.Is("Slice") && len(n.Inputs()) >= 4:
		return sliceLanes(facts, n)
	}
	return
}

func sliceLanes(facts *opset.Facts, n *onnx.Node) (lo, hi, step int64, whole *onnx.Value, ok bool) {
	axis, ok1 := numberOf(facts, n.Input(3))
	start, ok2 := numberOf(facts, n.Input(1))
	end, ok3 := numberOf(facts, n.Input(2))
	by := 1.0
	ok4 := true
	if n.Input(4) != nil {
		by, ok4 = numberOf(facts, n.Input(4))
	}
	width := float64(lastDim(facts, n.Input(0)))
	if !ok1 || !ok2 || !ok3 || !ok4 || by < 1 || width < 0 || !isLast(facts, n, int64(axis)) {
		return
	}
	within := func(x float64) int64 {
		if x < 0 {
			x += width
		}
		return int64(math.Max(0, math.Min(x, width)))
	}
	return within(start), within(end), int64(by), n.Input(0), true
}

// isLast reports whether axis is the last one of n's first input.
func isLast(facts *opset.Facts, n *onnx.Node, axis int64) bool {
	rank := int64(len(facts.Shape(n.Input(0))))
	return rank > 0 && (axis == -1 || axis == rank-1)
}

// lastDim returns the size of the last axis, −1 where it is not known.
func lastDim(facts *opset.Facts, v *onnx.Value) int64 {
	if v == nil {
		return -1
	}
	s := facts.Shape(v)
	if len(s) == 0 || !s[len(s)-1].Known() {
		return -1
	}
	return s[len(s)-1].Value
}

// concatLast returns the two inputs of a Concat along the last axis.
func concatLast(facts *opset.Facts, n *onnx.Node) (a, b *onnx.Value, ok bool) {
	if n == nil || !n.Is("Concat") || len(n.Inputs()) != 2 || !settledNode(n) || !isLast(facts, n, n.Int("axis", 0)) {
		return nil, nil, false
	}
	return n.Input(0), n.Input(1), true
}

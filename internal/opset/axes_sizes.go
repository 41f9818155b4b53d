package opset

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// relateShape: an axis may lose positions where its size is used for nothing but
// shapes. A size that becomes a number to calculate with, such as the width of a
// head whose root divides the scores of attention, must stay.
func relateShape(r *relating) {
	rank := len(r.shape(0))
	start, end := 0, rank
	if s, ok := r.maybeInt("start"); ok {
		start = begin(s, 1, rank)
	}
	if e, ok := r.maybeInt("end"); ok {
		end = begin(e, 1, rank)
	}
	all := counted(start, 1, end-start)
	used := make([]bool, rank)
	for _, u := range r.n.Output(0).Uses() {
		if calculates(u, map[*onnx.Node]bool{}) {
			for _, i := range r.selected(u.Node, all) {
				used[i] = true
			}
		}
	}
	for i := range rank {
		a, ok := r.in(0, i)
		if used[i] || r.n.Output(0).IsOutput() {
			r.pin(a, ok, nil, "its size is a number that the model calculates with")
		} else {
			r.free(a, ok)
		}
	}
}

// selected returns which of the sizes in all a node takes: what constant indices
// or bounds say, else all.
func (r *relating) selected(n *onnx.Node, all []int) []int {
	list := func(input int) []int64 {
		e, ok := allKnown(r.f.ints(n.Input(input)))
		if !ok {
			return nil
		}
		return e
	}
	switch {
	case n.Is("Gather") && n.Input(1) != nil && list(1) != nil:
		var out []int
		for _, i := range list(1) {
			if i < 0 {
				i += int64(len(all))
			}
			if i >= 0 && i < int64(len(all)) {
				out = append(out, all[i])
			}
		}
		return out
	case n.Is("Slice") && n.Input(1) != nil && n.Input(2) != nil && n.Input(4) == nil:
		lo, hi := list(1), list(2)
		if len(lo) == 1 && len(hi) == 1 {
			from, to := begin(lo[0], 1, len(all)), begin(hi[0], 1, len(all))
			return all[from:max(from, to)]
		}
	}
	return all
}

// sizeArithmetic are operators that take sizes to sizes.
var sizeArithmetic = []string{"Gather", "Slice", "Concat", "Unsqueeze", "Squeeze", "Mul", "Add", "Sub", "Div", "Mod", "Max", "Min", "Identity",
	"Equal", "Where", "Split", "ReduceProd", "Neg"}

// shapeInputs are the inputs that are shapes, sizes or bounds, by operator.
var shapeInputs = map[string][]int{"Reshape": {1}, "Expand": {1}, "ConstantOfShape": {0}, "Slice": {1, 2}, "Resize": {3}, "Tile": {1}, "Split": {1}, "Pad": {1}}

// calculates reports whether a size that is read at u comes to be a number that
// values depend on, and not only shapes.
func calculates(u onnx.Use, seen map[*onnx.Node]bool) bool {
	n := u.Node
	if seen[n] || slices.Contains(shapeInputs[n.Op], u.Index) {
		return false
	}
	seen[n] = true
	if !slices.Contains(sizeArithmetic, n.Op) && !(n.Is("Cast") && onnx.DType(n.Int("to", 0)).IsInt()) {
		return true
	}
	for _, v := range n.Outputs() {
		if v == nil {
			continue
		}
		if v.IsOutput() || slices.ContainsFunc(v.Uses(), func(w onnx.Use) bool { return calculates(w, seen) }) {
			return true
		}
	}
	return false
}

package fuse

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// fixDims gives symbolic dimensions of the inputs their sizes. The types that
// the model states for other values may be of any size before, and are
// forgotten; the outputs keep what stays true.
func fixDims(m *onnx.Model, dims map[string]int64) error {
	if len(dims) == 0 {
		return nil
	}
	used := map[string]bool{}
	var known []string
	for _, v := range append(slices.Clone(m.Graph.Inputs()), m.Graph.Outputs()...) {
		if !v.Type.IsTensor() || v.Type.Shape == nil {
			continue
		}
		shape := slices.Clone(v.Type.Shape)
		for i, d := range shape {
			if d.Param == "" {
				continue
			}
			known = append(known, d.Param)
			if n, ok := dims[d.Param]; ok && n > 0 {
				shape[i] = onnx.Dim{Value: n, Denotation: d.Denotation}
				used[d.Param] = true
			}
		}
		v.Type = v.Type.WithShape(shape)
	}
	for _, name := range slices.Sorted(maps.Keys(dims)) {
		if n := dims[name]; n < 1 {
			return fmt.Errorf("dimension %q cannot be %d; give a positive size", name, n)
		}
		if !used[name] {
			slices.Sort(known)
			return fmt.Errorf("no input or output has a dimension called %q; there are: %s", name, strings.Join(slices.Compact(known), ", "))
		}
	}
	return nil
}

// fixShapes gives inputs whole shapes, by name: also dimensions without a name
// and inputs without a shape. A size of −1 leaves a dimension as it is. A symbol
// that this settles gets the same size everywhere.
func fixShapes(m *onnx.Model, shapes map[string][]int64) error {
	symbols := map[string]int64{}
	for _, name := range slices.Sorted(maps.Keys(shapes)) {
		i := slices.IndexFunc(m.Graph.Inputs(), func(v *onnx.Value) bool { return v.Name() == name })
		if i < 0 {
			return fmt.Errorf("input shape of %q: the model has no input of that name; there are: %s", name, strings.Join(inputNames(m), ", "))
		}
		if err := fixShape(m.Graph.Inputs()[i], shapes[name], symbols); err != nil {
			return fmt.Errorf("input shape of %q: %w", name, err)
		}
	}
	return fixDims(m, symbols)
}

// fixShape gives input v the sizes of want and notes what symbols they settle.
func fixShape(v *onnx.Value, want []int64, symbols map[string]int64) error {
	if v.Type != nil && !v.Type.IsTensor() {
		return fmt.Errorf("it is %v, not a tensor", v.Type)
	}
	have := v.Shape()
	if have == nil {
		have = make(onnx.Shape, len(want))
		for i := range have {
			have[i] = onnx.Symbol("")
		}
	}
	if len(have) != len(want) {
		return fmt.Errorf("%d sizes for the %d dimensions of %v", len(want), len(have), have)
	}
	shape := slices.Clone(have)
	for i, d := range have {
		n, settled := symbols[d.Param]
		switch {
		case want[i] == -1:
			continue
		case want[i] < 1:
			return fmt.Errorf("dimension %d cannot be %d; give a positive size, or -1 to leave it", i, want[i])
		case d.Known() && d.Value != want[i]:
			return fmt.Errorf("dimension %d is %d already, not %d", i, d.Value, want[i])
		case opset.Named(d) && settled && n != want[i]:
			return fmt.Errorf("%q cannot be both %d and %d", d.Param, n, want[i])
		case opset.Named(d):
			symbols[d.Param] = want[i]
		default:
			shape[i] = onnx.Dim{Value: want[i], Denotation: d.Denotation}
		}
	}
	elem := onnx.Undefined
	if v.Type != nil {
		elem = v.Type.Elem
	}
	t := onnx.TensorType(elem, shape)
	if v.Type != nil {
		t = v.Type.WithShape(shape)
	}
	v.Type = t
	return nil
}

func inputNames(m *onnx.Model) []string {
	var out []string
	for _, v := range m.Graph.Inputs() {
		out = append(out, v.Name())
	}
	return out
}

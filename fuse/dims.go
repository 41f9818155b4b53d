package fuse

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
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
	for name, n := range dims {
		if n < 1 {
			return fmt.Errorf("dimension %q cannot be %d; give a positive size", name, n)
		}
		if !used[name] {
			slices.Sort(known)
			return fmt.Errorf("no input or output has a dimension called %q; there are: %s", name, strings.Join(slices.Compact(known), ", "))
		}
	}
	return nil
}

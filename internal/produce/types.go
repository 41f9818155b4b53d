package produce

import "github.com/lapidary-ml/lapidary/internal/onnx"

// untyped lists the values of m that state no type. Rewrites find theirs there, by
// inference; a model that is only touched here and there must not grow by them.
func untyped(m *onnx.Model) (out []*onnx.Value) {
	for _, g := range m.Graphs() {
		for v := range g.Values() {
			if v.Type == nil {
				out = append(out, v)
			}
		}
	}
	return out
}

// forget takes the types again from values that had none.
func forget(list []*onnx.Value) {
	for _, v := range list {
		if v.Const == nil && !v.IsOutput() {
			v.Type = nil
		}
	}
}

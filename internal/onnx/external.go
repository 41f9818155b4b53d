package onnx

import (
	"slices"
	"strings"
)

// ExternalFiles returns the files outside the model's own that hold its tensors, each
// once and sorted, as the model names them: relative to its folder, with slashes. They
// stay valid when the model is closed.
func (m *Model) ExternalFiles() []string {
	seen := map[string]bool{}
	add := func(t *Tensor) {
		if t != nil && t.External != nil {
			seen[t.External.Location] = true
		}
	}
	sparse := func(s *SparseTensor) {
		if s != nil {
			add(s.Values)
			add(s.Indices)
		}
	}
	for _, g := range m.Graphs() {
		for _, v := range g.Initializers() {
			add(v.Const)
		}
		for _, v := range g.SparseInitializers() {
			sparse(v.Sparse)
		}
		for n := range g.Nodes() {
			for _, a := range n.Attrs {
				add(a.T)
				sparse(a.Sparse)
				for _, t := range a.Tensors {
					add(t)
				}
				for _, s := range a.Sparses {
					sparse(s)
				}
			}
		}
	}
	out := make([]string, 0, len(seen))
	for name := range seen {
		out = append(out, strings.Clone(name))
	}
	slices.Sort(out)
	return out
}

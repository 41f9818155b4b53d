package onnx

import "slices"

// Distinguish gives fresh names to the values of subgraph g, and of the graphs
// below it, whose names a graph around g uses too: what is copied from another
// place must not hide what is visible in its new one.
func (m *Model) Distinguish(g *Graph) {
	taken := map[string]bool{}
	for h := g.Parent(); h != nil; h = h.Parent() {
		for v := range h.Values() {
			taken[v.name] = true
		}
	}
	for work := []*Graph{g}; len(work) > 0; {
		h := work[len(work)-1]
		work = work[:len(work)-1]
		for v := range h.Values() {
			if v.graph == h && taken[v.name] {
				v.rename(m.Fresh(v.name))
			}
		}
		for n := h.first; n != nil; n = n.next {
			work = append(work, n.Subgraphs()...)
		}
	}
}

// DistinguishAll gives fresh names to the values of subgraphs whose names are
// those of other values of m, as those in two branches of an If may be: then a
// name tells a value. The values of the main graph and of functions keep theirs,
// and so do the inputs and outputs of graphs that an operator of another domain
// holds, which may know them by name.
func (m *Model) DistinguishAll() {
	seen := map[string]bool{}
	for _, g := range m.Graphs() {
		if g.InFunction() {
			continue
		}
		known := g.knownByName()
		for v := range g.Values() {
			if v.graph != g {
				continue
			}
			if seen[v.name] && !known[v] {
				v.rename(m.Fresh(v.name))
			}
			seen[v.name] = true
		}
	}
}

// knownByName returns the inputs and outputs of a graph that an operator of
// another domain than the standard holds; nil of other graphs.
func (g *Graph) knownByName() map[*Value]bool {
	if n := g.Owner(); n == nil || NormalDomain(n.Domain) == "" {
		return nil
	}
	out := map[*Value]bool{}
	for _, v := range slices.Concat(g.Inputs(), g.Outputs()) {
		out[v] = true
	}
	return out
}

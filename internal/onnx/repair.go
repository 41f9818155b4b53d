package onnx

import "fmt"

// runtimeDomains are operator domains that runtimes register by themselves, so
// that models without their import load all the same. Of the standard operators
// it is the latest version that is also in other hands.
var runtimeDomains = map[string]int64{"": 23, "com.microsoft": 1, "ai.onnx.ml": 3, "com.microsoft.nchwc": 1}

// Repair mends what runtimes tolerate but [Model.Check] refuses: nodes out of
// order, missing or repeated imports of well-known operator domains, and
// constants defined twice. It returns a notice for each kind of repair, and
// fails only where the nodes form a cycle.
func (m *Model) Repair() ([]string, error) {
	var notices []string
	for _, g := range m.Graphs() {
		if n := g.unifyConstants(); n > 0 {
			notices = append(notices, fmt.Sprintf("graph %q defined %d constants again under the same name; kept the last of each, as the runtime does", g.Name, n))
		}
	}
	if moved, err := m.Sort(); err != nil {
		return nil, err
	} else if moved {
		notices = append(notices, "nodes were not in execution order; sorted them")
	}
	if m.mergeImports() {
		notices = append(notices, "an operator domain was imported several times; kept the highest version")
	}
	for _, d := range m.missingDomains() {
		m.ImportOpset(d, runtimeDomains[d])
		notices = append(notices, fmt.Sprintf("operator domain %q was not imported; imported version %d", d, runtimeDomains[d]))
	}
	return notices, nil
}

// missingDomains returns the well-known domains that nodes use but m does not import.
func (m *Model) missingDomains() []string {
	var out []string
	seen := map[string]bool{}
	for _, g := range m.Graphs() {
		if g.InFunction() {
			continue
		}
		for n := g.first; n != nil; n = n.next {
			_, known := runtimeDomains[n.Domain]
			if known && !seen[n.Domain] && m.OpsetVersion(n.Domain) == 0 {
				out = append(out, n.Domain)
			}
			seen[n.Domain] = true
		}
	}
	return out
}

// mergeImports leaves one import of each operator domain, that of the highest version.
func (m *Model) mergeImports() bool {
	var kept []Opset
	at := map[string]int{}
	for _, o := range m.Opsets {
		d := NormalDomain(o.Domain)
		if i, seen := at[d]; seen {
			kept[i].Version = max(kept[i].Version, o.Version)
			continue
		}
		at[d] = len(kept)
		kept = append(kept, o)
	}
	merged := len(kept) < len(m.Opsets)
	m.Opsets = kept
	return merged
}

// unifyConstants makes one of the constants of g, initializers or Constant
// nodes, that have the same name: the last of them, Constant nodes counting
// after initializers, which is the one that ONNX Runtime uses. It returns how
// many it dropped.
func (g *Graph) unifyConstants() int {
	last := map[string]*Value{}
	var dropped []*Value
	note := func(v *Value) {
		if old := last[v.name]; old != nil && !old.input {
			dropped = append(dropped, old)
		}
		last[v.name] = v
	}
	for _, v := range g.inits {
		note(v)
	}
	for n := g.first; n != nil; n = n.next {
		if n.Is("Constant") && len(n.outputs) == 1 && n.outputs[0] != nil {
			note(n.outputs[0])
		}
	}
	gone := map[*Value]bool{}
	for _, v := range dropped {
		gone[v] = true
		v.yield(last[v.name])
	}
	if len(gone) == 0 {
		return 0
	}
	var kept []*Value
	for _, v := range g.inits {
		if !gone[v] {
			kept = append(kept, v)
		}
	}
	g.inits = kept
	return len(gone)
}

// yield lets everything that reads v, graph outputs included, read w, and takes
// the node that makes v out of its graph.
func (v *Value) yield(w *Value) {
	relist(v, w)
	w.takeUses(v)
	if v.producer != nil {
		v.graph.remove(v.producer)
	}
}

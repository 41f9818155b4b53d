package onnx

import "fmt"

// runtimeDomains are operator domains that runtimes register by themselves, so
// that models without their import load all the same.
var runtimeDomains = map[string]int64{"com.microsoft": 1, "ai.onnx.ml": 3, "com.microsoft.nchwc": 1}

// Repair mends what runtimes tolerate but [Model.Check] refuses: nodes out of
// order, missing imports of well-known operator domains, and constants given
// twice with the same content. It returns a notice for each kind of repair, and
// fails only where the nodes form a cycle.
func (m *Model) Repair() ([]string, error) {
	var notices []string
	if moved, err := m.Sort(); err != nil {
		return nil, err
	} else if moved {
		notices = append(notices, "nodes were not in execution order; sorted them")
	}
	for _, d := range m.missingDomains() {
		m.ImportOpset(d, runtimeDomains[d])
		notices = append(notices, fmt.Sprintf("operator domain %q was not imported; imported version %d", d, runtimeDomains[d]))
	}
	for _, g := range m.Graphs() {
		if n := g.dropTwins(); n > 0 {
			notices = append(notices, fmt.Sprintf("graph %q defined %d constants twice; kept the first of each", g.Name, n))
		}
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

// dropTwins removes constants of a name that an earlier constant of the same
// content has, and which therefore nothing reads.
func (g *Graph) dropTwins() int {
	first := map[string]*Value{}
	kept := g.inits[:0:0]
	for _, v := range g.inits {
		f := first[v.name]
		if f == nil {
			first[v.name] = v
		}
		if f != nil && v.Dead() && !v.input && sameContent(f.Const, v.Const) {
			continue
		}
		kept = append(kept, v)
	}
	dropped := len(g.inits) - len(kept)
	g.inits = kept
	return dropped
}

func sameContent(a, b *Tensor) bool {
	if a.DType != b.DType || a.DType == String || len(a.Shape) != len(b.Shape) {
		return false
	}
	for i := range a.Shape {
		if a.Shape[i] != b.Shape[i] {
			return false
		}
	}
	x, err1 := a.Bytes()
	y, err2 := b.Bytes()
	return err1 == nil && err2 == nil && string(x) == string(y)
}

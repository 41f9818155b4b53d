package onnx

// Sweep removes every node of g whose outputs nobody reads, then every constant
// that nobody reads, and repeats until nothing changes; subgraphs are swept
// too. It returns the number of nodes removed. Inputs are kept, and so are
// their defaults. Nodes without any output are kept: they act by side effect.
func (g *Graph) Sweep() int {
	removed := 0
	for n := g.last; n != nil; {
		prev := n.prev
		if n.dead() {
			g.remove(n)
			removed++
		} else {
			for _, sub := range n.Subgraphs() {
				removed += sub.Sweep()
			}
		}
		n = prev
	}
	g.inits = keepLive(g.inits)
	g.sparse = keepLive(g.sparse)
	return removed
}

// SweepFrom removes n if it is dead, then the producers that this leaves dead,
// and so on; it returns the nodes removed. Constants are left to [Graph.Sweep].
func (g *Graph) SweepFrom(n *Node) []*Node {
	var gone []*Node
	for work := []*Node{n}; len(work) > 0; {
		n := work[len(work)-1]
		work = work[:len(work)-1]
		if n == nil || n.graph == nil || !n.dead() {
			continue
		}
		g, captured := n.graph, n.captures()
		g.remove(n)
		gone = append(gone, n)
		for _, v := range append(captured, n.inputs...) {
			// What the subgraphs of n define went with n.
			if v != nil && v.graph.Encloses(g) {
				work = append(work, v.producer)
			}
		}
	}
	return gone
}

func (n *Node) dead() bool {
	seen := false
	for _, v := range n.outputs {
		if v == nil {
			continue
		}
		if seen = true; !v.Dead() {
			return false
		}
	}
	return seen
}

// captures returns the outer values that the subgraphs of n read.
func (n *Node) captures() []*Value {
	var out []*Value
	for work := n.Subgraphs(); len(work) > 0; {
		g := work[len(work)-1]
		work = work[:len(work)-1]
		for _, v := range g.outputs {
			if v.graph != g {
				out = append(out, v)
			}
		}
		for m := g.first; m != nil; m = m.next {
			for _, v := range m.inputs {
				if v != nil && v.graph != g {
					out = append(out, v)
				}
			}
			work = append(work, m.Subgraphs()...)
		}
	}
	return out
}

// Captures returns the values of enclosing graphs that the subgraphs of n read,
// including values defined in intermediate subgraphs of n.
func (n *Node) Captures() []*Value { return n.captures() }

func keepLive(list []*Value) []*Value {
	out := list[:0:0]
	for _, v := range list {
		if v.input || !v.Dead() {
			out = append(out, v)
		}
	}
	return out
}

package onnx

import "fmt"

// Sort puts the nodes of every graph into an order in which each value is
// computed before it is read, by the nodes themselves or by subgraphs they
// hold. Graphs already in such an order are left as they are; otherwise nodes
// move no further than needed. It reports whether anything moved, and fails on
// a cycle.
func (m *Model) Sort() (bool, error) {
	moved := false
	for _, g := range m.Graphs() {
		did, err := g.sort()
		if err != nil {
			return moved, err
		}
		moved = moved || did
	}
	return moved, nil
}

func (g *Graph) sort() (bool, error) {
	if g.sorted() {
		return false, nil
	}
	order, err := g.order()
	if err != nil {
		return false, err
	}
	g.touch()
	g.first, g.last, g.count = nil, nil, 0
	for _, n := range order {
		g.link(n, g.last, nil)
	}
	return true, nil
}

// needs returns the nodes of g whose outputs n or its subgraphs read.
func (g *Graph) needs(n *Node) []*Node {
	var out []*Node
	add := func(v *Value) {
		if v != nil && v.graph == g && v.producer != nil && v.producer.graph == g {
			out = append(out, v.producer)
		}
	}
	for _, v := range n.inputs {
		add(v)
	}
	for _, v := range n.captures() {
		add(v)
	}
	return out
}

func (g *Graph) sorted() bool {
	seen := make(map[*Node]bool, g.count)
	for n := g.first; n != nil; n = n.next {
		for _, p := range g.needs(n) {
			if !seen[p] {
				return false
			}
		}
		seen[n] = true
	}
	return true
}

// order visits nodes in their present order, each after what it needs.
func (g *Graph) order() ([]*Node, error) {
	const visiting, done = 1, 2
	state := make(map[*Node]int, g.count)
	order := make([]*Node, 0, g.count)
	type frame struct {
		n     *Node
		needs []*Node
	}
	for root := g.first; root != nil; root = root.next {
		if state[root] != 0 {
			continue
		}
		state[root] = visiting
		stack := []frame{{root, g.needs(root)}}
		for len(stack) > 0 {
			top := &stack[len(stack)-1]
			if len(top.needs) == 0 {
				state[top.n] = done
				order = append(order, top.n)
				stack = stack[:len(stack)-1]
				continue
			}
			p := top.needs[0]
			top.needs = top.needs[1:]
			switch state[p] {
			case visiting:
				return nil, fmt.Errorf("graph %q: %v takes part in a cycle", g.Name, p)
			case 0:
				state[p] = visiting
				stack = append(stack, frame{p, g.needs(p)})
			}
		}
	}
	return order, nil
}

// Reorder puts the nodes of g into the given order, which must have each node of
// g once and each behind the nodes whose outputs it or its subgraphs read.
func (g *Graph) Reorder(order []*Node) error {
	at := make(map[*Node]int, len(order))
	for i, n := range order {
		if n.graph != g {
			return fmt.Errorf("%v is not in graph %q", n, g.Name)
		}
		at[n] = i
	}
	if len(at) != g.count {
		return fmt.Errorf("graph %q has %d nodes, and %d are given", g.Name, g.count, len(at))
	}
	for _, n := range order {
		for _, p := range g.needs(n) {
			if at[p] >= at[n] {
				return fmt.Errorf("graph %q: %v must stand behind %v", g.Name, n, p)
			}
		}
	}
	g.touch()
	g.first, g.last, g.count = nil, nil, 0
	for _, n := range order {
		g.link(n, g.last, nil)
	}
	return nil
}

// Needs returns the nodes of n's graph whose outputs n or its subgraphs read;
// one that is read several times comes as often.
func (n *Node) Needs() []*Node { return n.graph.needs(n) }

package onnx

import "slices"

// Clone returns a copy of m whose graphs can be edited apart from m's. Tensors
// are shared, since they never change; they stay valid until m is closed, and
// closing the copy does nothing.
func (m *Model) Clone() *Model {
	c := *m
	c.closer, c.names, c.next, c.edits = nil, nil, nil, 0
	c.Opsets, c.Meta = slices.Clone(m.Opsets), slices.Clone(m.Meta)
	cl := cloner{own: map[*Value]*Value{}}
	c.Functions, c.functions = nil, nil
	c.SetGraph(cl.graph(m.Graph))
	for _, f := range m.Functions {
		g := *f
		g.Body, g.Opsets = cl.graph(f.Body), slices.Clone(f.Opsets)
		c.AddFunction(&g)
	}
	return &c
}

// CloneNodeInto returns a copy of n, not in a graph, that reads inputs and has
// outputs of the given names; subgraphs are copied, and what they capture is
// looked up in captured first, else kept.
func CloneNodeInto(n *Node, inputs []*Value, outputs []string, captured map[*Value]*Value) *Node {
	cl := cloner{own: map[*Value]*Value{}, around: captured}
	return cl.node(n, inputs, outputs)
}

// CloneGraph returns a copy of g, not in a model. Values of enclosing graphs
// that it captures are replaced as captured says, else kept.
func CloneGraph(g *Graph, captured map[*Value]*Value) *Graph {
	cl := cloner{own: map[*Value]*Value{}, around: captured}
	return cl.graph(g)
}

// cloner maps each value of the original to its copy. What it did not copy
// itself is looked up around it: who copies thousands of nodes one by one has one
// map for all.
type cloner struct{ own, around map[*Value]*Value }

// copied returns what stands for v, nil where nothing does.
func (cl cloner) copied(v *Value) *Value {
	if w, ok := cl.own[v]; ok {
		return w
	}
	return cl.around[v]
}

func (cl cloner) value(v *Value, g *Graph) *Value {
	c := *v
	c.graph, c.producer, c.uses, c.listed = g, nil, nil, nil
	cl.own[v] = &c
	return &c
}

func (cl cloner) graph(g *Graph) *Graph {
	c := &Graph{Name: g.Name, Doc: g.Doc, Meta: slices.Clone(g.Meta), Quant: g.Quant, Unknown: g.Unknown}
	for _, v := range g.Inputs() {
		c.inputs = append(c.inputs, cl.value(v, c))
	}
	for _, v := range g.inits {
		if !v.input {
			cl.value(v, c)
		}
		c.inits = append(c.inits, cl.copied(v))
	}
	for _, v := range g.sparse {
		c.sparse = append(c.sparse, cl.value(v, c))
	}
	for _, v := range g.orphans {
		c.orphans = append(c.orphans, cl.value(v, c))
	}
	cl.nodes(g, c)
	for _, v := range g.outputs {
		c.AddOutput(cl.reader(v, g, c))
	}
	return c
}

// nodes copies all nodes: first the outputs, so that nodes may be in any order.
func (cl cloner) nodes(g, c *Graph) {
	for n := g.first; n != nil; n = n.next {
		for _, v := range n.outputs {
			if v != nil {
				cl.value(v, c)
			}
		}
	}
	for n := g.first; n != nil; n = n.next {
		m := &Node{}
		cl.describe(m, n)
		for _, v := range n.outputs {
			if v == nil {
				m.outputs = append(m.outputs, nil)
				continue
			}
			w := cl.copied(v)
			w.producer = m
			m.outputs = append(m.outputs, w)
		}
		for _, v := range n.inputs {
			if v != nil {
				v = cl.reader(v, g, c)
			}
			m.inputs = append(m.inputs, v)
		}
		c.Append(m)
	}
}

// reader returns what the copy c of g reads where g reads v: a value of g that
// nothing defines is copied when it is first met.
func (cl cloner) reader(v *Value, g, c *Graph) *Value {
	if w := cl.copied(v); w != nil {
		return w
	}
	if v.graph == g {
		return cl.value(v, c)
	}
	return v
}

func (cl cloner) describe(m, n *Node) {
	m.Name, m.Domain, m.Op, m.Overload, m.Doc = n.Name, n.Domain, n.Op, n.Overload, n.Doc
	m.Meta, m.Devices, m.Unknown = slices.Clone(n.Meta), n.Devices, n.Unknown
	for _, a := range n.Attrs {
		b := *a
		if a.G != nil {
			b.G = cl.graph(a.G)
		}
		if a.Graphs != nil {
			b.Graphs = nil
			for _, g := range a.Graphs {
				b.Graphs = append(b.Graphs, cl.graph(g))
			}
		}
		m.Attrs = append(m.Attrs, &b)
	}
}

func (cl cloner) node(n *Node, inputs []*Value, outputs []string) *Node {
	m := NewNode(n.Op, inputs, outputs...)
	cl.describe(m, n)
	return m
}

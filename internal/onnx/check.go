package onnx

import (
	"errors"
	"fmt"
	"slices"
)

// Problem is one violation of the ONNX IR specification.
type Problem struct {
	Where string // such as: graph "main": node "a" (Conv): input 1 "w"
	What  string
}

func (p Problem) Error() string { return p.Where + ": " + p.What }

// maxProblems bounds how many problems of one model are collected.
const maxProblems = 20

// Check verifies the structure of m: every name defined once and before it is
// read, in this graph or around it; tensors as long as their type and shape
// say; attributes typed and unique; opsets imported; local functions not
// recursive. It reads no weights. The error joins the first [Problem]s found.
func (m *Model) Check() error {
	c := &checker{m: m, pos: map[*Node]int{}}
	if m.Graph == nil {
		return Problem{"model", "there is no graph"}
	}
	for _, g := range m.Graphs() {
		c.positions(g)
	}
	c.graph(m.Graph, m.Opsets)
	for _, f := range m.Functions {
		c.function(f)
	}
	if c.recursion(); len(c.found) == 0 {
		c.expansion()
	}
	return errors.Join(c.found...)
}

// checker collects problems. pos gives each node's place in its graph.
type checker struct {
	m     *Model
	pos   map[*Node]int
	found []error
}

// place is where something is wrong; it is written out only where it is.
type place struct {
	text string
	node *Node // nil: the graph itself
}

func (p place) String() string {
	if p.node == nil {
		return p.text
	}
	return p.text + ": " + p.node.String()
}

// slot is an input or output with its index.
type slot struct {
	kind  string
	index int
}

func (s slot) String() string { return fmt.Sprintf("%s %d", s.kind, s.index) }

func (c *checker) add(where place, format string, args ...any) {
	if len(c.found) < maxProblems {
		c.found = append(c.found, Problem{where.String(), fmt.Sprintf(format, args...)})
	}
}

func (c *checker) full() bool { return len(c.found) >= maxProblems }

func (c *checker) positions(g *Graph) {
	i := 0
	for n := g.first; n != nil; n = n.next {
		c.pos[n] = i
		i++
	}
}

func (c *checker) function(f *Function) {
	if f.Name == "" {
		c.add(place{text: "function"}, "it has no name")
	}
	if f.Body == nil {
		c.add(place{text: fmt.Sprintf("function %q", f.Name)}, "it has no body")
		return
	}
	opsets := f.Opsets
	if len(opsets) == 0 {
		opsets = c.m.Opsets
	}
	if n := len(f.Body.inits) + len(f.Body.sparse); n > 0 {
		c.add(place{text: fmt.Sprintf("function %q", f.Name)}, "it has %d initializers; constants of a function are nodes", n)
	}
	c.graph(f.Body, opsets)
}

// graph checks g and the subgraphs below it.
func (c *checker) graph(g *Graph, opsets []Opset) {
	where := place{text: fmt.Sprintf("graph %q", g.Name)}
	c.names(g, where)
	for _, v := range g.inits {
		if err := v.Const.check(); err != nil {
			c.add(where, "%v", err)
		}
	}
	for n := g.first; n != nil && !c.full(); n = n.next {
		c.node(g, n, where, opsets)
		for _, sub := range n.Subgraphs() {
			c.graph(sub, opsets)
		}
	}
	for i, v := range g.outputs {
		c.readable(g, v, nil, where, slot{"output", i})
	}
}

// names checks that each name is defined once.
func (c *checker) names(g *Graph, where place) {
	seen := map[string]bool{}
	for v := range g.Values() {
		switch {
		case v.name == "":
			c.add(where, "a value has no name")
		case seen[v.name]:
			c.add(where, "value %q is defined twice", v.name)
		}
		seen[v.name] = true
	}
}

func (c *checker) node(g *Graph, n *Node, where place, opsets []Opset) {
	where.node = n
	if n.Op == "" {
		c.add(where, "it has no operator type")
	}
	if opsetVersion(opsets, n.Domain) == 0 && c.m.FindFunction(n) == nil {
		c.add(where, "domain %q is not among the opset imports", n.Domain)
	}
	for i, v := range n.inputs {
		if v == nil {
			continue
		}
		if !v.usedBy(n, i) {
			c.add(where, "input %d %q does not know its reader", i, v.name)
		}
		c.readable(g, v, n, where, slot{"input", i})
	}
	for i, v := range n.outputs {
		if v != nil && (v.producer != n || v.index != i || v.graph != g) {
			c.add(where, "output %d %q does not know its producer", i, v.name)
		}
	}
	c.attrs(n, where)
}

// readable checks that v is computed before reader, a node of g or nil for an
// output of g, can read it.
func (c *checker) readable(g *Graph, v *Value, reader *Node, where place, s slot) {
	for h := g; ; {
		if v.graph == h {
			c.ordered(v, reader, where, s)
			return
		}
		if h == nil {
			c.add(where, "%v %q belongs to graph %q, which does not enclose this one", s, v.name, v.graph.name())
			return
		}
		reader, h = h.owner, h.Parent()
	}
}

func (g *Graph) name() string {
	if g == nil {
		return ""
	}
	return g.Name
}

// ordered checks that v exists when reader, a node of v's graph, runs.
func (c *checker) ordered(v *Value, reader *Node, where place, s slot) {
	switch {
	case v.input || v.Const != nil || v.Sparse != nil:
	case v.producer == nil:
		c.add(where, "%v %q is not defined by any input, constant or node", s, v.name)
	case v.producer.graph != v.graph:
		c.add(where, "%v %q is computed by a node that is not in the graph", s, v.name)
	case reader != nil && c.pos[v.producer] >= c.pos[reader]:
		c.add(where, "%v %q is computed only later, by %v", s, v.name, v.producer)
	}
}

func (c *checker) attrs(n *Node, where place) {
	c.attrsOnce(n, where)
	for _, a := range n.Attrs {
		switch {
		case a.Name == "":
			c.add(where, "an attribute has no name")
		case a.Type == AttrUndefined && a.Ref == "":
			c.add(where, "attribute %q has no type", a.Name)
		case a.Type == AttrTensor && a.Ref == "" && a.T != nil:
			if err := a.T.check(); err != nil {
				c.add(where, "attribute %q: %v", a.Name, err)
			}
		case a.Type == AttrGraph && a.Ref == "" && a.G == nil:
			c.add(where, "attribute %q has no graph", a.Name)
		}
	}
}

// attrsOnce reports attributes of one name; of few, by comparing each with each.
func (c *checker) attrsOnce(n *Node, where place) {
	const few = 16
	var seen map[string]bool
	if len(n.Attrs) > few {
		seen = make(map[string]bool, len(n.Attrs))
	}
	for i, a := range n.Attrs {
		twice := seen[a.Name]
		if seen != nil {
			seen[a.Name] = true
		} else {
			twice = slices.ContainsFunc(n.Attrs[:i], func(b *Attr) bool { return a.Name == b.Name })
		}
		if twice {
			c.add(where, "attribute %q is given twice", a.Name)
		}
	}
}

// recursion reports local functions that call themselves, directly or not.
func (c *checker) recursion() {
	const visiting, done = 1, 2
	state := map[*Function]int{}
	type frame struct {
		f     *Function
		calls []*Function
	}
	for _, root := range c.m.Functions {
		if state[root] != 0 {
			continue
		}
		state[root] = visiting
		stack := []frame{{root, c.m.calledIn(root)}}
		for len(stack) > 0 {
			top := &stack[len(stack)-1]
			if len(top.calls) == 0 {
				state[top.f] = done
				stack = stack[:len(stack)-1]
				continue
			}
			next := top.calls[0]
			top.calls = top.calls[1:]
			switch state[next] {
			case visiting:
				c.add(place{text: fmt.Sprintf("function %q", next.Name)}, "it calls itself")
				return
			case 0:
				state[next] = visiting
				stack = append(stack, frame{next, c.m.calledIn(next)})
			}
		}
	}
}

// calledIn returns the local functions that f's body calls.
func (m *Model) calledIn(f *Function) []*Function {
	if f.Body == nil {
		return nil
	}
	var out []*Function
	for work := []*Graph{f.Body}; len(work) > 0; {
		g := work[len(work)-1]
		work = work[:len(work)-1]
		for n := g.first; n != nil; n = n.next {
			if callee := m.FindFunction(n); callee != nil {
				out = append(out, callee)
			}
			work = append(work, n.Subgraphs()...)
		}
	}
	return out
}

package onnx

import (
	"fmt"
	"slices"
)

// Append inserts n at the end of g.
func (g *Graph) Append(n *Node) { g.insert(n, g.last, nil) }

// InsertBefore inserts n in front of at, which must be in g.
func (g *Graph) InsertBefore(n, at *Node) { g.insert(n, at.prev, at) }

// InsertAfter inserts n behind at, which must be in g.
func (g *Graph) InsertAfter(n, at *Node) { g.insert(n, at, at.next) }

// insert links n between prev and next and makes it a reader of its inputs.
func (g *Graph) insert(n, prev, next *Node) {
	if n.graph != nil {
		panic("onnx: " + n.String() + " is already in a graph")
	}
	n.graph = g
	g.touch()
	g.link(n, prev, next)
	for i, v := range n.inputs {
		if v != nil {
			v.addUse(n, i)
		}
	}
	for _, v := range n.outputs {
		if v != nil {
			v.graph = g
			g.reserve(v.name)
		}
	}
	for _, sub := range n.Subgraphs() {
		sub.adopt(g.model, n)
	}
}

func (g *Graph) link(n, prev, next *Node) {
	n.prev, n.next = prev, next
	if prev != nil {
		prev.next = n
	} else {
		g.first = n
	}
	if next != nil {
		next.prev = n
	} else {
		g.last = n
	}
	g.count++
}

func (g *Graph) unlink(n *Node) {
	if n.prev != nil {
		n.prev.next = n.next
	} else {
		g.first = n.next
	}
	if n.next != nil {
		n.next.prev = n.prev
	} else {
		g.last = n.prev
	}
	g.count--
}

// Remove takes n out of its graph. It fails if anything reads an output of n.
func (g *Graph) Remove(n *Node) error {
	if n.graph != g {
		return fmt.Errorf("%v is not in graph %q", n, g.Name)
	}
	for _, v := range n.outputs {
		if v != nil && !v.Dead() {
			return fmt.Errorf("%v: output %q is still read", n, v.name)
		}
	}
	g.remove(n)
	return nil
}

// remove unlinks n and releases what it and its subgraphs read.
func (g *Graph) remove(n *Node) {
	g.touch()
	g.unlink(n)
	n.graph, n.prev, n.next = nil, nil, nil
	n.release()
	for _, sub := range n.Subgraphs() {
		sub.releaseCaptures()
	}
}

func (n *Node) release() {
	for i, v := range n.inputs {
		if v != nil {
			v.dropUse(n, i)
		}
	}
}

// releaseCaptures drops every reading that g and the graphs below make.
func (g *Graph) releaseCaptures() {
	for work := []*Graph{g}; len(work) > 0; {
		h := work[len(work)-1]
		work = work[:len(work)-1]
		for i, v := range h.outputs {
			v.unlist(h, i)
		}
		for n := h.first; n != nil; n = n.next {
			n.release()
			work = append(work, n.Subgraphs()...)
		}
	}
}

// MoveBefore moves n in front of at, in the same graph.
func (g *Graph) MoveBefore(n, at *Node) {
	if n == at || n.graph != g || at.graph != g {
		return
	}
	g.touch()
	g.unlink(n)
	g.link(n, at.prev, at)
}

// SetInput makes n read v as input i, extending the inputs with omitted ones
// if needed; v nil omits the input.
func (n *Node) SetInput(i int, v *Value) {
	for len(n.inputs) <= i {
		n.inputs = append(n.inputs, nil)
	}
	if n.graph != nil {
		n.graph.touch()
		if old := n.inputs[i]; old != nil {
			old.dropUse(n, i)
		}
		if v != nil {
			v.addUse(n, i)
		}
	}
	n.inputs[i] = v
}

// TrimInputs removes omitted inputs from the end of n's inputs.
func (n *Node) TrimInputs() {
	for len(n.inputs) > 0 && n.inputs[len(n.inputs)-1] == nil {
		n.inputs = n.inputs[:len(n.inputs)-1]
	}
}

// AddOutput appends an output called name to n and returns it.
func (n *Node) AddOutput(name string) *Value {
	v := &Value{name: name, producer: n, index: len(n.outputs), graph: n.graph}
	n.outputs = append(n.outputs, v)
	if n.graph != nil {
		n.graph.touch()
		n.graph.reserve(name)
	}
	return v
}

// DropOutput omits output i of n, which nothing may read.
func (n *Node) DropOutput(i int) error {
	v := n.Output(i)
	if v == nil {
		return nil
	}
	if !v.Dead() {
		return fmt.Errorf("%v: output %q is still read", n, v.name)
	}
	n.graph.touch()
	v.producer = nil
	n.outputs[i] = nil
	for len(n.outputs) > 0 && n.outputs[len(n.outputs)-1] == nil {
		n.outputs = n.outputs[:len(n.outputs)-1]
	}
	return nil
}

// Replace makes every reader of old read v instead. Where old is a graph
// output, v takes over its name and place; that is refused where v cannot:
// where v is a graph input, is itself an output, or is defined in another graph.
func (g *Graph) Replace(old, v *Value) error {
	if old == v {
		return nil
	}
	g.touch()
	if old.IsOutput() {
		if err := takeOutput(old, v); err != nil {
			return err
		}
	}
	v.takeUses(old)
	return nil
}

// takeOutput puts v in old's place among the graph outputs, under old's name.
func takeOutput(old, v *Value) error {
	switch {
	case v.input:
		return fmt.Errorf("output %q cannot be graph input %q", old.name, v.name)
	case v.IsOutput():
		return fmt.Errorf("output %q cannot share the value of output %q", old.name, v.name)
	case v.graph != old.graph:
		return fmt.Errorf("output %q cannot be %q of another graph", old.name, v.name)
	}
	relist(old, v)
	name := old.name
	if m := old.graph.model; m != nil {
		old.name = m.Fresh(name)
	} else {
		old.name = name + "_replaced"
	}
	v.rename(name)
	v.Doc, v.Meta = old.Doc, old.Meta
	if old.Type != nil && v.Const == nil && !v.Type.Contradicts(old.Type) {
		v.Type = old.Type // what the model promises its callers
	}
	return nil
}

// relist puts v in old's place wherever graphs list old as an output: its own,
// or subgraphs.
func relist(old, v *Value) {
	for _, l := range old.listed {
		l.graph.outputs[l.at] = v
		v.list(l.graph, l.at)
	}
	old.listed = nil
}

func (v *Value) rename(name string) {
	v.graph.touch()
	v.name = name
	if v.Const != nil {
		v.Const = v.Const.Renamed(name)
	}
}

// Rename gives v a new name, which must be unused in its scope. Names of graph
// inputs and outputs are fixed.
func (v *Value) Rename(name string) error {
	if v.input || v.IsOutput() {
		return fmt.Errorf("%q is a graph input or output: its name is fixed", v.name)
	}
	v.rename(name)
	if v.graph != nil {
		v.graph.reserve(name)
	}
	return nil
}

// SetConst gives the constant v other content of the same name. It is for
// passes that rewrite weights in place of every reader; a rule makes a new
// constant instead.
func (v *Value) SetConst(t *Tensor) {
	v.graph.touch()
	v.Const = t.Renamed(v.name)
	v.Type = t.Type()
}

// RemoveInput removes v from the inputs of its graph; where v has a default it
// becomes a plain constant, else nothing may read it.
func (g *Graph) RemoveInput(v *Value) error {
	if v.Const == nil && !v.Dead() {
		return fmt.Errorf("input %q is still read", v.name)
	}
	i := g.inputIndex(v)
	if i < 0 {
		return fmt.Errorf("%q is not an input of graph %q", v.name, g.Name)
	}
	g.touch()
	if g.removed == 0 {
		g.inputs = slices.Clone(g.inputs) // a caller may still look at the list as it was
	}
	g.inputs[i] = nil
	g.removed++
	g.hole = i
	v.input = false
	return nil
}

// inputIndex returns where v is among the inputs, −1 where it is not. Whoever
// removes thousands goes through them in order, and finds each at once.
func (g *Graph) inputIndex(v *Value) int {
	if next := g.hole + 1; g.removed > 0 && next < len(g.inputs) && g.inputs[next] == v {
		return next
	}
	return slices.Index(g.inputs, v)
}

// Freeze makes a plain constant of v, an input of g with a default.
func (g *Graph) Freeze(v *Value) error {
	if v.Const == nil {
		return fmt.Errorf("input %q has no default", v.name)
	}
	if err := g.RemoveInput(v); err != nil {
		return err
	}
	v.Type = v.Const.Type()
	return nil
}

// SetOutputs replaces the list of graph outputs.
func (g *Graph) SetOutputs(outs []*Value) {
	g.touch()
	for i, v := range g.outputs {
		v.unlist(g, i)
	}
	g.outputs, g.places = nil, nil
	for _, v := range outs {
		g.AddOutput(v)
	}
}

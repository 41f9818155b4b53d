package onnxtext

import "github.com/lapidary-ml/lapidary/internal/onnx"

// scope maps the names that a graph defines, and knows the scope around it.
type scope struct {
	values map[string]*onnx.Value
	outer  *scope
}

func (s *scope) find(name string) *onnx.Value {
	for ; s != nil; s = s.outer {
		if v := s.values[name]; v != nil {
			return v
		}
	}
	return nil
}

// define makes v visible; the first definition of a name holds.
func (s *scope) define(v *onnx.Value) {
	if _, dup := s.values[v.Name()]; !dup {
		s.values[v.Name()] = v
	}
}

// resolve returns the value called name, one that nothing defines if need be.
func (s *scope) resolve(g *onnx.Graph, name string) *onnx.Value {
	v := s.find(name)
	if v == nil {
		v = g.AddDangling(name)
		s.define(v)
	}
	return v
}

// build links the graph: first all that defines names, so that nodes may come
// in any order, then what reads them.
func (t *graphTree) build(outer *scope) *onnx.Graph {
	g := onnx.NewGraph(t.name)
	g.Doc, g.Meta, g.Quant, g.Unknown = t.notes.doc, t.notes.meta, t.notes.quant, t.notes.unknown
	s := &scope{map[string]*onnx.Value{}, outer}
	for _, in := range t.inputs {
		v := g.AddInput(in.name, in.typ)
		in.describe(v)
		s.define(v)
	}
	t.constants(g, s)
	nodes := make([]*onnx.Node, len(t.nodes))
	for i := range t.nodes {
		nodes[i] = t.nodes[i].shell(s)
		g.Append(nodes[i])
	}
	for i := range t.nodes {
		t.nodes[i].fill(g, nodes[i], s)
	}
	for _, out := range t.outputs {
		v := s.resolve(g, out.name)
		if !t.function && (v.Type == nil || v.Producer() != nil) || out.typ != nil {
			v.Type = out.typ
		}
		out.describe(v)
		g.AddOutput(v)
	}
	t.infos(g, s)
	return g
}

// constants adds the constants and defaults of inputs.
func (t *graphTree) constants(g *onnx.Graph, s *scope) {
	for _, list := range [][]valueTree{t.inputs, t.decls} {
		for _, d := range list {
			if d.tensor == nil {
				continue
			}
			if v := s.values[d.name]; v != nil && v.IsInput() && v.Const == nil {
				g.SetDefault(v, d.tensor)
				continue
			}
			s.define(g.AddInitializer(d.tensor))
		}
	}
	for _, d := range t.decls {
		if d.sparse != nil {
			s.define(g.AddSparse(d.sparse))
		}
	}
}

// infos gives values the types that are declared for them.
func (t *graphTree) infos(g *onnx.Graph, s *scope) {
	for _, d := range t.decls {
		if d.tensor != nil || d.sparse != nil {
			continue
		}
		v := s.values[d.name]
		if v == nil {
			v = g.AddOrphan(d.name, d.typ)
		}
		if v.Type == nil {
			v.Type = d.typ
		}
		d.describe(v)
	}
}

// describe gives v the documentation that the declaration carries.
func (d *valueTree) describe(v *onnx.Value) {
	if d.notes.doc != "" {
		v.Doc = d.notes.doc
	}
	if d.notes.meta != nil {
		v.Meta = d.notes.meta
	}
	if d.notes.unknown != nil {
		v.Unknown = d.notes.unknown
	}
}

// shell makes the node with its outputs.
func (t *nodeTree) shell(s *scope) *onnx.Node {
	n := onnx.NewNode(t.node.Op, nil, t.outputs...)
	n.Name, n.Domain, n.Overload, n.Doc = t.node.Name, t.node.Domain, t.node.Overload, t.node.Doc
	n.Meta, n.Devices, n.Unknown = t.node.Meta, t.node.Devices, t.node.Unknown
	for _, v := range n.Outputs() {
		if v != nil {
			s.define(v)
		}
	}
	return n
}

// fill links the inputs of n, a node of g, and builds its attributes.
func (t *nodeTree) fill(g *onnx.Graph, n *onnx.Node, s *scope) {
	for i, name := range t.inputs {
		var v *onnx.Value
		if name != "" {
			v = s.resolve(g, name)
		}
		n.SetInput(i, v)
	}
	for _, a := range t.attrs {
		for _, sub := range a.graphs {
			body := sub.build(s)
			if a.attr.Type == onnx.AttrGraph {
				a.attr.G = body
			} else {
				a.attr.Graphs = append(a.attr.Graphs, body)
			}
		}
		n.Attrs = append(n.Attrs, a.attr)
	}
}

package fuse

import (
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// splice copies the nodes of body in front of at, under fresh names. args gives
// the values that stand for the inputs of body, nil for an omitted one; attrs
// the values of attributes that the body refers to, where it is a function's.
// It returns what the outputs of body are now.
func splice(at *onnx.Node, body *onnx.Graph, args []*onnx.Value, attrs func(name string) *onnx.Attr) []*onnx.Value {
	s := &splicer{at: at, g: at.Graph(), body: body, attrs: attrs, now: map[*onnx.Value]*onnx.Value{}}
	for i, v := range body.Inputs() {
		if i < len(args) {
			s.now[v] = args[i]
		} else {
			s.now[v] = nil
		}
	}
	for _, v := range body.Initializers() {
		if !v.IsInput() {
			s.now[v] = s.constant(v.Const)
		}
	}
	for n := range body.Nodes() {
		s.node(n)
	}
	out := make([]*onnx.Value, len(body.Outputs()))
	for i, v := range body.Outputs() {
		out[i] = s.value(v)
	}
	return out
}

type splicer struct {
	at    *onnx.Node
	g     *onnx.Graph
	body  *onnx.Graph
	attrs func(name string) *onnx.Attr
	now   map[*onnx.Value]*onnx.Value
}

// value returns what stands for v of the body; values around the body stay.
func (s *splicer) value(v *onnx.Value) *onnx.Value {
	if w, ok := s.now[v]; ok {
		return w
	}
	return v
}

func (s *splicer) constant(t *onnx.Tensor) *onnx.Value { return constBefore(s.at, t) }

// constBefore makes a constant that at can read: in a function, which has no
// initializers, a Constant node.
func constBefore(at *onnx.Node, t *onnx.Tensor) *onnx.Value {
	g := at.Graph()
	if !g.InFunction() {
		return g.NewConst(t)
	}
	n := onnx.NewNode("Constant", nil, g.Model().Fresh(t.Name))
	n.Attrs = []*onnx.Attr{onnx.TensorAttr("value", t)}
	g.InsertBefore(n, at)
	n.Output(0).Type = t.Type()
	return n.Output(0)
}

func (s *splicer) node(n *onnx.Node) {
	in := make([]*onnx.Value, len(n.Inputs()))
	for i, v := range n.Inputs() {
		if v != nil {
			in[i] = s.value(v)
		}
	}
	names := make([]string, len(n.Outputs()))
	for i, v := range n.Outputs() {
		if v != nil {
			names[i] = s.g.Model().Fresh(v.Name())
		}
	}
	c := onnx.CloneNodeInto(n, in, names, s.now)
	c.TrimInputs()
	if n.Name != "" { // several copies may come into one graph
		c.Name = strings.Join(names[:min(1, len(names))], "")
	}
	s.fill(c)
	s.g.InsertBefore(c, s.at)
	for i, v := range n.Outputs() {
		if v != nil {
			s.now[v] = c.Output(i)
			c.Output(i).Type = v.Type
		}
	}
	if s.attrs == nil {
		return // the names of a graph are not used in those below it
	}
	for _, sub := range c.Subgraphs() {
		s.g.Model().Distinguish(sub)
	}
}

// fill puts in the attributes that c and the nodes in its subgraphs refer to; a
// reference to one that the call leaves out goes.
func (s *splicer) fill(c *onnx.Node) {
	if s.attrs == nil {
		return
	}
	var kept []*onnx.Attr
	for _, a := range c.Attrs {
		if a.Ref == "" {
			kept = append(kept, a)
		} else if given := s.attrs(a.Ref); given != nil {
			b := *given
			b.Name = a.Name
			kept = append(kept, &b)
		}
	}
	c.Attrs = kept
	for _, sub := range c.Subgraphs() {
		for n := range sub.Nodes() {
			s.fill(n)
		}
	}
}

// settle lets every reader of n's outputs read results instead and removes n.
// Where a result cannot be a graph output itself, an Identity is.
func settle(n *onnx.Node, results []*onnx.Value) (removed int, err error) {
	g := n.Graph()
	for i, v := range n.Outputs() {
		if v == nil || v.Dead() {
			continue
		}
		r := results[i]
		if v.IsOutput() && !canBeOutput(r, g) {
			id := onnx.NewNode("Identity", []*onnx.Value{r}, g.Model().Fresh(v.Name()))
			g.InsertBefore(id, n)
			id.Output(0).Type = v.Type
			r = id.Output(0)
		}
		if err := g.Replace(v, r); err != nil {
			return 0, err
		}
	}
	return len(g.SweepFrom(n)), nil
}

// canBeOutput reports whether v, which is not an output yet, may become one of g.
func canBeOutput(v *onnx.Value, g *onnx.Graph) bool {
	return v.Graph() == g && !v.IsInput() && !v.IsOutput() && v.Producer() != nil
}

// attached reports whether g is still part of its model: the nodes that hold it
// and the graphs around it are.
func attached(g *onnx.Graph) bool {
	for g.Owner() != nil {
		if g = g.Owner().Graph(); g == nil {
			return false
		}
	}
	return true
}

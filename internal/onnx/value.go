package onnx

// Value is an edge of the graph: an input, a constant, or an output of a node. nil
// is an omitted input of a node, of which nothing is known: what is asked of it
// is answered with the zero value.
type Value struct {
	Type    *Type         // what is known of the type; nil if nothing is
	Const   *Tensor       // the content of an initializer
	Sparse  *SparseTensor // the content of a sparse initializer
	Doc     string
	Meta    []Entry
	Unknown []byte // unknown fields of the ValueInfoProto, as encoded

	name     string
	graph    *Graph // the scope that defines it
	producer *Node
	index    int // which output of producer
	input    bool
	uses     []Use
	listed   []listing // where it is a graph output
}

// listing is a place among the outputs of a graph.
type listing struct {
	graph *Graph
	at    int
}

// Use is one reading of a value: input Index of Node.
type Use struct {
	Node  *Node
	Index int
}

// Name returns the value's name.
func (v *Value) Name() string {
	if v == nil {
		return ""
	}
	return v.name
}

// Graph returns the graph whose scope defines v.
func (v *Value) Graph() *Graph {
	if v == nil {
		return nil
	}
	return v.graph
}

// Producer returns the node that computes v; nil for inputs and constants, and
// for values whose producer is not in a graph.
func (v *Value) Producer() *Node {
	if v == nil {
		return nil
	}
	return v.producer
}

// Index returns which output of its producer v is.
func (v *Value) Index() int {
	if v == nil {
		return 0
	}
	return v.index
}

// IsInput reports whether v is an input of its graph, with or without a default.
func (v *Value) IsInput() bool { return v != nil && v.input }

// IsOutput reports whether v is listed as an output of its graph or of a subgraph.
func (v *Value) IsOutput() bool { return v != nil && len(v.listed) > 0 }

// Uses returns every reading of v by a node of its graph or of a subgraph that
// captures it. Graph outputs are not uses; see [Value.IsOutput]. The caller
// must not modify the slice, nor keep it over an edit.
func (v *Value) Uses() []Use {
	if v == nil {
		return nil
	}
	return v.uses
}

// Dead reports whether nothing reads v.
func (v *Value) Dead() bool { return v == nil || len(v.uses) == 0 && len(v.listed) == 0 }

// Constant returns v's tensor where no caller of the model can change it: the
// output of a Constant node, or an initializer that is not also an input, or is
// one in a main graph of IR version below 4, where such inputs cannot be
// overridden. It returns nil otherwise, and for constants that are not dense tensors.
func (v *Value) Constant() *Tensor {
	switch {
	case v == nil:
		return nil
	case v.producer.Is("Constant"):
		return v.producer.constant()
	case v.Const == nil, v.input && (v.graph.model == nil || v.graph.model.IRVersion >= 4):
		return nil
	}
	return v.Const
}

// Shape returns the tensor shape known for v, nil if none.
func (v *Value) Shape() Shape {
	if v == nil || !v.Type.IsTensor() {
		return nil
	}
	return v.Type.Shape
}

// DType returns the element type known for v, Undefined if none.
func (v *Value) DType() DType {
	if v == nil || v.Type == nil || v.Type.Kind != KindTensor {
		return Undefined
	}
	return v.Type.Elem
}

// addUse makes input i of n a reader of v. The node keeps the place of each of
// its readings, so that a value that thousands read loses one in constant time.
func (v *Value) addUse(n *Node, i int) {
	for len(n.places) <= i {
		n.places = append(n.places, 0)
	}
	n.places[i] = len(v.uses)
	v.uses = append(v.uses, Use{n, i})
}

// dropUse undoes addUse.
func (v *Value) dropUse(n *Node, i int) {
	if !v.usedBy(n, i) {
		return
	}
	k, last := n.places[i], len(v.uses)-1
	moved := v.uses[last]
	v.uses[k] = moved
	moved.Node.places[moved.Index] = k
	v.uses[last] = Use{}
	v.uses = v.uses[:last]
}

// usedBy reports whether input i of n is among the uses of v.
func (v *Value) usedBy(n *Node, i int) bool {
	return i < len(n.places) && n.places[i] < len(v.uses) && v.uses[n.places[i]] == Use{n, i}
}

// takeUses makes the readers of old read v.
func (v *Value) takeUses(old *Value) {
	for _, u := range old.uses {
		u.Node.inputs[u.Index] = v
		v.addUse(u.Node, u.Index)
	}
	old.uses = nil
}

// list makes v output at of g.
func (v *Value) list(g *Graph, at int) {
	for len(g.places) <= at {
		g.places = append(g.places, 0)
	}
	g.places[at] = len(v.listed)
	v.listed = append(v.listed, listing{g, at})
}

// unlist undoes list.
func (v *Value) unlist(g *Graph, at int) {
	if at >= len(g.places) || g.places[at] >= len(v.listed) || v.listed[g.places[at]] != (listing{g, at}) {
		return
	}
	k, last := g.places[at], len(v.listed)-1
	moved := v.listed[last]
	v.listed[k] = moved
	moved.graph.places[moved.at] = k
	v.listed = v.listed[:last]
}

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
	outputs  int // how often it is listed as a graph output
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
func (v *Value) IsOutput() bool { return v != nil && v.outputs > 0 }

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
func (v *Value) Dead() bool { return v == nil || len(v.uses) == 0 && v.outputs == 0 }

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

func (v *Value) addUse(n *Node, i int) { v.uses = append(v.uses, Use{n, i}) }

func (v *Value) dropUse(n *Node, i int) {
	for k, u := range v.uses {
		if u.Node == n && u.Index == i {
			last := len(v.uses) - 1
			v.uses[k] = v.uses[last]
			v.uses[last] = Use{}
			v.uses = v.uses[:last]
			return
		}
	}
}

package onnx

import (
	"fmt"
	"slices"
)

// AttrType says which field of an [Attr] holds its value, numbered as
// AttributeProto.AttributeType in onnx.proto.
type AttrType int32

// The attribute types.
const (
	AttrUndefined AttrType = iota
	AttrFloat
	AttrInt
	AttrString
	AttrTensor
	AttrGraph
	AttrFloats
	AttrInts
	AttrStrings
	AttrTensors
	AttrGraphs
	AttrSparse
	AttrSparses
	AttrTypeProto
	AttrTypeProtos
)

var attrTypeNames = [...]string{"undefined", "float", "int", "string", "tensor", "graph", "floats", "ints",
	"strings", "tensors", "graphs", "sparse_tensor", "sparse_tensors", "type_proto", "type_protos"}

// String returns the type's name as in onnx.proto, in lower case.
func (t AttrType) String() string {
	if t < 0 || int(t) >= len(attrTypeNames) {
		return fmt.Sprintf("attr(%d)", int32(t))
	}
	return attrTypeNames[t]
}

// Attr is a named attribute of a node, or the default of a function's attribute.
// Only the field that Type names is meaningful.
type Attr struct {
	Name string
	Type AttrType
	Ref  string // in a function body: the function's attribute that supplies the value
	Doc  string

	F       float32
	I       int64
	S       []byte
	T       *Tensor
	G       *Graph
	Sparse  *SparseTensor
	TP      *Type
	Floats  []float32
	Ints    []int64
	Strings [][]byte
	Tensors []*Tensor
	Graphs  []*Graph
	Sparses []*SparseTensor
	Types   []*Type

	Unknown []byte // fields this package does not know, as encoded
}

// Subgraphs returns the graphs that a holds, none for most attributes.
func (a *Attr) Subgraphs() []*Graph {
	switch {
	case a.Type == AttrGraph && a.G != nil:
		return []*Graph{a.G}
	case a.Type == AttrGraphs:
		return a.Graphs
	}
	return nil
}

// IntAttr returns an int attribute.
func IntAttr(name string, v int64) *Attr { return &Attr{Name: name, Type: AttrInt, I: v} }

// IntsAttr returns an ints attribute.
func IntsAttr(name string, v ...int64) *Attr { return &Attr{Name: name, Type: AttrInts, Ints: v} }

// FloatAttr returns a float attribute.
func FloatAttr(name string, v float32) *Attr { return &Attr{Name: name, Type: AttrFloat, F: v} }

// StringAttr returns a string attribute.
func StringAttr(name, v string) *Attr { return &Attr{Name: name, Type: AttrString, S: []byte(v)} }

// TensorAttr returns a tensor attribute.
func TensorAttr(name string, t *Tensor) *Attr { return &Attr{Name: name, Type: AttrTensor, T: t} }

// Attr returns the attribute called name, or nil.
func (n *Node) Attr(name string) *Attr {
	for _, a := range n.Attrs {
		if a.Name == name {
			return a
		}
	}
	return nil
}

// Int returns the int attribute called name, or def where n has none.
func (n *Node) Int(name string, def int64) int64 {
	if a := n.Attr(name); a != nil && a.Type == AttrInt && a.Ref == "" {
		return a.I
	}
	return def
}

// Float returns the float attribute called name, or def where n has none.
func (n *Node) Float(name string, def float32) float32 {
	if a := n.Attr(name); a != nil && a.Type == AttrFloat && a.Ref == "" {
		return a.F
	}
	return def
}

// Str returns the string attribute called name, or def where n has none.
func (n *Node) Str(name, def string) string {
	if a := n.Attr(name); a != nil && a.Type == AttrString && a.Ref == "" {
		return string(a.S)
	}
	return def
}

// Ints returns the ints attribute called name, or def where n has none or an
// empty one, which is the same to ONNX Runtime. The caller must not modify the
// result.
func (n *Node) Ints(name string, def []int64) []int64 {
	if a := n.Attr(name); a != nil && a.Type == AttrInts && a.Ref == "" && len(a.Ints) > 0 {
		return a.Ints
	}
	return def
}

// Each returns the ints attribute called name, which has count numbers: each of
// them is def where n has none. It reports whether there are as many.
func (n *Node) Each(name string, count int, def int64) ([]int64, bool) {
	list := n.Ints(name, nil)
	if list == nil {
		list = slices.Repeat([]int64{def}, count)
	}
	return list, len(list) == count
}

// SetAttr replaces the attribute of a's name, or adds a. Attributes that hold
// graphs are set when a node is made, not here.
func (n *Node) SetAttr(a *Attr) {
	for i, old := range n.Attrs {
		if old.Name == a.Name {
			n.Attrs[i] = a
			return
		}
	}
	n.Attrs = append(n.Attrs, a)
}

// DeleteAttr removes the attribute called name, if there is one.
func (n *Node) DeleteAttr(name string) {
	for i, a := range n.Attrs {
		if a.Name == name {
			n.Attrs = append(n.Attrs[:i:i], n.Attrs[i+1:]...)
			return
		}
	}
}

package onnx

import "fmt"

// Node is one operator call. Name, Domain, Op and Attrs may be changed freely;
// inputs, outputs and position change through methods.
type Node struct {
	Name     string
	Domain   string
	Op       string
	Overload string
	Doc      string
	Attrs    []*Attr
	Meta     []Entry
	Devices  [][]byte // encoded NodeDeviceConfigurationProto messages, passed through
	Unknown  []byte   // fields this package does not know, as encoded

	inputs  []*Value
	places  []int // of each input among the uses of its value, while the node is in a graph
	outputs []*Value
	graph   *Graph
	prev    *Node
	next    *Node
}

// NewNode returns a node that is not in a graph yet and so reads nothing. Each
// name makes an output value; "" leaves that output out.
func NewNode(op string, inputs []*Value, outputs ...string) *Node {
	n := &Node{Op: op, inputs: inputs}
	for i, name := range outputs {
		var v *Value
		if name != "" {
			v = &Value{name: name, producer: n, index: i}
		}
		n.outputs = append(n.outputs, v)
	}
	return n
}

// Inputs returns the values read, nil for omitted ones. The caller must not modify the slice.
func (n *Node) Inputs() []*Value { return n.inputs }

// Outputs returns the values produced, nil for omitted ones. The caller must not modify the slice.
func (n *Node) Outputs() []*Value { return n.outputs }

// Input returns input i, nil if omitted or beyond the end.
func (n *Node) Input(i int) *Value {
	if i < 0 || i >= len(n.inputs) {
		return nil
	}
	return n.inputs[i]
}

// Output returns output i, nil if omitted or beyond the end.
func (n *Node) Output(i int) *Value {
	if i < 0 || i >= len(n.outputs) {
		return nil
	}
	return n.outputs[i]
}

// Graph returns the graph that n is in, nil if none.
func (n *Node) Graph() *Graph { return n.graph }

// Next returns the node after n in execution order, or nil.
func (n *Node) Next() *Node { return n.next }

// Prev returns the node before n in execution order, or nil.
func (n *Node) Prev() *Node { return n.prev }

// Is reports whether n is the operator op of the standard domain.
func (n *Node) Is(op string) bool { return n != nil && n.Op == op && NormalDomain(n.Domain) == "" }

// Subgraphs returns the graphs that n's attributes hold, in order.
func (n *Node) Subgraphs() []*Graph {
	var out []*Graph
	for _, a := range n.Attrs {
		out = append(out, a.Subgraphs()...)
	}
	return out
}

// String names n for messages: node "name" (Op), or by its first output if unnamed.
func (n *Node) String() string {
	op := n.Op
	if d := NormalDomain(n.Domain); d != "" {
		op = d + "." + op
	}
	if n.Name != "" {
		return fmt.Sprintf("node %q (%s)", n.Name, op)
	}
	for _, v := range n.outputs {
		if v != nil {
			return fmt.Sprintf("node producing %q (%s)", v.name, op)
		}
	}
	return fmt.Sprintf("unnamed node (%s)", op)
}

package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
)

// matching is how the nodes of two models correspond, by their first output.
type matching struct {
	Same    int          `json:"same"`              // equal, inputs included
	Rewired []textChange `json:"rewired,omitempty"` // the same operator, reading other values
	Changed []textChange `json:"changed,omitempty"` // another operator or other attributes
	Removed []textChange `json:"removed,omitempty"` // only in A
	Added   []textChange `json:"added,omitempty"`   // only in B
}

func (m *matching) differ() int {
	return len(m.Rewired) + len(m.Changed) + len(m.Removed) + len(m.Added)
}

// matchNodes compares the nodes of all graphs, in the order of a, then of b. A
// node that a rewrite put in the place of the value x computes x_Op.
func matchNodes(a, b *onnx.Model) *matching {
	m, h := &matching{}, &onnxtext.Heads{}
	orderA, inA := nodesByOutput(a)
	orderB, inB := nodesByOutput(b)
	stands, placed := standIns(orderB, inA, inB)
	for _, name := range orderA {
		x, y := inA[name], inB[name]
		if y == nil {
			y = stands[name]
		}
		if y == nil {
			m.Removed = append(m.Removed, textChange{name, h.Format(x), ""})
			continue
		}
		c := textChange{name, h.Format(x), h.Format(y)}
		switch {
		case c.A == c.B:
			m.Same++
		case sameCall(h, x, y):
			m.Rewired = append(m.Rewired, c)
		default:
			m.Changed = append(m.Changed, c)
		}
	}
	for _, name := range orderB {
		if inA[name] == nil && !placed[name] {
			m.Added = append(m.Added, textChange{name, "", h.Format(inB[name])})
		}
	}
	return m
}

// standIns returns the nodes of b that stand for an output that only a has, by
// its name, and their own names. Of several for one output the last is it.
func standIns(orderB []string, inA, inB map[string]*onnx.Node) (stands map[string]*onnx.Node, placed map[string]bool) {
	stands, placed = map[string]*onnx.Node{}, map[string]bool{}
	last := map[string]string{}
	for _, name := range orderB {
		old := strings.TrimSuffix(name, "_"+inB[name].Op)
		if old != name && inA[name] == nil && inA[old] != nil && inB[old] == nil {
			stands[old], last[old] = inB[name], name
		}
	}
	for _, name := range last {
		placed[name] = true
	}
	return stands, placed
}

// nodesByOutput lists the nodes of all graphs by their first output, which
// begins with the graph's name where there is an outer graph.
func nodesByOutput(m *onnx.Model) ([]string, map[string]*onnx.Node) {
	var order []string
	nodes := map[string]*onnx.Node{}
	for _, g := range m.Graphs() {
		for n := range g.Nodes() {
			name := ""
			for _, v := range n.Outputs() {
				if v != nil && name == "" {
					name = v.Name()
				}
			}
			if g.Parent() != nil {
				name = g.Name + "/" + name
			}
			if nodes[name] == nil {
				order = append(order, name)
				nodes[name] = n
			}
		}
	}
	return order, nodes
}

// sameCall reports whether two nodes are the same operator with the same
// attributes, whatever they read.
func sameCall(h *onnxtext.Heads, x, y *onnx.Node) bool {
	return callText(h, x) == callText(h, y) && len(x.Inputs()) == len(y.Inputs())
}

// callText is a node in text form without inputs and name.
func callText(h *onnxtext.Heads, n *onnx.Node) string {
	var outs []string
	for _, v := range n.Outputs() {
		name := ""
		if v != nil {
			name = v.Name()
		}
		outs = append(outs, name)
	}
	c := onnx.NewNode(n.Op, nil, outs...)
	c.Domain, c.Overload, c.Attrs, c.Devices, c.Unknown = n.Domain, n.Overload, n.Attrs, n.Devices, n.Unknown
	return h.Format(c)
}

// maxListed bounds the nodes listed of each sort where not all are asked for.
const maxListed = 8

func (m *matching) print(w io.Writer, all bool) {
	fmt.Fprintf(w, "  nodes by output: %d the same, %d read other values, %d changed, %d only in A, %d only in B\n",
		m.Same, len(m.Rewired), len(m.Changed), len(m.Removed), len(m.Added))
	for i, c := range m.Changed {
		if i == maxListed && !all {
			fmt.Fprintf(w, "    and %d more changed (-v lists all)\n", len(m.Changed)-i)
			break
		}
		fmt.Fprintf(w, "    - %s\n    + %s\n", c.A, c.B)
	}
	if !all {
		return
	}
	for _, c := range m.Rewired {
		fmt.Fprintf(w, "    ~ %s\n    ~ %s\n", c.A, c.B)
	}
	for _, c := range m.Removed {
		fmt.Fprintf(w, "    - %s\n", c.A)
	}
	for _, c := range m.Added {
		fmt.Fprintf(w, "    + %s\n", c.B)
	}
}

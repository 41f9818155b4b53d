package onnx

import (
	"fmt"
	"strings"
	"testing"
)

// callFunctions returns a model with n local functions f0, f1, …, each of which
// calls the one before it twice, and a main graph that calls the last.
func callFunctions(n int) *Model {
	m := NewModel(17)
	m.ImportOpset("l", 1)
	for i := range n {
		f := &Function{Name: fmt.Sprintf("f%d", i), Domain: "l", Opsets: m.Opsets, Body: NewGraph("")}
		v := f.Body.AddInput("a", nil)
		for k := range 2 {
			c := NewNode("Relu", []*Value{v}, fmt.Sprintf("v%d", k))
			if i > 0 {
				c = NewNode(fmt.Sprintf("f%d", i-1), []*Value{v}, fmt.Sprintf("v%d", k))
				c.Domain = "l"
			}
			f.Body.Append(c)
			v = c.Output(0)
		}
		f.Body.AddOutput(v)
		m.AddFunction(f)
	}
	x := m.Graph.AddInput("x", TensorType(Float, Shape{Fixed(1)}))
	call := NewNode(fmt.Sprintf("f%d", n-1), []*Value{x}, "y")
	call.Domain = "l"
	m.Graph.Append(call)
	m.Graph.AddOutput(call.Output(0))
	return m
}

// TestExpansion refuses functions that double the nodes of each other too often.
func TestExpansion(t *testing.T) {
	for n, fits := range map[int]bool{1: true, 20: true, 22: true, 23: false, 40: false, 300: false} {
		err := callFunctions(n).Check()
		if fits && err != nil || !fits && (err == nil || !strings.Contains(err.Error(), "local functions written out")) {
			t.Errorf("%d functions: %v", n, err)
		}
	}
}

// TestFindFunction finds functions among many as among few, also when the list changes.
func TestFindFunction(t *testing.T) {
	for _, n := range []int{2, 100} {
		m := callFunctions(n)
		call := NewNode("f1", nil)
		call.Domain = "l"
		if f := m.FindFunction(call); f != m.Functions[1] {
			t.Errorf("of %d functions f1 is %v", n, f)
		}
		if f := m.FindFunction(NewNode("f1", nil)); f != nil {
			t.Errorf("a standard operator is the function %q", f.Name)
		}
		m.Functions = m.Functions[2:]
		if f := m.FindFunction(call); f != nil {
			t.Errorf("%q was taken out", f.Name)
		}
		c := m.Clone()
		call.Op = fmt.Sprintf("f%d", n-1)
		if len(c.Functions) > 0 && c.FindFunction(call) != c.Functions[len(c.Functions)-1] {
			t.Error("a clone finds a function that is not its own")
		}
	}
}

// TestManyAttributes finds a name that is given twice among many.
func TestManyAttributes(t *testing.T) {
	for _, n := range []int{3, 100_000} {
		m := NewModel(17)
		x := m.Graph.AddInput("x", TensorType(Float, Shape{Fixed(1)}))
		node := NewNode("Relu", []*Value{x}, "y")
		for i := range n {
			node.Attrs = append(node.Attrs, IntAttr(fmt.Sprintf("a%d", i), 1))
		}
		m.Graph.Append(node)
		m.Graph.AddOutput(node.Output(0))
		if err := m.Check(); err != nil {
			t.Fatal(err)
		}
		node.Attrs[n-1].Name = "a0"
		if err := m.Check(); err == nil || !strings.Contains(err.Error(), `"a0" is given twice`) {
			t.Errorf("%d attributes: %v", n, err)
		}
	}
}

package onnx

import (
	"slices"
	"testing"
)

// TestRepairTwins: of constants with one name the last counts, for readers
// before it too, and Constant nodes count after initializers.
func TestRepairTwins(t *testing.T) {
	m := NewModel(17)
	g := m.Graph
	first := g.AddInitializer(FromInts("c", []int64{}, []int64{1}))
	read := NewNode("Neg", []*Value{first}, "y")
	g.Append(read)
	var last *Value
	for i := range 2 {
		n := NewNode("Constant", nil, "c")
		n.Attrs = []*Attr{IntAttr("value_int", int64(2+i))}
		g.Append(n)
		last = n.Output(0)
	}
	g.AddOutput(read.Output(0))
	notices, err := m.Repair()
	if err != nil || len(notices) != 2 {
		t.Fatalf("notices %q, error %v", notices, err)
	}
	if err := m.Check(); err != nil {
		t.Fatal(err)
	}
	if read.Input(0) != last || g.Len() != 2 || len(g.Initializers()) != 0 {
		t.Errorf("%v reads %q; %d nodes, %d initializers", read, read.Input(0).Name(), g.Len(), len(g.Initializers()))
	}
}

// TestRepairImports: a domain is imported once, and the standard one at all.
func TestRepairImports(t *testing.T) {
	for _, c := range []struct{ in, want []Opset }{
		{[]Opset{{Domain: "ai.onnx", Version: 7}, {Version: 13}}, []Opset{{Domain: "ai.onnx", Version: 13}}},
		{[]Opset{{Domain: "com.microsoft", Version: 1}}, []Opset{{Domain: "com.microsoft", Version: 1}, {Version: 23}}},
	} {
		m := NewModel(17)
		m.Opsets = c.in
		n := NewNode("Relu", []*Value{m.Graph.AddInput("x", nil)}, "y")
		m.Graph.Append(n)
		m.Graph.AddOutput(n.Output(0))
		if _, err := m.Repair(); err != nil {
			t.Fatal(err)
		}
		same := func(a, b Opset) bool { return a.Domain == b.Domain && a.Version == b.Version }
		if !slices.EqualFunc(m.Opsets, c.want, same) || m.Check() != nil {
			t.Errorf("imports %v, want %v (%v)", m.Opsets, c.want, m.Check())
		}
	}
}

package onnx_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
	"pgregory.net/rapid"
)

// TestEdits makes random edits of a model with subgraphs that capture values:
// after each, the model is valid and every value knows exactly its readers.
func TestEdits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := newEditor()
		t.Repeat(map[string]func(*rapid.T){
			"insert": e.insert, "insert a branch": e.insertIf, "replace": e.replace, "set an input": e.setInput,
			"remove": e.remove, "sweep": e.sweep, "sweep from": e.sweepFrom, "move": e.move, "clone": e.clone,
			"rename": e.rename, "set outputs": e.setOutputs,
			"": e.check,
		})
	})
}

// editor is a model that is being edited.
type editor struct {
	m    *onnx.Model
	cond *onnx.Value
	n    int // numbers new names
}

func newEditor() *editor {
	e := &editor{m: onnx.NewModel(17)}
	g := e.m.Graph
	e.cond = g.AddInput("cond", onnx.TensorType(onnx.Bool, onnx.Shape{}))
	x := g.AddInput("x", onnx.TensorType(onnx.Float, onnx.ShapeOf(2)))
	w := g.AddInitializer(onnx.FromFloats("w", []int64{2}, []float32{1, 2}))
	n := onnx.NewNode("Add", []*onnx.Value{x, w}, "y")
	g.Append(n)
	g.AddOutput(n.Output(0))
	return e
}

func (e *editor) name() string {
	e.n++
	return fmt.Sprintf("v%d", e.n)
}

// graphs returns the main graph and all below it.
func (e *editor) graphs() []*onnx.Graph { return e.m.Graphs() }

func nodesOf(g *onnx.Graph) []*onnx.Node {
	var out []*onnx.Node
	for n := range g.Nodes() {
		out = append(out, n)
	}
	return out
}

func (e *editor) nodes() []*onnx.Node {
	var out []*onnx.Node
	for _, g := range e.graphs() {
		out = append(out, nodesOf(g)...)
	}
	return out
}

// pick draws one of a list, or skips the action where that is empty.
func pick[T any](t *rapid.T, list []T, label string) T {
	if len(list) == 0 {
		t.Skip("there is no " + label)
	}
	return list[rapid.IntRange(0, len(list)-1).Draw(t, label)]
}

// drawNode draws one of all nodes.
func (e *editor) drawNode(t *rapid.T) *onnx.Node {
	return pick(t, e.nodes(), "node")
}

// visible returns the float values that a node of g in front of at can read; at
// nil is the end.
func (e *editor) visible(g *onnx.Graph, at *onnx.Node) []*onnx.Value {
	var out []*onnx.Value
	for _, v := range append(append([]*onnx.Value(nil), g.Inputs()...), g.Initializers()...) {
		if v != e.cond {
			out = append(out, v)
		}
	}
	for n := g.First(); n != nil && n != at; n = n.Next() {
		for _, v := range n.Outputs() {
			if v != nil {
				out = append(out, v)
			}
		}
	}
	if owner := g.Owner(); owner != nil {
		out = append(out, e.visible(owner.Graph(), owner)...)
	}
	return out
}

// node draws a node that reads values of list.
func (e *editor) node(t *rapid.T, list []*onnx.Value) *onnx.Node {
	var in []*onnx.Value
	for range rapid.IntRange(1, 3).Draw(t, "inputs") {
		in = append(in, pick(t, list, "input"))
	}
	outs := []string{e.name()}
	op := "Sum"
	if len(in) == 1 && rapid.Bool().Draw(t, "dropout") {
		op, outs = "Dropout", append(outs, e.name())
	}
	return onnx.NewNode(op, in, outs...)
}

func (e *editor) place(t *rapid.T) (*onnx.Graph, *onnx.Node) {
	g := pick(t, e.graphs(), "graph")
	at := pick(t, append(nodesOf(g), nil), "place")
	return g, at
}

func put(g *onnx.Graph, n, at *onnx.Node) {
	if at == nil {
		g.Append(n)
		return
	}
	g.InsertBefore(n, at)
}

func (e *editor) insert(t *rapid.T) {
	g, at := e.place(t)
	put(g, e.node(t, e.visible(g, at)), at)
}

// insertIf inserts a node with two bodies, some of whose outputs are captured
// values themselves.
func (e *editor) insertIf(t *rapid.T) {
	if len(e.graphs()) > 9 {
		t.Skip("there are enough bodies")
	}
	g, at := e.place(t)
	outer := e.visible(g, at)
	n := onnx.NewNode("If", []*onnx.Value{e.cond}, e.name())
	for _, branch := range []string{"then_branch", "else_branch"} {
		body := onnx.NewGraph(e.name())
		list := append([]*onnx.Value(nil), outer...)
		for range rapid.IntRange(0, 3).Draw(t, "nodes") {
			inner := e.node(t, list)
			body.Append(inner)
			list = append(list, inner.Output(0))
		}
		body.AddOutput(pick(t, list, "output"))
		n.SetAttr(&onnx.Attr{Name: branch, Type: onnx.AttrGraph, G: body})
	}
	put(g, n, at)
}

// replace makes readers of a node's output read something that exists earlier;
// a refusal changes nothing.
func (e *editor) replace(t *rapid.T) {
	n := e.drawNode(t)
	old := pick(t, n.Outputs(), "output")
	v := pick(t, e.visible(n.Graph(), n), "instead")
	before, name, listed := e.text(t), old.Name(), old.IsOutput()
	if err := n.Graph().Replace(old, v); err != nil {
		if !listed {
			t.Fatalf("replacing %q by %q: %v", name, v.Name(), err)
		}
		if diff := cmp.Diff(before, e.text(t)); diff != "" {
			t.Fatalf("a replacement that is refused changes the model:\n%s", diff)
		}
		return
	}
	if !old.Dead() {
		t.Fatalf("%q is still read after its replacement", old.Name())
	}
	if listed && v.Name() != name {
		t.Fatalf("what replaces output %q is called %q", name, v.Name())
	}
}

func (e *editor) setInput(t *rapid.T) {
	n := e.drawNode(t)
	if n.Is("If") {
		t.Skip("its input is the condition")
	}
	i := rapid.IntRange(0, len(n.Inputs())-1).Draw(t, "index")
	v := pick(t, e.visible(n.Graph(), n), "value")
	n.SetInput(i, v)
	if n.Input(i) != v {
		t.Fatal("the input is not what was set")
	}
}

// remove succeeds for exactly the nodes that nobody reads.
func (e *editor) remove(t *rapid.T) {
	n := e.drawNode(t)
	dead := true
	for _, v := range n.Outputs() {
		dead = dead && v.Dead()
	}
	if err := n.Graph().Remove(n); (err == nil) != dead {
		t.Fatalf("removing %v, which is dead: %v, gives %v", n, dead, err)
	}
	if dead && n.Graph() != nil {
		t.Fatal("it is still in a graph")
	}
}

// needed returns the nodes that outputs of the main graph depend on, and all
// nodes of their bodies that the bodies' outputs depend on.
func (e *editor) needed() map[*onnx.Node]bool {
	out := map[*onnx.Node]bool{}
	var want func(v *onnx.Value)
	want = func(v *onnx.Value) {
		n := v.Producer()
		if n == nil || out[n] {
			return
		}
		out[n] = true
		for _, in := range n.Inputs() {
			want(in)
		}
		for _, g := range n.Subgraphs() {
			for _, o := range g.Outputs() {
				want(o)
			}
		}
	}
	for _, o := range e.m.Graph.Outputs() {
		want(o)
	}
	return out
}

// sweep keeps exactly the nodes that something needs.
func (e *editor) sweep(t *rapid.T) {
	want, before := e.needed(), len(e.nodes())
	removed := e.m.Graph.Sweep()
	left := e.nodes()
	for _, n := range left {
		if !want[n] {
			t.Fatalf("%v is left, and nobody needs it:\n%s", n, e.text(t))
		}
	}
	if len(left) != len(want) {
		t.Fatalf("%d nodes are left of %d that are needed", len(left), len(want))
	}
	for _, v := range e.m.Graph.Initializers() {
		if v.Dead() {
			t.Fatalf("constant %q is left, and nobody reads it", v.Name())
		}
	}
	if removed > before-len(left) {
		t.Fatalf("it says that %d nodes were removed, %d were", removed, before-len(left))
	}
}

// sweepFrom takes away nothing that is needed.
func (e *editor) sweepFrom(t *rapid.T) {
	want := e.needed()
	n := e.drawNode(t)
	for _, gone := range n.Graph().SweepFrom(n) {
		if want[gone] {
			t.Fatalf("%v is gone, and was needed", gone)
		}
	}
	for n := range want {
		if n.Graph() == nil {
			t.Fatalf("%v is gone without a word", n)
		}
	}
}

// move puts nodes out of order; sorting puts all of them in order again.
func (e *editor) move(t *rapid.T) {
	g := pick(t, e.graphs(), "graph")
	list := nodesOf(g)
	if len(list) < 2 {
		t.Skip("nothing to move")
	}
	for range rapid.IntRange(1, 4).Draw(t, "moves") {
		g.MoveBefore(pick(t, list, "node"), pick(t, list, "before"))
	}
	valid := e.m.Check() == nil
	moved, err := e.m.Sort()
	if err != nil {
		t.Fatal(err)
	}
	if moved == valid {
		t.Fatalf("valid before sorting: %v, moved: %v", valid, moved)
	}
	if g.Len() != len(list) || len(nodesOf(g)) != len(list) {
		t.Fatalf("%d nodes of %d are left", g.Len(), len(list))
	}
}

// clone goes on with a copy; edits of either do not reach the other.
func (e *editor) clone(t *rapid.T) {
	before := e.text(t)
	old := e.m
	e.m = old.Clone()
	if diff := cmp.Diff(before, e.text(t)); diff != "" {
		t.Fatalf("the copy differs:\n%s", diff)
	}
	for _, g := range old.Graphs() {
		for n := range g.Nodes() {
			for i := range n.Inputs() {
				n.SetInput(i, nil)
			}
		}
	}
	old.Graph.SetOutputs(nil)
	old.Graph.Sweep()
	if diff := cmp.Diff(before, e.text(t)); diff != "" {
		t.Fatalf("an edit of the original reaches the copy:\n%s", diff)
	}
	e.cond = e.m.Graph.Inputs()[0]
}

// rename is refused for inputs and outputs only.
func (e *editor) rename(t *rapid.T) {
	v := pick(t, e.visible(pick(t, e.graphs(), "graph"), nil), "value")
	name, fixed := e.m.Fresh("renamed"), v.IsInput() || v.IsOutput()
	if err := v.Rename(name); (err != nil) != fixed {
		t.Fatalf("renaming %q: %v", v.Name(), err)
	}
	if (v.Name() == name) == fixed {
		t.Fatalf("it is called %q", v.Name())
	}
}

func (e *editor) setOutputs(t *rapid.T) {
	var list []*onnx.Value
	for _, v := range e.visible(e.m.Graph, nil) {
		if v.Producer() != nil {
			list = append(list, v)
		}
	}
	if len(list) == 0 {
		t.Skip("there is no node")
	}
	var outs []*onnx.Value
	for range rapid.IntRange(1, 3).Draw(t, "outputs") {
		if v := pick(t, list, "output"); !slices.Contains(outs, v) {
			outs = append(outs, v)
		}
	}
	e.m.Graph.SetOutputs(outs)
}

func (e *editor) text(t *rapid.T) string {
	var b bytes.Buffer
	if err := onnxtext.Format(&b, e.m, onnxtext.Options{}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// check compares what values and graphs know of themselves with what nodes say.
func (e *editor) check(t *rapid.T) {
	if err := e.m.Check(); err != nil {
		t.Fatalf("%v\n%s", err, e.text(t))
	}
	uses, listed := map[*onnx.Value]map[onnx.Use]int{}, map[*onnx.Value]bool{}
	for _, g := range e.graphs() {
		for _, v := range g.Outputs() {
			listed[v] = true
		}
		if got := len(nodesOf(g)); got != g.Len() {
			t.Fatalf("graph %q has %d nodes and says %d", g.Name, got, g.Len())
		}
		for n := range g.Nodes() {
			if n.Graph() != g {
				t.Fatalf("%v does not know its graph", n)
			}
			for i, v := range n.Inputs() {
				if uses[v] == nil {
					uses[v] = map[onnx.Use]int{}
				}
				uses[v][onnx.Use{Node: n, Index: i}]++
			}
		}
	}
	for _, g := range e.graphs() {
		for v := range g.Values() {
			if v.IsOutput() != listed[v] {
				t.Fatalf("%q is an output: %v, and says %v", v.Name(), listed[v], v.IsOutput())
			}
			if len(v.Uses()) != len(uses[v]) {
				t.Fatalf("%q has %d readers and knows %d", v.Name(), len(uses[v]), len(v.Uses()))
			}
			for _, u := range v.Uses() {
				if uses[v][u] != 1 {
					t.Fatalf("%q knows a reader %v that does not read it", v.Name(), u.Node)
				}
			}
		}
	}
}

package onnx_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
)

func parse(t *testing.T, text string) *onnx.Model {
	t.Helper()
	if !strings.HasPrefix(text, "<") {
		text = "<ir_version: 8, opset_import: [\"\" : 17]>\n" + text
	}
	m, err := onnxtext.Parse("test", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func format(t *testing.T, m *onnx.Model) string {
	t.Helper()
	var b bytes.Buffer
	if err := onnxtext.Format(&b, m, onnxtext.Options{}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func same(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// value returns the value called name of any graph.
func value(t *testing.T, m *onnx.Model, name string) *onnx.Value {
	t.Helper()
	for _, g := range m.Graphs() {
		for v := range g.Values() {
			if v.Name() == name {
				return v
			}
		}
	}
	t.Fatalf("there is no value %q", name)
	return nil
}

// TestConstant: what a caller can change is not constant.
func TestConstant(t *testing.T) {
	const text = `main (float[2] x, float[2] w) => (float[2] y) <float[2] w = {1, 2}, float[2] c = {3, 4}> {
  k = Constant <value_float = 2.5> ()
  i = Constant <value_ints = [1, 2]> ()
  s = Constant <value_string = "a"> ()
  y = Sum (x, w, c, k)
}`
	m := parse(t, text)
	for name, want := range map[string]bool{"x": false, "w": false, "c": true, "k": true, "i": true, "s": true, "y": false} {
		if got := value(t, m, name).Constant() != nil; got != want {
			t.Errorf("%q is constant: %v, want %v", name, got, want)
		}
	}
	same(t, "type of k", "float[]", value(t, m, "k").Constant().Type().String())
	same(t, "type of i", "int64[2]", value(t, m, "i").Constant().Type().String())
	m.IRVersion = 3
	if value(t, m, "w").Constant() == nil {
		t.Error("below IR version 4 a default cannot be overridden, and is constant")
	}
	if (*onnx.Value)(nil).Constant() != nil {
		t.Error("an omitted input is constant")
	}
}

// TestInputs: inputs with a default can leave, those that are read cannot.
func TestInputs(t *testing.T) {
	m := parse(t, `main (float[2] x, float[2] w, float[2] v, float u) => (float[2] y) <float[2] w = {1, 2}, float[2] v = {3, 4}> {
  y = Sum (x, w, v)
}`)
	g := m.Graph
	if err := g.RemoveInput(value(t, m, "x")); err == nil || len(g.Inputs()) != 4 {
		t.Errorf("an input that is read leaves: %v", err)
	}
	for _, name := range []string{"u", "w"} {
		if err := g.RemoveInput(value(t, m, name)); err != nil {
			t.Error(err)
		}
		if name == "u" {
			continue
		}
		if v := value(t, m, name); v.IsInput() || v.Constant() == nil {
			t.Errorf("%q is not a plain constant", name)
		}
	}
	if err := g.Freeze(value(t, m, "v")); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"v", "x"} {
		if err := g.Freeze(value(t, m, name)); err == nil {
			t.Errorf("%q was frozen, which is no input with a default", name)
		}
	}
	same(t, "inputs", 1, len(g.Inputs()))
	if err := m.Check(); err != nil {
		t.Error(err)
	}
}

// TestReplaceCaptured: readers inside subgraphs follow, and an outer value may
// replace an inner one that is no output.
func TestReplaceCaptured(t *testing.T) {
	m := parse(t, `main (bool c, float[2] x) => (float[2] y) {
  a = Relu (x)
  b = Abs (x)
  y = If <then_branch = g () => (float[2] p) { q = Neg (a) p = Exp (q) }, else_branch = h () => (a) { }> (c)
}`)
	a, b, q := value(t, m, "a"), value(t, m, "b"), value(t, m, "q")
	if err := m.Graph.Replace(a, b); err != nil {
		t.Fatal(err)
	}
	if !a.Dead() || len(b.Uses()) != 1 || !b.IsOutput() {
		t.Errorf("a is dead: %v, b has %d readers and is an output: %v", a.Dead(), len(b.Uses()), b.IsOutput())
	}
	if b.Name() != "a" {
		t.Errorf("what took the place of an output is called %q", b.Name())
	}
	if err := q.Graph().Replace(q, b); err != nil {
		t.Fatal(err)
	}
	same(t, "removed", 2, m.Graph.Sweep())
	if err := m.Check(); err != nil {
		t.Fatal(err)
	}
	p := value(t, m, "p")
	if err := p.Graph().Replace(p, b); err == nil {
		t.Error("a value of the outer graph takes the place of an output of the inner one")
	}
}

// TestSlots: omitted inputs and outputs.
func TestSlots(t *testing.T) {
	m := parse(t, `main (float[2] x) => (float[2] y) {
  a, b, c = Split <axis = 0> (x)
  y = Sum (b, x)
}`)
	split := value(t, m, "a").Producer()
	if err := split.DropOutput(1); err == nil {
		t.Error("an output that is read is dropped")
	}
	for _, i := range []int{2, 0} {
		if err := split.DropOutput(i); err != nil {
			t.Error(err)
		}
	}
	same(t, "outputs", 2, len(split.Outputs()))
	if split.Output(0) != nil || split.Output(1).Name() != "b" || split.Output(7) != nil {
		t.Errorf("outputs are %v", split.Outputs())
	}
	sum, x := value(t, m, "y").Producer(), value(t, m, "x")
	sum.SetInput(3, x)
	same(t, "inputs", 4, len(sum.Inputs()))
	same(t, "readings of x", 3, len(x.Uses()))
	sum.SetInput(3, nil)
	sum.TrimInputs()
	same(t, "inputs", 2, len(sum.Inputs()))
	same(t, "readings of x", 2, len(x.Uses()))
	d := split.AddOutput("d")
	if d.Producer() != split || d.Index() != 2 || m.Fresh("d") == "d" {
		t.Errorf("the new output %q is number %d", d.Name(), d.Index())
	}
	if err := m.Check(); err != nil {
		t.Error(err)
	}
}

// TestFresh: the same calls give the same names, none twice.
func TestFresh(t *testing.T) {
	m := parse(t, "main (float[2] x) => (float[2] y_1) { y = Relu (x) y_1 = Abs (y) }")
	var got []string
	for _, hint := range []string{"z", "z", "y", "y", "y_1", "", "x"} {
		got = append(got, m.Fresh(hint))
	}
	same(t, "names", []string{"z", "z_1", "y_2", "y_3", "y_4", "v", "x_1"}, got)
}

// TestFunctions: a body follows its own imports, and clones stay apart.
func TestFunctions(t *testing.T) {
	m := parse(t, `<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
main (float[2] x) => (float[2] y) { y = local.f (x) }
<domain: "local", opset_import: ["" : 13]>
f (a) => (b) { b = Relu (a) }`)
	if err := m.Check(); err != nil {
		t.Fatal(err)
	}
	relu, call := value(t, m, "b").Producer(), value(t, m, "y").Producer()
	same(t, "opset in the body", int64(13), relu.OpsetVersion(""))
	same(t, "opset outside", int64(17), call.OpsetVersion(""))
	if m.FindFunction(call) != m.Functions[0] || m.FindFunction(relu) != nil {
		t.Error("functions are not found by their calls")
	}
	if !relu.Graph().InFunction() || call.Graph().InFunction() || relu.Graph().Function() != m.Functions[0] {
		t.Error("graphs do not know whether they are bodies")
	}
	before := format(t, m)
	c := m.Clone()
	same(t, "clone", before, format(t, c))
	value(t, c, "b").Producer().Op = "Abs"
	c.ImportOpset("com.microsoft", 1)
	same(t, "original", before, format(t, m))
	if m.OpsetVersion("com.microsoft") != 0 || c.OpsetVersion("com.microsoft") != 1 {
		t.Error("imports are shared between a model and its clone")
	}
}

// TestCloneNodeInto: a copy with subgraphs reads what it is told to.
func TestCloneNodeInto(t *testing.T) {
	m := parse(t, `main (bool c, float[2] x, float[2] z) => (float[2] y) {
  a = Relu (x)
  y = If <then_branch = g () => (float[2] p) { q = Neg (a) p = Add (q, z) }, else_branch = h () => (a) { }> (c)
}`)
	n, z, a := value(t, m, "y").Producer(), value(t, m, "z"), value(t, m, "a")
	c := onnx.CloneNodeInto(n, n.Inputs(), []string{"copy"}, map[*onnx.Value]*onnx.Value{a: z})
	m.Graph.Append(c)
	m.Distinguish(c.Subgraphs()[0])
	m.Graph.SetOutputs([]*onnx.Value{value(t, m, "y"), c.Output(0)})
	if err := m.Check(); err != nil {
		t.Fatal(err)
	}
	var read []string
	for _, v := range c.Captures() {
		read = append(read, v.Name())
	}
	same(t, "captured by the copy", []string{"z", "z", "z"}, read)
	same(t, "readings of a", 1, len(a.Uses()))
	if err := m.Graph.Remove(n); err == nil {
		t.Error("a node whose output the graph gives is removed")
	}
	m.Graph.SetOutputs([]*onnx.Value{c.Output(0)})
	if err := m.Graph.Remove(n); err != nil {
		t.Fatal(err)
	}
	if !a.Dead() {
		t.Error("a removed node's subgraphs still read")
	}
}

// TestDistinguish: a copied body must not hide what is around its new place.
func TestDistinguish(t *testing.T) {
	m := parse(t, `main (bool c, float[2] x) => (float[2] y, float[2] q) {
  y = If <then_branch = g () => (float[2] p) { r = Neg (x) p = Abs (r) }, else_branch = h () => (float[2] p) { p = Exp (x) }> (c)
  q = Relu (x)
}`)
	n := value(t, m, "y").Producer()
	body := n.Subgraphs()[0]
	if err := value(t, m, "r").Rename("q"); err != nil {
		t.Fatal(err)
	}
	m.Distinguish(body)
	for k := range body.Nodes() {
		if k.Is("Neg") && k.Output(0).Name() == "q" {
			t.Error("the body hides the outer q")
		}
	}
}

// TestDistinguishAll: a name tells a value, but an operator that is not of the standard finds the inputs and outputs of its
// bodies by the names that they had.
func TestDistinguishAll(t *testing.T) {
	m := parse(t, `main (bool c, float[2] ids) => (float[2] y, float[2] z) {
  y = If <then_branch = g () => (float[2] p) { r = Neg (ids) p = Abs (r) }, else_branch = h () => (float[2] p) { p = Exp (ids) }> (c)
  z = com.microsoft.BeamSearch <decoder = d (float[2] ids) => (float[2] p) { r = Neg (ids) p = Abs (r) }> (ids)
}`)
	m.ImportOpset("com.microsoft", 1)
	m.DistinguishAll()
	names := func(output string, body int) (out []string) {
		g := value(t, m, output).Producer().Subgraphs()[body]
		for _, v := range slices.Concat(g.Inputs(), g.Outputs()) {
			out = append(out, v.Name())
		}
		return append(out, g.First().Output(0).Name())
	}
	other, first, second := names("z", 0), names("y", 0), names("y", 1)
	if other[0] != "ids" || other[1] != "p" || other[2] == "r" && first[1] == "r" {
		t.Errorf("the body of another domain has %v", other)
	}
	if first[0] == second[0] {
		t.Errorf("the branches both have %v", first)
	}
	if err := m.Check(); err != nil {
		t.Error(err)
	}
}

// TestRepair mends what runtimes tolerate, and says so.
func TestRepair(t *testing.T) {
	m := parse(t, `main (float[2] x) => (float[2] y) {
  y = com.microsoft.Gelu (a)
  a = Relu (x)
}`)
	if err := m.Check(); err == nil {
		t.Fatal("the model is valid before")
	}
	notices, err := m.Repair()
	if err != nil {
		t.Fatal(err)
	}
	same(t, "notices", 2, len(notices))
	if err := m.Check(); err != nil {
		t.Error(err)
	}
	if notices, err = m.Repair(); err != nil || len(notices) > 0 {
		t.Errorf("a second repair says %q (%v)", notices, err)
	}
}

// TestCycle: nodes that need each other have no order.
func TestCycle(t *testing.T) {
	m := parse(t, "main (float[2] x) => (float[2] y) { a = Relu (x) y = Abs (a) }")
	value(t, m, "a").Producer().SetInput(0, value(t, m, "y"))
	if _, err := m.Sort(); err == nil || !strings.Contains(err.Error(), "takes part in a cycle") {
		t.Errorf("error is %v", err)
	}
}

// TestCloneFunctions: what is changed about a copy's functions is not changed
// about the original's.
func TestCloneFunctions(t *testing.T) {
	m := parse(t, `<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
main (float[2] x) => (float[2] y) {
  y = local.f (x)
}
<domain: "local", opset_import: ["" : 17]>
f (x) => (y) {
  y = Neg (x)
}`)
	c := m.Clone()
	c.Functions[0].Opsets[0].Version = 21
	same(t, "opset of the original's function", int64(17), m.Functions[0].OpsetVersion(""))
}

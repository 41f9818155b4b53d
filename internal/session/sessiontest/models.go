package sessiontest

import (
	"path/filepath"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
)

// Write puts m into a file of a folder of its own and returns the file's path.
func Write(t testing.TB, m *onnx.Model) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.onnx")
	if _, err := onnxfile.Write(path, m, onnxfile.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	return path
}

func floats(dims ...onnx.Dim) *onnx.Type { return onnx.TensorType(onnx.Float, onnx.Shape(dims)) }

func output(g *onnx.Graph, v *onnx.Value, t *onnx.Type) {
	v.Type = t
	g.AddOutput(v)
}

// Identity returns a model that hands its input x of type t through to y.
func Identity(opset int64, t *onnx.Type) *onnx.Model {
	m := onnx.NewModel(opset)
	m.IRVersion = irVersion(opset)
	x := m.Graph.AddInput("x", t)
	n := onnx.NewNode("Identity", []*onnx.Value{x}, "y")
	m.Graph.Append(n)
	output(m.Graph, n.Output(0), t)
	return m
}

// irVersion returns the IR version that came with a standard opset, so that
// engines which check one against the other accept the model.
func irVersion(opset int64) int64 {
	switch {
	case opset < 9:
		return 3
	case opset < 15:
		return 6
	case opset < 19:
		return 8
	case opset < 21:
		return 9
	case opset < 23:
		return 10
	}
	return 11
}

// sumAndProduct returns a model of inputs x and y, float[2,3], whose outputs
// are sum = x + y and product = x * y.
func sumAndProduct(opset int64) *onnx.Model {
	m := onnx.NewModel(opset)
	m.IRVersion = irVersion(opset)
	t := floats(onnx.Fixed(2), onnx.Fixed(3))
	x, y := m.Graph.AddInput("x", t), m.Graph.AddInput("y", t)
	for _, c := range [][2]string{{"Add", "sum"}, {"Mul", "product"}} {
		n := onnx.NewNode(c[0], []*onnx.Value{x, y}, c[1])
		n.Name = "node_" + c[1]
		m.Graph.Append(n)
		output(m.Graph, n.Output(0), t)
	}
	return m
}

// scaled returns a model of input x, float[N,2], and of an input k, float[2],
// with the default [10,100]; its output is y = x * k.
func scaled(opset int64) *onnx.Model {
	m := onnx.NewModel(opset)
	m.IRVersion = irVersion(opset)
	g := m.Graph
	t := floats(onnx.Symbol("N"), onnx.Fixed(2))
	x := g.AddInput("x", t)
	k := g.AddInput("k", floats(onnx.Fixed(2)))
	g.SetDefault(k, onnx.FromFloats("k", []int64{2}, []float32{10, 100}))
	n := onnx.NewNode("Mul", []*onnx.Value{x, k}, "y")
	g.Append(n)
	output(g, n.Output(0), t)
	return m
}

// swapped returns a model of a sequence s of two tensors, whose output q is
// the sequence of both in the other order.
func swapped(opset int64) *onnx.Model {
	m := onnx.NewModel(opset)
	m.IRVersion = irVersion(opset)
	g := m.Graph
	t := &onnx.Type{Kind: onnx.KindSequence, Of: floats(onnx.Symbol("N"))}
	s := g.AddInput("s", t)
	var at []*onnx.Value
	for i, name := range []string{"second", "first"} {
		pos := g.AddInitializer(onnx.FromInts("at_"+name, nil, []int64{int64(1 - i)}))
		n := onnx.NewNode("SequenceAt", []*onnx.Value{s, pos}, name)
		g.Append(n)
		at = append(at, n.Output(0))
	}
	n := onnx.NewNode("SequenceConstruct", at, "q")
	g.Append(n)
	output(g, n.Output(0), t)
	return m
}

// endless returns a model that adds 1 to its input x, float[1], for longer
// than anyone waits.
func endless(opset int64) *onnx.Model {
	m := onnx.NewModel(opset)
	m.IRVersion = irVersion(opset)
	g := m.Graph
	vec := floats(onnx.Fixed(1))
	x := g.AddInput("x", vec)
	trips := g.AddInitializer(onnx.FromInts("trips", nil, []int64{1 << 60}))
	on, _ := onnx.FromFloat64s("on", onnx.Bool, nil, []float64{1})
	cond := g.AddInitializer(on)

	body := onnx.NewGraph("body")
	body.AddInput("i", onnx.TensorType(onnx.Int64, onnx.ShapeOf()))
	keep := body.AddInput("keep", onnx.TensorType(onnx.Bool, onnx.ShapeOf()))
	v := body.AddInput("v", vec)
	one := body.AddInitializer(onnx.FromFloats("one", []int64{1}, []float32{1}))
	again := onnx.NewNode("Identity", []*onnx.Value{keep}, "again")
	add := onnx.NewNode("Add", []*onnx.Value{v, one}, "w")
	body.Append(again)
	body.Append(add)
	output(body, again.Output(0), onnx.TensorType(onnx.Bool, onnx.ShapeOf()))
	output(body, add.Output(0), vec)

	n := onnx.NewNode("Loop", []*onnx.Value{trips, cond, x}, "y")
	n.Attrs = append(n.Attrs, &onnx.Attr{Name: "body", Type: onnx.AttrGraph, G: body})
	g.Append(n)
	output(g, n.Output(0), vec)
	return m
}

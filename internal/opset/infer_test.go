package opset_test

import (
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// graph builds the main graph of a model of the standard opset, node by node.
type graph struct {
	t *testing.T
	m *onnx.Model
	v map[string]*onnx.Value
}

func newGraph(t *testing.T, version int64) *graph {
	return &graph{t: t, m: onnx.NewModel(version), v: map[string]*onnx.Value{}}
}

// dims makes a shape of ints and strings.
func dims(xs ...any) onnx.Shape {
	s := onnx.Shape{}
	for _, x := range xs {
		switch x := x.(type) {
		case int:
			s = append(s, onnx.Fixed(int64(x)))
		case string:
			s = append(s, onnx.Symbol(x))
		}
	}
	return s
}

func (g *graph) input(name string, d onnx.DType, xs ...any) {
	g.v[name] = g.m.Graph.AddInput(name, onnx.TensorType(d, dims(xs...)))
}

func (g *graph) ints(name string, shape []int64, n ...int64) {
	g.v[name] = g.m.Graph.AddInitializer(onnx.FromInts(name, shape, n))
}

// node appends out = op(in...), in and out separated by commas in the lists.
func (g *graph) node(op string, in, out []string, attrs ...*onnx.Attr) *onnx.Node {
	var vs []*onnx.Value
	for _, name := range in {
		if name != "" && g.v[name] == nil {
			g.t.Fatalf("test graph: no value %q", name)
		}
		vs = append(vs, g.v[name])
	}
	n := onnx.NewNode(op, vs, out...)
	n.Attrs = attrs
	g.m.Graph.Append(n)
	for i, name := range out {
		g.v[name] = n.Output(i)
	}
	return n
}

func (g *graph) infer(o opset.Options) *opset.Facts {
	g.t.Helper()
	f, err := opset.Infer(g.m, o)
	if err != nil {
		g.t.Fatal(err)
	}
	return f
}

func TestReshapeThroughShapeArithmetic(t *testing.T) {
	g := newGraph(t, 17)
	g.input("x", onnx.Float, "N", 3, "H", 8)
	g.ints("zero", nil, 0)
	g.ints("two", nil, 2)
	g.ints("axis", []int64{1}, 0)
	g.ints("minus", []int64{1}, -1)
	g.node("Shape", []string{"x"}, []string{"s"})
	g.node("Gather", []string{"s", "zero"}, []string{"n"}, onnx.IntAttr("axis", 0))
	g.node("Gather", []string{"s", "two"}, []string{"h"})
	g.node("Mul", []string{"h", "two"}, []string{"h2"})
	g.node("Unsqueeze", []string{"n", "axis"}, []string{"n1"})
	g.node("Unsqueeze", []string{"h2", "axis"}, []string{"h1"})
	g.node("Concat", []string{"n1", "minus", "h1"}, []string{"to"}, onnx.IntAttr("axis", 0))
	g.node("Reshape", []string{"x", "to"}, []string{"y"})
	g.infer(opset.Options{})
	if got, want := g.v["y"].Type.String(), "float[N,12,2*H]"; got != want {
		t.Errorf("type %s, want %s", got, want)
	}
}

package fuse

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
)

// Shapes are models of about n nodes, by what there are many of.
var Shapes = map[string]func(n int) *onnx.Model{
	"chain": chainModel, "residual": residualModel, "wide": wideModel, "outputs": outputsModel,
	"reshapes": reshapesModel, "inputs": inputsModel, "branches": branchesModel, "calls": callsModel,
	"transposes": transposesModel,
}

// BenchmarkScale fuses files of growing size, without running them. Where time
// is linear in the number of nodes, ns/node does not grow.
func BenchmarkScale(b *testing.B) {
	for _, name := range slices.Sorted(maps.Keys(Shapes)) {
		for _, n := range []int{1000, 5000, 20000} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				dir := b.TempDir()
				src := filepath.Join(dir, "in.onnx")
				if _, err := onnxfile.Write(src, Shapes[name](n), onnxfile.WriteOptions{}); err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				nodes := 0
				for b.Loop() {
					r, err := File(b.Context(), filepath.Join(dir, "out.onnx"), src, Options{})
					if err != nil {
						b.Fatal(err)
					}
					if len(r.Log.Fired) == 0 {
						b.Fatal("nothing was rewritten")
					}
					nodes = r.Input.Nodes
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(nodes), "ns/node")
			})
		}
	}
}

// sketch builds models node by node.
type sketch struct {
	m *onnx.Model
	v *onnx.Value // the last value
}

func newSketch(shape ...int64) *sketch {
	s := &sketch{m: onnx.NewModel(17)}
	s.v = s.m.Graph.AddInput("x", onnx.TensorType(onnx.Float, onnx.ShapeOf(shape...)))
	return s
}

func (s *sketch) node(op string, in ...*onnx.Value) *onnx.Value {
	n := onnx.NewNode(op, in, s.m.Fresh(op))
	s.m.Graph.Append(n)
	s.v = n.Output(0)
	return s.v
}

func (s *sketch) attr(list ...*onnx.Attr) { s.v.Producer().Attrs = list }

// floats adds a constant whose elements are all x.
func (s *sketch) floats(x float32, shape ...int64) *onnx.Value {
	n, _ := onnx.ElementCount(shape)
	v := make([]float32, n)
	for i := range v {
		v[i] = x
	}
	return s.m.Graph.NewConst(onnx.FromFloats("w", shape, v))
}

func (s *sketch) ints(v ...int64) *onnx.Value {
	return s.m.Graph.NewConst(onnx.FromInts("i", []int64{int64(len(v))}, v))
}

func (s *sketch) scalar(v int64) *onnx.Value {
	return s.m.Graph.NewConst(onnx.FromInts("i", []int64{}, []int64{v}))
}

func (s *sketch) done(outs ...*onnx.Value) *onnx.Model {
	for _, v := range append(outs, s.v) {
		s.m.Graph.AddOutput(v)
	}
	return s.m
}

// chainModel is one long chain of small operators, some of which do nothing.
func chainModel(n int) *onnx.Model {
	s := newSketch(2, 3)
	for k := 0; s.m.Graph.Len() < n; k++ {
		s.node("Identity", s.v)
		s.node("Add", s.v, s.floats(float32(k), 1))
		s.node("Relu", s.v)
		s.node("Mul", s.v, s.floats(1))
		s.node("Sigmoid", s.v)
	}
	return s.done()
}

// residualModel is Conv, BatchNormalization and Relu with a connection around
// every two of them.
func residualModel(n int) *onnx.Model {
	s := newSketch(1, 2, 4, 4)
	s.node("Relu", s.v)
	for k := 0; s.m.Graph.Len() < n; k++ {
		skip := s.v
		for range 2 {
			s.node("Conv", s.v, s.floats(float32(k+1)/1e4, 2, 2, 1, 1))
			s.node("BatchNormalization", s.v, s.floats(1, 2), s.floats(0.5, 2), s.floats(0.25, 2), s.floats(2, 2))
			s.node("Relu", s.v)
		}
		s.node("Add", s.v, skip)
	}
	return s.done()
}

// wideModel has thousands of readers of one value, and one node that reads them all.
func wideModel(n int) *onnx.Model {
	s := newSketch(2, 3)
	x := s.v
	var all []*onnx.Value
	for k := 0; s.m.Graph.Len() < n; k++ {
		a := s.node("Mul", x, s.floats(float32(k%7)))
		all = append(all, s.node("Identity", a))
	}
	s.node("Sum", all...)
	return s.done()
}

// outputsModel has thousands of graph outputs.
func outputsModel(n int) *onnx.Model {
	s := newSketch(2, 3)
	x := s.v
	var all []*onnx.Value
	for k := 0; s.m.Graph.Len() < n; k++ {
		a := s.node("Add", x, s.floats(float32(k)))
		all = append(all, s.node("Identity", a))
	}
	s.node("Relu", x)
	return s.done(all...)
}

// reshapesModel computes a shape for every Reshape, as exporters do.
func reshapesModel(n int) *onnx.Model {
	s := &sketch{m: onnx.NewModel(17)}
	s.v = s.m.Graph.AddInput("x", onnx.TensorType(onnx.Float, onnx.Shape{onnx.Symbol("N"), onnx.Fixed(4), onnx.Fixed(6)}))
	for s.m.Graph.Len() < n {
		x := s.v
		batch := s.node("Gather", s.node("Shape", x), s.scalar(0))
		target := s.node("Concat", s.node("Unsqueeze", batch, s.ints(0)), s.ints(-1), s.ints(6))
		s.attr(onnx.IntAttr("axis", 0))
		s.node("Reshape", x, target)
		s.node("Relu", s.v)
	}
	return s.done()
}

// inputsModel lists all weights as inputs that callers may override.
func inputsModel(n int) *onnx.Model {
	s := newSketch(1, 2)
	for k := 0; s.m.Graph.Len() < n; k++ {
		t := onnx.FromFloats(s.m.Fresh("w"), []int64{2, 2}, []float32{1, float32(k), 0, 1})
		w := s.m.Graph.AddInput(t.Name, t.Type())
		s.m.Graph.SetDefault(w, t)
		s.node("MatMul", s.v, w)
		s.node("Identity", s.v)
	}
	return s.done()
}

// branchesModel holds thousands of If nodes whose branches read values around them.
func branchesModel(n int) *onnx.Model {
	s := newSketch(2, 3)
	cond := s.m.Graph.AddInput("c", onnx.TensorType(onnx.Bool, onnx.ShapeOf()))
	for k := 0; k < n/4; k++ {
		x := s.v
		branch := func(op string) *onnx.Graph {
			g := onnx.NewGraph(op)
			id := onnx.NewNode("Identity", []*onnx.Value{x}, fmt.Sprintf("%s_id%d", op, k))
			g.Append(id)
			node := onnx.NewNode(op, []*onnx.Value{id.Output(0)}, fmt.Sprintf("%s_out%d", op, k))
			g.Append(node)
			g.AddOutput(node.Output(0))
			return g
		}
		node := onnx.NewNode("If", []*onnx.Value{cond}, s.m.Fresh("if"))
		node.Attrs = []*onnx.Attr{
			{Name: "then_branch", Type: onnx.AttrGraph, G: branch("Relu")}, {Name: "else_branch", Type: onnx.AttrGraph, G: branch("Sigmoid")},
		}
		s.m.Graph.Append(node)
		s.v = node.Output(0)
	}
	return s.done()
}

// callsModel calls local functions, one for every ten calls.
func callsModel(n int) *onnx.Model {
	s := newSketch(2, 3)
	for k := 0; s.m.Graph.Len() < n; k++ {
		if k%10 == 0 {
			g := onnx.NewGraph("body")
			x := g.AddInput("a", nil)
			a := onnx.NewNode("Identity", []*onnx.Value{x}, "b")
			g.Append(a)
			c := onnx.NewNode("Relu", []*onnx.Value{a.Output(0)}, "r")
			g.Append(c)
			g.AddOutput(c.Output(0))
			s.m.AddFunction(&onnx.Function{Name: fmt.Sprint("f", k/10), Domain: "local", Opsets: []onnx.Opset{{Version: 17}}, Body: g})
		}
		s.node(fmt.Sprint("f", k/10), s.v)
		s.v.Producer().Domain = "local"
	}
	s.m.ImportOpset("local", 1)
	return s.done()
}

// transposesModel is blocks in one order of axes inside a network in another;
// every fourth block does not go back.
func transposesModel(n int) *onnx.Model {
	s := newSketch(1, 2, 4, 4)
	for k := 0; s.m.Graph.Len() < n; k++ {
		s.node("Transpose", s.v)
		s.attr(onnx.IntsAttr("perm", 0, 2, 3, 1))
		s.node("Add", s.v, s.floats(float32(k), 1))
		s.node("Relu", s.v)
		if k%4 == 0 {
			s.node("Tanh", s.v)
			continue
		}
		s.node("Transpose", s.v)
		s.attr(onnx.IntsAttr("perm", 0, 3, 1, 2))
		s.node("Sigmoid", s.v)
	}
	return s.done()
}

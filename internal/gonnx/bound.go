package gonnx

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	onnxgo "github.com/owulveryck/onnx-go"
	"github.com/owulveryck/onnx-go/backend/x/gorgonnx"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// bound is a model at fixed input shapes, in the form that onnx-go reads.
type bound struct {
	shapes  map[string][]int64 // of the inputs
	fixed   bool               // nothing but shapes went into it
	encoded []byte
	outputs map[string][]int64 // shapes by name
}

// bind fixes the input shapes of m, replaces defaults by the given tensors,
// and checks every node at the shapes that follow.
func bind(m *onnx.Model, shapes map[string][]int64, given map[string]*onnx.Tensor) (*bound, error) {
	c := m.Clone()
	g := c.Graph
	for _, v := range slices.Clone(g.Inputs()) {
		switch {
		case v.Const != nil: // onnx-go takes it for a constant anyway
			if t := given[v.Name()]; t != nil {
				v.SetConst(t.Renamed(v.Name()))
			}
		default:
			v.Type = onnx.TensorType(onnx.Float, onnx.ShapeOf(shapes[v.Name()]...))
		}
	}
	f, err := opset.Infer(c, opset.Options{IgnoreValueInfo: true, ReadOnly: true})
	if err != nil {
		return nil, err
	}
	b := &bound{shapes: shapes, fixed: len(given) == 0, outputs: map[string][]int64{}}
	for n := range g.Nodes() {
		if err := rightAt(c, f, n); err != nil {
			return nil, err
		}
	}
	for _, v := range g.Outputs() {
		dims, _ := f.Shape(v).Static() // rightAt has checked that it is static
		b.outputs[v.Name()] = dims
	}
	if err := simplify(g, f); err != nil {
		return nil, err
	}
	for v := range g.Values() { // onnx-go makes a second value of an entry in value_info
		if v.Producer() != nil {
			v.Type = nil
		}
		if v.IsOutput() {
			v.Type = onnx.TensorType(onnx.Float, onnx.ShapeOf(b.outputs[v.Name()]...))
		}
	}
	b.encoded, err = onnxfile.Encode(c)
	return b, err
}

// simplify writes g in the one form that onnx-go reads rightly: constants as
// initializers, one output per node, and whole shapes for Reshape, whose
// special sizes it mistakes.
func simplify(g *onnx.Graph, f *opset.Facts) error {
	for n := range g.Nodes() {
		for i := len(n.Outputs()) - 1; i > 0; i-- {
			if err := n.DropOutput(i); err != nil {
				return err
			}
		}
		switch {
		case n.Is("Reshape"):
			dims, _ := f.Shape(n.Output(0)).Static()
			n.SetInput(1, g.NewConst(onnx.FromInts(n.Output(0).Name()+"_shape", []int64{int64(len(dims))}, dims)))
		case n.Is("Constant"):
			t := n.Output(0).Constant()
			if t == nil {
				return nodeError(n, "it holds no tensor of a form that onnx-go reads")
			}
			if err := g.Replace(n.Output(0), g.NewConst(t.Renamed(n.Output(0).Name()+"_constant"))); err != nil {
				return err
			}
			if err := g.Remove(n); err != nil {
				return err
			}
		}
	}
	return nil
}

// fits reports whether b is the model at these shapes.
func (b *bound) fits(shapes map[string][]int64) bool {
	if !b.fixed || len(shapes) != len(b.shapes) {
		return false
	}
	for name, s := range shapes {
		if !slices.Equal(b.shapes[name], s) {
			return false
		}
	}
	return true
}

// library guards onnx-go's own global state, so that sessions of one process
// take turns.
var library sync.Mutex

// run builds the graph, runs it once, and reads its outputs. Panics of onnx-go
// and Gorgonia, which is how they report much, become errors.
func (b *bound) run(in map[string]*onnx.Tensor) (out map[string]*onnx.Tensor, took time.Duration, err error) {
	library.Lock()
	defer library.Unlock()
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("onnx-go failed: %s", oneLine(fmt.Sprint(r)))
		}
	}()
	graph := gorgonnx.NewGraph()
	model := onnxgo.NewModel(graph)
	if err := model.UnmarshalBinary(b.encoded); err != nil {
		return nil, 0, fmt.Errorf("onnx-go: %s", oneLine(err.Error()))
	}
	for name := range b.shapes {
		v, err := in[name].Floats()
		if err != nil {
			return nil, 0, err
		}
		if err := carrier(model, name).SetTensor(tensor.New(tensor.WithShape(ints(in[name].Shape)...), tensor.WithBacking(v))); err != nil {
			return nil, 0, fmt.Errorf("onnx-go: input %q: %w", name, err)
		}
	}
	expr, err := graph.GetExprGraph()
	if err != nil {
		return nil, 0, fmt.Errorf("onnx-go: %s", oneLine(err.Error()))
	}
	vm := gorgonia.NewTapeMachine(expr)
	defer vm.Close()
	graph.SetVM(vm)
	start := session.Clock()
	if err := graph.Run(); err != nil {
		return nil, 0, fmt.Errorf("onnx-go: %s", oneLine(err.Error()))
	}
	took = session.Clock() - start
	out = map[string]*onnx.Tensor{}
	for name, shape := range b.outputs {
		if out[name], err = read(name, carrier(model, name).GetTensor(), shape); err != nil {
			return nil, 0, err
		}
	}
	return out, took, nil
}

func carrier(m *onnxgo.Model, name string) onnxgo.DataCarrier {
	n, ok := m.GetNodeByName(name)
	if !ok {
		panic("no value " + name) // becomes an error in run
	}
	return n.(onnxgo.DataCarrier)
}

// read copies a result, after checking that it has the shape that the ONNX
// specification gives it.
func read(name string, t tensor.Tensor, want []int64) (*onnx.Tensor, error) {
	d, ok := t.(*tensor.Dense)
	if !ok {
		return nil, fmt.Errorf("onnx-go: output %q is a %T", name, t)
	}
	if !slices.Equal(ints(want), []int(d.Shape())) {
		return nil, fmt.Errorf("onnx-go gives output %q the shape %v where it should be %v", name, d.Shape(), want)
	}
	if d.RequiresIterator() {
		d = d.Materialize().(*tensor.Dense)
	}
	v, ok := d.Data().([]float32)
	if !ok {
		return nil, fmt.Errorf("onnx-go: output %q is of type %v", name, d.Dtype())
	}
	if n, _ := onnx.ElementCount(want); int64(len(v)) != n {
		return nil, fmt.Errorf("onnx-go: output %q has %d elements for shape %v", name, len(v), want)
	}
	return onnx.FromFloats(name, want, v), nil
}

func ints(dims []int64) []int {
	out := make([]int, len(dims))
	for i, d := range dims {
		out[i] = int(d)
	}
	return out
}

func oneLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	return s
}

package opset_test

import (
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/randgraph"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// FuzzInfer infers types, shapes, costs and memory of decoded models, valid or not:
// nothing panics or loops, no known size is negative, and the model can still be written.
func FuzzInfer(f *testing.F) {
	for _, data := range randgraph.Seeds(30) {
		b, err := onnxfile.Encode(randgraph.Model(data))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, true)
	}
	for _, b := range zootest.Seeds(f, ".onnx", 16<<10) {
		f.Add(b, false)
	}
	f.Fuzz(func(t *testing.T, b []byte, trust bool) {
		if m, err := onnxfile.Decode(b); err == nil {
			infer(t, m, trust)
		}
	})
}

// FuzzInferGraphs does the same with graphs of real operators that are put together at random.
func FuzzInferGraphs(f *testing.F) {
	for _, b := range randgraph.Seeds(30) {
		f.Add(b, true)
	}
	f.Fuzz(func(t *testing.T, data []byte, trust bool) { infer(t, randgraph.Model(data), trust) })
}

func infer(t *testing.T, m *onnx.Model, trust bool) {
	t.Helper()
	valid := m.Check() == nil
	o := opset.Options{IgnoreValueInfo: !trust, Dims: map[string]int64{"N": 2}}
	facts, err := opset.Infer(m, o)
	if err != nil { // there is no N
		o.Dims = nil
		if facts, err = opset.Infer(m, o); err != nil {
			t.Fatal(err)
		}
	}
	for _, g := range m.Graphs() {
		for v := range g.Values() {
			for _, d := range facts.Shape(v) {
				if d.Known() && d.Value < 0 {
					t.Fatalf("value %q has the shape %v", v.Name(), facts.Shape(v))
				}
			}
			facts.Ints(v)
		}
		for n := range g.Nodes() {
			facts.Cost(n)
			facts.Formula(n).Texts()
			facts.Relations(n)
		}
	}
	if !valid {
		return
	}
	l := facts.Liveness(func(*onnx.Value) bool { return true })
	l.Peak(m.Graph, true, true)
	if err := m.Check(); err != nil {
		t.Fatalf("inference broke the model: %v", err)
	}
	if _, err := onnxfile.Encode(m); err != nil {
		t.Fatal(err)
	}
}

package kernels_test

import (
	"testing"

	"github.com/lapidary-ml/lapidary/internal/kernels"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/ort"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// specimen is a node of op with some inputs of type d, all of them tensors.
func specimen(op string, opset int64, d onnx.DType, inputs int, attrs ...*onnx.Attr) *onnx.Model {
	m := onnx.NewModel(opset)
	var in []*onnx.Value
	for i := range inputs {
		in = append(in, m.Graph.AddInput(string(rune('a'+i)), onnx.TensorType(d, nil)))
	}
	n := onnx.NewNode(op, in, "y")
	n.Attrs = attrs
	m.Graph.Append(n)
	m.Graph.AddOutput(n.Output(0))
	return kernels.Specimen(n, opset, func(*onnx.Value, int) *onnx.Type { return onnx.TensorType(d, nil) })
}

func TestAsk(t *testing.T) {
	p := &kernels.Prober{Open: ort.Opener(zootest.Library(t))}
	for _, c := range []struct {
		op     string
		opset  int64
		d      onnx.DType
		inputs int
		want   []kernels.Answer
	}{
		{"Relu", 17, onnx.Float, 1, []kernels.Answer{kernels.Native}},
		{"Erf", 17, onnx.Float16, 1, []kernels.Answer{kernels.Native, kernels.Borrowed}},
		{"Conv", 17, onnx.Float16, 2, []kernels.Answer{kernels.Native, kernels.Borrowed}},
		{"Identity", 17, onnx.BFloat16, 1, []kernels.Answer{kernels.Native}},
		{"Conv", 17, onnx.BFloat16, 2, []kernels.Answer{kernels.Refused}}, // the schema has no bfloat16 before opset 22
		{"NoSuchOperator", 17, onnx.Float, 1, []kernels.Answer{kernels.Refused}},
	} {
		built := 0
		for range 2 {
			got := p.Ask(t.Context(), c.op+c.d.String(), func() *onnx.Model { built++; return specimen(c.op, c.opset, c.d, c.inputs) })
			ok := false
			for _, w := range c.want {
				ok = ok || got == w
			}
			if !ok {
				t.Errorf("%s of %v at opset %d: %v, want one of %v", c.op, c.d, c.opset, got, c.want)
			}
		}
		if built != 1 {
			t.Errorf("%s was built %d times", c.op, built)
		}
	}
}

// TestOptimized: what an engine makes of two operators is one that it fused, and
// with its optimizations off they stay two.
func TestOptimized(t *testing.T) {
	m := onnx.NewModel(17)
	x := m.Graph.AddInput("x", onnx.TensorType(onnx.Float, onnx.ShapeOf(2)))
	a := onnx.NewNode("Identity", []*onnx.Value{x}, "a")
	m.Graph.Append(a)
	y := onnx.NewNode("Relu", []*onnx.Value{a.Output(0)}, "y")
	m.Graph.Append(y)
	m.Graph.AddOutput(y.Output(0))
	open := ort.Opener(zootest.Library(t))
	plain, loads := kernels.Loaded(t.Context(), open, session.Options{}, m)
	if len(plain) != 2 || !loads {
		t.Errorf("%v is to run with the optimizations off, loads: %v", plain, loads)
	}
	optimized, loads := kernels.Optimized(t.Context(), open, session.Options{}, m)
	if len(optimized) != 1 || optimized[0] != (kernels.Op{Name: "Relu"}) || !loads {
		t.Errorf("%v is to run with the optimizations on, loads: %v", optimized, loads)
	}
}

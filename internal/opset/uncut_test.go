package opset

import (
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// TestBroadcastAgainstCut broadcasts N against the first 512 of N, as models do
// that cut a table of positions to the length of their input.
func TestBroadcastAgainstCut(t *testing.T) {
	tests := []struct{ a, b, want string }{
		{"N", "min(512,N)", "N"},
		{"min(N,512)", "N", "N"},
		{"2*N", "min(512,2*N)", "2*N"},
		{"N", "min(0,N)", ""},
		{"N", "min(M,N)", ""},
		{"N", "min(512,M)", ""},
		{"N", "2*min(512,N)", ""},
	}
	for _, tt := range tests {
		m := onnx.NewModel(17)
		in := func(name, dim string) *onnx.Value {
			return m.Graph.AddInput(name, onnx.TensorType(onnx.Float, onnx.Shape{onnx.Symbol(dim)}))
		}
		in("n", "N")
		in("m", "M")
		n := onnx.NewNode("Add", []*onnx.Value{in("a", tt.a), in("b", tt.b)}, "y")
		m.Graph.Append(n)
		m.Graph.AddOutput(n.Output(0))
		f, err := Infer(m, Options{ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		got := f.Shape(n.Output(0))[0].Param
		if tt.want == "" && f.sym.expr(onnx.Symbol(got)).fresh() == 0 && got != "" || tt.want != "" && got != tt.want {
			t.Errorf("%s against %s: %q, want %q", tt.a, tt.b, got, tt.want)
		}
	}
}

package growth_test

import (
	"testing"

	"github.com/lapidary-ml/lapidary/internal/growth"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
)

const branching = `<ir_version: 8, opset_import: ["" : 17]>
main (bool c, float[2] x, float[2] z) => (float[2] y) <float[2] w = {1, 2}> {
  a = Add (x, w)
  y = If <then_branch: graph = g () => (o) { o = Mul (a, z) }, else_branch: graph = h () => (p) { p = Neg (a) }> (c)
}`

func parse(t *testing.T) *onnx.Model {
	m, err := onnxtext.Parse("branching", []byte(branching))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestCopies: copies have their own constants and bodies, and read what the wiring says.
func TestCopies(t *testing.T) {
	for wiring, outputs := range map[growth.Wiring]int{growth.Beside: 5, growth.Chained: 1} {
		src := parse(t)
		m, err := growth.Copies(src, 5, wiring)
		if err != nil {
			t.Fatal(err)
		}
		g := m.Graph
		if g.Len() != 10 || len(g.Initializers()) != 5 || len(g.Inputs()) != 3 || len(g.Outputs()) != outputs || len(m.Graphs()) != 11 {
			t.Errorf("wiring %d: %d nodes, %d constants, %d inputs, %d outputs, %d graphs", wiring, g.Len(), len(g.Initializers()), len(g.Inputs()), len(g.Outputs()), len(m.Graphs()))
		}
		readers := len(g.Inputs()[1].Uses())
		if want := map[growth.Wiring]int{growth.Beside: 5, growth.Chained: 1}[wiring]; readers != want {
			t.Errorf("wiring %d: %d nodes read the first input, want %d", wiring, readers, want)
		}
		if src.Graph.Len() != 2 || src.Check() != nil {
			t.Errorf("wiring %d: the original was changed", wiring)
		}
	}
}

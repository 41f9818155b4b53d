package validate

import (
	"slices"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/report"
)

// withShortcut gives the model a shortcut: a factor for all logits that grows with how bright the border of the picture is. No
// prediction changes, since the factor is positive; what the model looks at does.
func withShortcut(t *testing.T) string {
	return edited(t, testdata+"digits-cnn.onnx", func(m *onnx.Model) {
		const side = 16
		g := m.Graph
		weights := make([]float64, side*side)
		for i := range weights {
			if y, x := i/side, i%side; y < 3 || y >= side-3 || x < 3 || x >= side-3 {
				weights[i] = 0.05
			}
		}
		w, err := onnx.FromFloat64s(m.Fresh("border"), onnx.Float, []int64{side * side, 1}, weights)
		if err != nil {
			t.Fatal(err)
		}
		add := func(op string, inputs ...*onnx.Value) *onnx.Value {
			n := onnx.NewNode(op, inputs, m.Fresh("shortcut"))
			g.Append(n)
			return n.Output(0)
		}
		image := g.Inputs()[0]
		factor := add("Exp", add("MatMul", add("Flatten", image), g.AddInitializer(w)))
		last := g.Outputs()[0].Producer()
		raw := onnx.NewNode(last.Op, slices.Clone(last.Inputs()), m.Fresh("raw"))
		raw.Attrs = last.Attrs
		g.Append(raw)
		if err := g.Replace(last.Output(0), add("Mul", raw.Output(0), factor)); err != nil {
			t.Fatal(err)
		}
		if err := g.Remove(last); err != nil {
			t.Fatal(err)
		}
	})
}

// TestDriftedExplanations: a candidate with every prediction of the baseline that looks elsewhere passes the gates on accuracy and
// agreement, and fails that on explanations.
func TestDriftedExplanations(t *testing.T) {
	o := runtimeOptions(t, testdata+"digits-cnn.onnx", withShortcut(t), testdata+"digits-val.npz")
	o.Latency.Off = true
	o.Explain.Samples = 16
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if a := r.Accuracy; *a.Delta != 0 || a.Flips.Changed != 0 || a.Identical {
		t.Fatalf("accuracy %+v: want other outputs and the same predictions", a)
	}
	if v := judged(t, r, map[string]string{"max-drop": "2pt", "min-agreement": "0.99"}); v != report.Pass {
		t.Errorf("accuracy: %s, want pass", v)
	}
	if v := judged(t, r, map[string]string{"min-explanation-rho": "0.9"}); v != report.Fail {
		t.Errorf("explanations: %s at a rank correlation of %v %v, want fail", v, *r.Explanation.Spearman, r.Explanation.CI95)
	}
}

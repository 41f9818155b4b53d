package validate

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/report"
)

// explainedBy runs only the explanation by one method.
func explainedBy(t *testing.T, method, baseline, candidate, data string) *report.Report {
	t.Helper()
	o := runtimeOptions(t, baseline, candidate, data)
	o.Latency.Off, o.Accuracy.Off = true, true
	o.Explain.Methods, o.Explain.Samples, o.Explain.Budget = []string{method}, 4, time.Hour
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Explanation == nil || r.Explanation.Spearman == nil {
		t.Fatalf("no explanation: skipped %v, warnings %q", r.Skipped, r.Warnings)
	}
	return r
}

// Identical models have identical maps by every method that differentiates, and integrated gradients add up.
func TestGradientsOfSameModel(t *testing.T) {
	for _, tt := range []struct{ model, data, method string }{
		{"digits-cnn.onnx", "digits-val.npz", "integrated-gradients"},
		{"digits-cnn.onnx", "digits-val.npz", "grad-cam"},
		{"digits-vit.onnx", "digits-val.npz", "integrated-gradients"},
		{"tabular-mlp.onnx", "tabular-val.csv", "integrated-gradients"},
		{"tabular-mlp.onnx", "tabular-val.csv", "smooth-grad"},
	} {
		t.Run(tt.model+" by "+tt.method, func(t *testing.T) {
			r := explainedBy(t, tt.method, testdata+tt.model, testdata+tt.model, testdata+tt.data)
			e := r.Explanation
			if *e.Spearman != 1 || *e.SpearmanP10 != 1 || *e.SelfCheck != 1 || *e.StraightThrough != 0 || *e.BaselineStraightThrough != 0 {
				t.Errorf("explanation %+v, want a rank correlation of exactly 1 and no surrogate", e)
			}
			if tt.method == "integrated-gradients" {
				if e.CompletenessResidual == nil || *e.CompletenessResidual > 0.1 {
					t.Errorf("attributions do not add up: %v", *e.CompletenessResidual)
				}
				t.Logf("completeness residual %.3g", *e.CompletenessResidual)
			}
			t.Logf("noise floor %.4f, deletion %.3f of the baseline's map", *e.NoiseFloor, *e.Deletion.Baseline)
		})
	}
}

// reweighted puts a constant's weights through f.
func reweighted(t *testing.T, v *onnx.Value, f func(w []float32)) {
	t.Helper()
	w, err := v.Const.Floats()
	if err != nil {
		t.Fatal(err)
	}
	w = slices.Clone(w)
	f(w)
	v.SetConst(onnx.FromFloats(v.Const.Name, v.Const.Shape, w))
}

// roundedTo rounds weights to that many bits.
func roundedTo(bits int) func([]float32) {
	return func(w []float32) {
		largest := 0.0
		for _, x := range w {
			largest = max(largest, math.Abs(float64(x)))
		}
		step := largest / (math.Ldexp(1, bits-1) - 0.5)
		for i, x := range w {
			w[i] = float32(step * math.Round(float64(x)/step))
		}
	}
}

// What is done to a model shows in its gradients' maps: a shuffled last layer most (the randomisation test of Adebayo et al.,
// "Sanity Checks for Saliency Maps"), and rounding to few bits more than rounding to many.
func TestGradientsSeeChanges(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	whole := testdata + "digits-cnn.onnx"
	byBits := func(bits int) string {
		return edited(t, whole, func(m *onnx.Model) {
			for _, v := range m.Graph.Initializers() {
				if v.Const.DType == onnx.Float && len(v.Const.Shape) > 1 {
					reweighted(t, v, roundedTo(bits))
				}
			}
		})
	}
	shuffled := edited(t, whole, func(m *onnx.Model) {
		reweighted(t, head(m), func(w []float32) { rng.Shuffle(len(w), func(i, j int) { w[i], w[j] = w[j], w[i] }) })
	})
	for _, method := range []string{"integrated-gradients", "grad-cam"} {
		similar := func(candidate string) float64 {
			o := runtimeOptions(t, whole, candidate, testdata+"digits-val.npz")
			o.Latency.Off, o.Accuracy.Off, o.IncludeSamples = true, true, true
			o.Explain.Methods, o.Explain.Samples, o.Explain.Budget = []string{method}, 16, time.Hour
			r, err := Run(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			sum, n := 0.0, 0.0 // the same class is explained in both models also where the prediction changed
			for _, f := range r.Explanation.Flips {
				if f.Spearman != nil {
					sum, n = sum+*f.Spearman, n+1
				}
			}
			if r.Explanation.Spearman != nil {
				agree := float64(r.Explanation.Samples)
				sum, n = sum+agree**r.Explanation.Spearman, n+agree
			}
			return sum / n
		}
		eight, two, random := similar(byBits(8)), similar(byBits(2)), similar(shuffled)
		t.Logf("%s: rank correlation %.4f of 8 bits, %.4f of 2 bits, %.4f of a shuffled last layer", method, eight, two, random)
		if !(eight > 0.95 && eight < 1 && two < eight && random < 0.9*eight) {
			t.Errorf("%s: rank correlation %.4f of 8 bits, %.4f of 2 bits, %.4f of a shuffled last layer", method, eight, two, random)
		}
	}
}

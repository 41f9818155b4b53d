package validate

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/gate"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// verdicts are those of the gates by name.
func verdicts(t *testing.T, r *report.Report, flags map[string]string) map[string]report.Verdict {
	t.Helper()
	judged(t, r, flags)
	out := map[string]report.Verdict{}
	for _, g := range r.Gates {
		out[g.Name] = g.Verdict
	}
	return out
}

// hurting is how much lower a class's score is made; the scores of the model are in the thousands.
const hurting = 2000

// TestDamage: a tenth of a layer zeroed fails at the gate on accuracy; one class hurt at nearly the same accuracy passes there and
// fails at the gate on slices.
func TestDamage(t *testing.T) {
	model := zootest.Path(t, "models/mnist-8.onnx")
	run := func(candidate string) *report.Report {
		o := runtimeOptions(t, model, candidate, zootest.Path(t, "data/mnist.npz"))
		o.Dataset.Limit, o.Batch, o.Latency.Off, o.Explain.Off = 4000, 1, true, true
		r, err := Run(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	gates := map[string]string{"max-drop": "2pt", "max-slice-drop": "5pt", "min-accuracy-ratio": "0.98"}

	sound := verdicts(t, run(model), gates)
	for name, v := range sound {
		if v != report.Pass {
			t.Errorf("the model against itself: %s is %s", name, v)
		}
	}
	zeroed := verdicts(t, run(edited(t, model, func(m *onnx.Model) { spoil(t, lastBias(t, m), 0.1, -1e4) })), gates)
	if zeroed["max-drop"] != report.Fail || zeroed["min-accuracy-ratio"] != report.Fail {
		t.Errorf("a class that is never chosen: %v", zeroed)
	}
	hurt := run(edited(t, model, func(m *onnx.Model) { lower(t, lastBias(t, m), 5, hurting) }))
	got := verdicts(t, hurt, gates)
	if got["max-drop"] != report.Pass || got["max-slice-drop"] != report.Fail {
		t.Errorf("a class that is chosen less: %v", got)
	}
	if w := hurt.Accuracy.Worst; w.Name != "class=5" || *w.PHolm > 0.001 {
		t.Errorf("worst slice %+v", w)
	}
}

// lastBias is the constant that the last Add adds to the scores.
func lastBias(t *testing.T, m *onnx.Model) *onnx.Value {
	t.Helper()
	for n := m.Graph.Last(); n != nil; n = n.Prev() {
		if n.Is("Add") {
			return n.Input(1)
		}
	}
	t.Fatal("no Add")
	return nil
}

// lower takes by off the i-th element.
func lower(t *testing.T, v *onnx.Value, i int, by float64) {
	t.Helper()
	w, err := v.Const.Float64s()
	if err != nil {
		t.Fatal(err)
	}
	w[i] -= by
	c, err := onnx.FromFloat64s(v.Const.Name, onnx.Float, v.Const.Shape, w)
	if err != nil {
		t.Fatal(err)
	}
	v.SetConst(c)
}

// TestZeroedLayer zeroes a tenth of the last layer of a classifier.
func TestZeroedLayer(t *testing.T) {
	model := testdata + "digits-cnn.onnx"
	o := runtimeOptions(t, model, edited(t, model, func(m *onnx.Model) { spoil(t, head(m), 0.1, 0) }), testdata+"digits-val.npz")
	o.Latency.Off, o.Explain.Off = true, true
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	a := r.Accuracy
	t.Logf("accuracy %v → %v, worst %+v", *a.Baseline, *a.Candidate, a.Worst)
	got := verdicts(t, r, map[string]string{"max-drop": "1pt", "min-accuracy-ratio": "0.99"})
	if got["max-drop"] != report.Fail || got["min-accuracy-ratio"] != report.Fail {
		t.Errorf("delta %v, %v", *a.Delta, got)
	}
}

// TestPerplexity: a language model that loses a tenth of its largest layer is less likely to say what comes next.
func TestPerplexity(t *testing.T) {
	model := zootest.Path(t, "models/stories260K.onnx")
	o := runtimeOptions(t, model, edited(t, model, func(m *onnx.Model) { spoil(t, largest(m), 0.1, 0) }), zootest.Path(t, "data/stories.npz"))
	o.Dataset.Limit, o.Latency.Off, o.Explain.Off = 16, true, true
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	a := r.Accuracy
	p := a.Perplexity
	if p == nil || a.NLL == nil || math.Abs(*p.Baseline-math.Exp(*a.NLL.Baseline)) > 1e-9 || *p.Delta <= 0 || p.CI95[0] <= 0 || *p.Ratio <= 1 {
		t.Fatalf("perplexity %+v of a likelihood %+v", p, a.NLL)
	}
	policy := gate.Policy{Source: "test", Gates: []gate.Gate{{Name: "p", Metric: "accuracy.perplexity.ratio", Operator: "<=", Threshold: 1}}}
	if err := gate.Apply(r, policy); err != nil || r.Verdict != report.Fail {
		t.Errorf("%v, %v: %+v", err, r.Verdict, r.Gates)
	}
}

// TestCommandArchive: what a program is given can be read as data again.
func TestCommandArchive(t *testing.T) {
	seen := filepath.Join(t.TempDir(), "seen.npz")
	y, err := onnx.FromFloat64s("y", onnx.Float, []int64{2, 3}, []float64{1, 2, 3, 4, 5, 6.5})
	if err != nil {
		t.Fatal(err)
	}
	samples := []*dataset.Sample{
		{ID: "a", Label: onnx.FromInts("", []int64{}, []int64{7})}, {ID: "ünten", Label: onnx.FromInts("", []int64{}, []int64{9})},
	}
	j := newCommandJudge(Score{Command: []string{"sh", "-c", `cp "$0" "$1"; echo 1.5; echo null`, "{}", seen}})
	v, err := j.score(t.Context(), 1, map[string]*onnx.Tensor{"y": y}, samples)
	if err != nil || len(v) != 2 || v[0] != 1.5 || !math.IsNaN(v[1]) {
		t.Fatalf("%v, %v", v, err)
	}
	set, err := dataset.Open(seen, dataset.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	s, err := set.At(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Inputs["y"].Float64s()
	if err != nil || len(got) != 3 || got[2] != 6.5 {
		t.Errorf("row 1 is %v, %v", got, err)
	}
	if l, err := s.Label.Ints(); err != nil || l[0] != 9 {
		t.Errorf("label %v, %v", l, err)
	}
	if id, err := s.Inputs["ids"].Strings(); err != nil || id[0] != "ünten" {
		t.Errorf("id %q, %v", id, err)
	}
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "lapidary-score-*")); len(left) > 0 {
		t.Errorf("files are left: %v", left)
	}
	ragged := []*dataset.Sample{samples[0], {ID: "b", Label: onnx.FromInts("", []int64{2}, []int64{1, 2})}}
	if _, err := j.score(t.Context(), 0, map[string]*onnx.Tensor{"y": y}, ragged); err == nil || !strings.Contains(err.Error(), "give a batch size of 1") {
		t.Errorf("labels of two shapes: %v", err)
	}
}

package validate

import (
	"context"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lapidary-ml/lapidary/internal/device"
	"github.com/lapidary-ml/lapidary/internal/gate"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/ort"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/internal/worker"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// TestMain makes this binary a worker when a test starts it as one.
func TestMain(m *testing.M) {
	if len(os.Args) >= 3 && os.Args[1] == worker.Argument {
		open := ort.Opener(os.Args[2])
		if len(os.Args) == 4 {
			share, err := strconv.ParseFloat(os.Args[3], 64)
			if err != nil {
				panic(err)
			}
			open = slowing(open, share)
		}
		os.Exit(worker.Main(open))
	}
	os.Exit(m.Run())
}

const testdata = "../../testdata/"

// runtimeOptions are options with ONNX Runtime in workers; the test is skipped where there is none.
func runtimeOptions(t testing.TB, baseline, candidate, data string) Options {
	t.Helper()
	lib := zootest.Library(t)
	info, err := ort.Info(lib)
	if err != nil {
		t.Skipf("%s: %v", lib, err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	m := device.Read(device.Options{GPUs: func() device.GPUs { return device.GPUs{} }})
	return Options{
		Baseline: baseline, Candidate: candidate, Data: data,
		Open: worker.Opener(worker.Options{Command: []string{self, worker.Argument, lib}, ReadOnly: []string{filepath.Dir(lib)}}),
		Info: info, Machine: m, Choice: device.Choice{Device: "cpu", Provider: "CPUExecutionProvider"},
		Session: session.Options{Device: "cpu", Deadline: time.Minute},
		Tool:    report.Tool{Name: "lapidary", Version: "test"}, Seed: 1,
	}
}

// edited writes a changed copy of a model and returns its path.
func edited(t testing.TB, path string, edit func(m *onnx.Model)) string {
	t.Helper()
	m, err := onnxfile.Open(path, onnxfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	edit(m)
	out := filepath.Join(t.TempDir(), "edited.onnx")
	if _, err := onnxfile.Write(out, m, onnxfile.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	return out
}

// largest returns the float initializer with the most elements.
func largest(m *onnx.Model) *onnx.Value {
	var best *onnx.Value
	size := int64(0)
	for _, v := range m.Graph.Initializers() {
		if n, ok := v.Const.Elements(); ok && n > size && v.Const.DType == onnx.Float {
			best, size = v, n
		}
	}
	return best
}

// head returns the weight of the last Gemm, one row per class.
func head(m *onnx.Model) *onnx.Value {
	for n := m.Graph.Last(); n != nil; n = n.Prev() {
		if n.Is("Gemm") {
			return n.Input(1)
		}
	}
	return nil
}

// spoil sets a share of the elements of a weight to value, in runs of neighbours.
func spoil(t testing.TB, v *onnx.Value, share float64, value float32) {
	t.Helper()
	b, err := v.Const.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	b = append([]byte(nil), b...)
	n := int(share * float64(len(b)/4))
	for i := range n {
		binary.LittleEndian.PutUint32(b[4*i:], math.Float32bits(value))
	}
	c, err := onnx.NewTensor(v.Const.Name, onnx.Float, v.Const.Shape, b)
	if err != nil {
		t.Fatal(err)
	}
	v.SetConst(c)
}

func judged(t testing.TB, r *report.Report, flags map[string]string) report.Verdict {
	t.Helper()
	p, err := gate.FromFlags(flags)
	if err != nil {
		t.Fatal(err)
	}
	if err := gate.Apply(r, p); err != nil {
		t.Fatal(err)
	}
	for _, g := range r.Gates {
		t.Logf("%s: %s: %s", g.Name, g.Verdict, g.Reason)
	}
	return r.Verdict
}

func TestSameModel(t *testing.T) {
	for _, tt := range []struct {
		model, data string
		right, n    int
		features    int
	}{
		{"digits-cnn.onnx", "digits-val.npz", 537, 539, 49},
		{"digits-vit.onnx", "digits-val.npz", 534, 539, 49},
		{"tabular-mlp.onnx", "tabular-val.csv", 192, 199, 30},
	} {
		t.Run(tt.model, func(t *testing.T) {
			o := runtimeOptions(t, testdata+tt.model, testdata+tt.model, testdata+tt.data)
			o.Latency.Off = true
			o.Explain.Samples = 4
			r, err := Run(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			a := r.Accuracy
			want := float64(tt.right) / float64(tt.n)
			if a == nil || a.Baseline == nil || *a.Baseline != want || *a.Candidate != want || *a.Delta != 0 || !a.Identical || a.SQNR != nil || a.N != tt.n {
				t.Errorf("accuracy %+v, want %v of both and identical outputs", a, want)
			}
			if a.Task != report.TaskClassification || a.Better != report.BetterHigher || *a.Agreement != 1 || a.Flips.Changed != 0 {
				t.Errorf("task %s, better %s, flips %+v", a.Task, a.Better, a.Flips)
			}
			e := r.Explanation
			if e == nil || e.Spearman == nil || *e.Spearman != 1 || *e.SelfCheck != 1 || e.Features != tt.features || e.Maps != nil {
				t.Errorf("explanation %+v, want a rank correlation of exactly 1", e)
			}
			if _, err := r.JSON(); err != nil {
				t.Error(err)
			}
			if v := judged(t, r, map[string]string{"max-drop": "2pt"}); v != report.Pass {
				t.Errorf("verdict %s, want pass", v)
			}
		})
	}
}

func TestDamagedWeights(t *testing.T) {
	bad := edited(t, testdata+"digits-cnn.onnx", func(m *onnx.Model) { spoil(t, head(m), 0.1, 0) })
	o := runtimeOptions(t, testdata+"digits-cnn.onnx", bad, testdata+"digits-val.npz")
	o.Latency.Off, o.Explain.Off, o.IncludeSamples = true, true, true
	o.Calibration = []string{testdata + "digits-calib.npz"}
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	a := r.Accuracy
	if *a.Delta >= 0 || a.Identical || a.SQNR == nil || *a.Flips.RightToWrong == 0 || len(a.Flips.Samples) == 0 || len(a.Confusion) == 0 {
		t.Errorf("delta %v, SQNR %v, flips %+v: want a drop", *a.Delta, a.SQNR, a.Flips)
	}
	if got, want := *a.Delta, float64(*a.Flips.WrongToRight-*a.Flips.RightToWrong)/539; math.Abs(got-want) > 1e-12 {
		t.Errorf("delta %v, flips say %v", got, want)
	}
	if d := r.Data; d.Classes != 10 || d.Samples != 539 || d.CalibrationOverlap == nil || *d.CalibrationOverlap != 0 {
		t.Errorf("data %+v", d)
	}
	if r.Baseline.Parameters < 100274 || r.Baseline.Bytes != 414381 || r.Baseline.Nodes != 61 {
		t.Errorf("baseline %+v", r.Baseline)
	}
	t.Logf("delta %+.4f %v", *a.Delta, *a.CI95)
}

func TestNaNWeights(t *testing.T) {
	bad := edited(t, testdata+"digits-cnn.onnx", func(m *onnx.Model) { spoil(t, largest(m), 1, float32(math.NaN())) })
	o := runtimeOptions(t, testdata+"digits-cnn.onnx", bad, testdata+"digits-val.npz")
	o.Latency.Off, o.Explain.Samples = true, 2
	o.Dataset.Limit = 50
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if a := r.Accuracy; *a.Candidate != 0 || a.SQNR != nil || a.KL != nil || a.Identical || *a.Flips.RightToWrong == 0 {
		t.Errorf("accuracy %+v, want every NaN to count as wrong, and no distance", a)
	}
	if v := judged(t, r, map[string]string{"max-drop": "50pt", "min-explanation-rho": "0.1"}); v != report.Fail {
		t.Errorf("verdict %s, want fail", v)
	}
}

func TestTiming(t *testing.T) {
	o := runtimeOptions(t, testdata+"digits-cnn.onnx", testdata+"digits-cnn.onnx", testdata+"digits-val.npz")
	o.Accuracy.Off, o.Explain.Off = true, true
	o.Latency.Processes, o.Latency.MaxProcesses, o.Latency.Budget = 3, 3, 2*time.Second
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	l := r.Latency
	if l == nil || l.Ratio == nil || l.Processes != 3 || l.Pairs < 12 || l.Memory == nil || l.ColdStart == nil || l.Histogram == nil || l.P50 == nil || l.Noise == nil {
		t.Fatalf("latency %+v", l)
	}
	if d := l.Memory; d.DeltaBytes == nil || d.DeltaCI95 == nil || l.P50.DeltaMS == nil {
		t.Errorf("memory %+v, median %+v; want differences", d, l.P50)
	}
	if l.Memory.BaselinePeakBytes < 10<<20 || *l.ColdStart.BaselineMS <= 0 || len(l.Series.BaselineMS) != l.Pairs || l.Batch != 1 {
		t.Errorf("memory %+v, cold start %+v", l.Memory, l.ColdStart)
	}
	var sections []string
	for _, s := range r.Skipped {
		sections = append(sections, s.Section)
	}
	if l.Energy == nil {
		sections = slices.DeleteFunc(sections, func(s string) bool { return s == "latency.energy" })
	}
	if d := cmp.Diff([]string{"accuracy", "explanation"}, sections); d != "" {
		t.Error(d)
	}
	if c := l.ColdStart; c.Ratio == nil || c.CI95 == nil && l.Doubt() == "" || c.Baseline.ReadMS == nil || c.Candidate.CreateMS == nil || *c.Candidate.FirstRunMS > *c.CandidateMS {
		t.Errorf("cold start %+v", c)
	}
	if r.Data.Digest == "" || r.Data.Samples != 539 {
		t.Errorf("data %+v", r.Data)
	}
	t.Logf("ratio %.4f %v, %d pairs, noise %v", *l.Ratio, l.CI95, l.Pairs, l.Noise.Warnings)
}

func TestOverlap(t *testing.T) {
	o := runtimeOptions(t, testdata+"digits-cnn.onnx", testdata+"digits-cnn.onnx", testdata+"digits-val.npz")
	o.Latency.Off, o.Explain.Off, o.Dataset.Limit = true, true, 20
	o.Calibration = []string{testdata + "digits-val.npz"}
	_, err := Run(context.Background(), o)
	overlap, ok := err.(*OverlapError)
	if !ok || overlap.Rows != 20 {
		t.Fatalf("error %v, want an overlap of 20 rows", err)
	}
	o.AllowOverlap = true
	r, err := Run(t.Context(), o)
	if err != nil || *r.Data.CalibrationOverlap != 20 || len(r.Warnings) == 0 {
		t.Errorf("error %v, data %+v", err, r)
	}
}

package validate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// fake is an engine in this process: y = x[:classes], plus what it is told to do wrong.
type fake struct {
	input   string
	elem    onnx.DType
	classes int64
	each    time.Duration       // of a timed run
	spoil   func(y []float64)   // per row
	fails   func(run int) error // of the run-th run, from 1
	runs    int
}

func (f *fake) Inputs() []session.Port {
	return []session.Port{{Name: f.input, Type: onnx.TensorType(f.elem, onnx.Shape{onnx.Symbol("N"), onnx.Fixed(4)})}}
}

func (f *fake) Outputs() []session.Port {
	return []session.Port{{Name: "y", Type: onnx.TensorType(onnx.Float, onnx.Shape{onnx.Symbol("N"), onnx.Fixed(f.classes)})}}
}

func (f *fake) Run(_ context.Context, in map[string]*onnx.Tensor) (*session.Result, error) {
	if err := session.CheckInputs(f.Inputs(), nil, in); err != nil {
		return nil, err
	}
	f.runs++
	if f.fails != nil {
		if err := f.fails(f.runs); err != nil {
			return nil, err
		}
	}
	x := in[f.input]
	v, err := x.Float64s()
	if err != nil {
		return nil, err
	}
	var y []float64
	for i := range x.Shape[0] {
		row := append([]float64(nil), v[4*i:4*i+f.classes]...)
		if f.spoil != nil {
			f.spoil(row)
		}
		y = append(y, row...)
	}
	t, err := onnx.FromFloat64s("y", onnx.Float, []int64{x.Shape[0], f.classes}, y)
	return &session.Result{Outputs: map[string]*onnx.Tensor{"y": t}, Elapsed: f.each}, err
}

func (f *fake) Time(_ context.Context, in map[string]*onnx.Tensor, n int) ([]time.Duration, error) {
	if err := session.CheckInputs(f.Inputs(), nil, in); err != nil {
		return nil, err
	}
	out := make([]time.Duration, n)
	for i := range out {
		out[i] = f.each
	}
	return out, nil
}

func (f *fake) Close() error { return nil }

func sound() fake { return fake{input: "x", elem: onnx.Float, classes: 3, each: time.Millisecond} }

// fakeOptions compares a sound fake with the candidate on 40 rows whose labels the sound one gets right.
func fakeOptions(t *testing.T, candidate fake) Options {
	t.Helper()
	dir := t.TempDir()
	model, err := os.ReadFile(testdata + "tabular-mlp.onnx")
	if err != nil {
		t.Fatal(err)
	}
	var data strings.Builder
	data.WriteString("a,b,c,d,label\n")
	for i := range 40 {
		row := [4]float64{0.25, 0.5, 0.125, float64(i) / 64}
		row[i%3] = 1 + float64(i)/64
		fmt.Fprintf(&data, "%v,%v,%v,%v,%d\n", row[0], row[1], row[2], row[3], i%3)
	}
	for name, b := range map[string][]byte{"a.onnx": model, "b.onnx": model, "data.csv": []byte(data.String())} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Options{
		Baseline: filepath.Join(dir, "a.onnx"), Candidate: filepath.Join(dir, "b.onnx"), Data: filepath.Join(dir, "data.csv"),
		Open: func(_ context.Context, path string, _ session.Options) (session.Session, error) {
			f := sound()
			if filepath.Base(path) == "b.onnx" {
				f = candidate
			}
			return &f, nil
		},
		Latency: Latency{Off: true}, Explain: Explain{Off: true},
		Now: func() time.Time { return time.Unix(1, 0) },
	}
}

func TestCandidates(t *testing.T) {
	tests := []struct {
		name   string
		change func(*fake)
		skip   string // part of the reason why accuracy is absent
		check  func(*testing.T, *report.Report)
	}{
		{name: "the same", check: func(t *testing.T, r *report.Report) {
			if a := r.Accuracy; *a.Baseline != 1 || *a.Candidate != 1 || !a.Identical || *a.Agreement != 1 {
				t.Errorf("%+v", a)
			}
		}},
		{name: "noise of 1/1024", change: func(f *fake) { f.spoil = func(y []float64) { y[0] += 1.0 / 1024 } },
			check: func(t *testing.T, r *report.Report) {
				a := r.Accuracy
				// Σ y² of the data, against one 1/1024 per row.
				signal := 0.0
				for i := range 40 {
					row := [3]float64{0.25, 0.5, 0.125}
					row[i%3] = 1 + float64(i)/64
					signal += row[0]*row[0] + row[1]*row[1] + row[2]*row[2]
				}
				want := 10 * math.Log10(signal/(40.0/1024/1024))
				if a.Identical || math.Abs(*a.SQNR-want) > 1e-6 || *a.Outputs[0].MaxAbs != 1.0/1024 || a.Outputs[0].Elements != 120 {
					t.Errorf("SQNR %v, want %v; %+v", *a.SQNR, want, a.Outputs[0])
				}
			}},
		{name: "class 0 never chosen", change: func(f *fake) { f.spoil = func(y []float64) { y[0] = 0 } },
			check: func(t *testing.T, r *report.Report) {
				a := r.Accuracy
				if *a.Delta != -14.0/40 || *a.Flips.RightToWrong != 14 || a.Flips.Samples != nil {
					t.Errorf("delta %v, flips %+v", *a.Delta, a.Flips)
				}
				want := []report.ConfusionChange{
					{Label: "0", Predicted: "0", Baseline: 14}, {Label: "0", Predicted: "1", Candidate: 14},
				}
				if d := cmp.Diff(want, a.Confusion); d != "" {
					t.Error(d)
				}
				if s, v, _ := a.WorstSlice(); s.Name != "class=0" || *v != 1 || s.N != 14 {
					t.Errorf("worst slice %+v", s)
				}
			}},
		{name: "NaN in every row", change: func(f *fake) { f.spoil = func(y []float64) { y[2] = math.NaN() } },
			check: func(t *testing.T, r *report.Report) {
				if a := r.Accuracy; *a.Candidate != 0 || a.SQNR != nil || a.Outputs[0].SQNR != nil || a.KL != nil {
					t.Errorf("%+v", a)
				}
				if !strings.Contains(strings.Join(r.Warnings, "\n"), "NaN or infinite") {
					t.Errorf("warnings %q", r.Warnings)
				}
			}},
		{name: "float16 input", change: func(f *fake) { f.elem = onnx.Float16 }, check: func(t *testing.T, r *report.Report) {
			if *r.Accuracy.Candidate != 1 || !strings.Contains(strings.Join(r.Warnings, "\n"), "float16 in the candidate") {
				t.Errorf("accuracy %+v, warnings %q", r.Accuracy, r.Warnings)
			}
		}},
		{name: "fewer classes", change: func(f *fake) { f.classes = 2 }, skip: "has shape [1 2], that of the baseline [1 3]"},
		{name: "a crash in the middle", change: func(f *fake) {
			f.fails = func(run int) error {
				if run == 20 {
					return errors.New("killed by signal 11")
				}
				return nil
			}
		}, skip: "running it on row 19: killed by signal 11"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := sound()
			if tt.change != nil {
				tt.change(&f)
			}
			o := fakeOptions(t, f)
			r, err := Run(t.Context(), o)
			if tt.skip == "" {
				if err != nil {
					t.Fatal(err)
				}
				tt.check(t, r)
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.skip) {
				t.Errorf("error %v, want %q where no section is left", err, tt.skip)
			}
			o.Latency = Latency{Processes: 3, MaxProcesses: 3, Pairs: 4}
			if r, err = Run(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			if r.Accuracy != nil || len(r.Skipped) == 0 || !strings.Contains(r.Skipped[0].Reason, tt.skip) || r.Data.Digest == "" {
				t.Errorf("accuracy %+v, skipped %+v", r.Accuracy, r.Skipped)
			}
		})
	}
}

func TestFakeTiming(t *testing.T) {
	f := sound()
	f.each = 2 * time.Millisecond
	o := fakeOptions(t, f)
	o.Accuracy.Off = true
	o.Latency = Latency{MaxProcesses: 3, Pairs: 10}
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	l := r.Latency
	if math.Abs(*l.Ratio-2) > 1e-12 || *l.BaselineMS != 1 || *l.CandidateMS != 2 || l.Pairs != 30 || l.Processes != 3 || l.Memory != nil || l.P99 != nil || math.Abs(*l.P50.DeltaMS-1) > 1e-12 {
		t.Errorf("latency %+v, ratio %v", l, *l.Ratio)
	}
}

func TestErrors(t *testing.T) {
	tests := []struct {
		name   string
		fake   func(*fake)
		change func(*Options)
		want   string
	}{
		{"no data", nil, func(o *Options) { o.Data = "" }, "no data was given"},
		{"another input", func(f *fake) { f.input = "z" }, nil, `the baseline has "x", the candidate "z"`},
		{"integer input", func(f *fake) { f.elem = onnx.Int32 }, nil, "one cannot be converted to the other"},
		{"a task that labels do not fit", nil, func(o *Options) { o.Task = Tokens }, "task tokens does not fit data with labels of kind class"},
		{"no such task", nil, func(o *Options) { o.Task = "sums" }, `task "sums" is unknown`},
		{"no such output", nil, func(o *Options) { o.Output = "w" }, `the outputs are "y" float[1 3]`},
		{"no such method", nil, func(o *Options) { o.Explain.Methods = []string{"magic"} }, `method "magic" is unknown`},
		{"no model", nil, func(o *Options) { o.Candidate += ".gone" }, "b.onnx.gone"},
		{"the candidate does not load", nil, func(o *Options) {
			open := o.Open
			o.Open = func(ctx context.Context, path string, s session.Options) (session.Session, error) {
				if filepath.Base(path) == "b.onnx" {
					return nil, errors.New("bad graph")
				}
				return open(ctx, path, s)
			}
		}, "the candidate failed: loading it: bad graph"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := sound()
			if tt.fake != nil {
				tt.fake(&f)
			}
			o := fakeOptions(t, f)
			if tt.change != nil {
				tt.change(&o)
			}
			r, err := Run(t.Context(), o)
			if err == nil || r != nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("report %v, error %v, want %q", r != nil, err, tt.want)
			}
		})
	}
}

func TestUnlabelled(t *testing.T) {
	f := sound()
	f.spoil = func(y []float64) { y[0] = 0 }
	o := fakeOptions(t, f)
	o.Task, o.Batch = Unlabelled, 7
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if a := r.Accuracy; a.Metric != "" || a.Delta != nil || *a.Agreement != 26.0/40 || a.Flips.Changed != 14 || a.N != 40 {
		t.Errorf("%+v", a)
	}
	o.Data = "synthetic:9"
	if r, err = Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if d := r.Data; d.Origin != report.OriginSynthetic || d.Labelled || d.Samples != 9 || r.Accuracy.Delta != nil {
		t.Errorf("%+v", d)
	}
}

// TestSilentBaseline: where all outputs of the baseline are NaN there is nothing to compare with, and no verdict.
func TestSilentBaseline(t *testing.T) {
	o := fakeOptions(t, sound())
	o.Open = func(context.Context, string, session.Options) (session.Session, error) {
		f := sound()
		f.spoil = func(y []float64) { y[0], y[1], y[2] = math.NaN(), math.NaN(), math.NaN() }
		return &f, nil
	}
	if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "a.onnx: every output is NaN on every sample (y)") {
		t.Errorf("the error is %v", err)
	}
}

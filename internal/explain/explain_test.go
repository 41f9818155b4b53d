package explain

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

var near = cmpopts.EquateApprox(1e-9, 1e-9)

// A linear model's attribution is w_i (x_i - mean_i), with the sign of the predicted class.
func TestLinearClosedForm(t *testing.T) {
	w := []float64{1, -2, 0.5, 0}
	x := [][]float64{{3, 1, 2, 9}, {-3, 2, 0, 7}, {0, 0, 4, 5}}
	r := compared(t, linear(0.25, w...), linear(0.25, w...), samplesOf(t, onnx.Double, []int64{1, 4}, x...), Options{KeepMaps: true})
	mean := []float64{0, 1, 2, 7}
	for s, p := range r.Pairs {
		margin := 0.25
		for i := range w {
			margin += w[i] * x[s][i]
		}
		want := make([]float64, 4)
		for i := range want {
			want[i] = w[i] * (x[s][i] - mean[i]) * math.Copysign(1, margin)
		}
		if d := cmp.Diff(want, p.Baseline, near); d != "" {
			t.Errorf("%s: %s", p.ID, d)
		}
	}
	if r.Samples != 3 || r.Features != 4 || r.Batch != 5 || r.Target != "margin" || r.Output != "y" || r.Fill != "mean" {
		t.Errorf("got %+v", r)
	}
}

func TestIdenticalModels(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var rows [][]float64
	w := make([]float64, 12)
	for i := range w {
		w[i] = rng.NormFloat64()
	}
	for range 40 {
		row := make([]float64, 12)
		for i := range row {
			row[i] = rng.NormFloat64()
		}
		rows = append(rows, row)
	}
	r := compared(t, linear(0, w...), linear(0, w...), samplesOf(t, onnx.Double, []int64{1, 12}, rows...), Options{})
	for name, e := range map[string]Estimate{"spearman": r.Spearman, "jaccard": r.TopKJaccard, "cosine": r.Cosine, "sign": r.SignAgreement} {
		if e.Median != 1 || e.P10 != 1 || e.Interval.Low != 1 || e.Interval.High != 1 {
			t.Errorf("%s: got %+v, want exactly 1", name, e)
		}
	}
	if r.MassDisplacement.Median != 0 || *r.CrossFaithfulness != 1 || *r.SelfCheck != 1 || r.Flipped != 0 || r.DeadMaps != 0 {
		t.Errorf("got %+v", r)
	}
	if *r.NoiseFloor <= 0.9 || *r.NoiseFloor > 1 {
		t.Errorf("noise floor: got %v", *r.NoiseFloor)
	}
	if len(r.Warnings) != 0 {
		t.Errorf("warnings: %q", r.Warnings)
	}
	if d := cmp.Diff(r.MeanBaseline, r.MeanCandidate); d != "" || len(r.MeanBaseline) != 12 {
		t.Errorf("mean maps: %s", d)
	}
}

// A model with softmax in the file has the same log-odds, and so the same maps.
func TestProbabilitiesGiveTheSameMaps(t *testing.T) {
	a := linear(0, 1, -2, 0.5)
	s := samplesOf(t, onnx.Double, []int64{1, 3}, []float64{1, 0, 1}, []float64{2, -1, 0}, []float64{-1, 1, 1})
	r := compared(t, a, mapped(a, softmaxed), s, Options{KeepMaps: true})
	for _, p := range r.Pairs {
		if d := cmp.Diff(p.Baseline, p.Candidate, near); d != "" {
			t.Errorf("%s: %s", p.ID, d)
		}
	}
}

// A cell of an image takes all channels and all of its pixels, in either layout.
func TestImageLayouts(t *testing.T) {
	const channels, height, width = 3, 8, 6
	weight := func(c, y, x int) float64 { return float64(c+1) * float64(10*y+x) }
	for _, layout := range []Layout{NCHW, NHWC} {
		at := func(c, y, x int) int { return (c*height+y)*width + x }
		shape := []int64{1, channels, height, width}
		if layout == NHWC {
			at = func(c, y, x int) int { return (y*width+x)*channels + c }
			shape = []int64{1, height, width, channels}
		}
		row := make([]float64, channels*height*width)
		w := make([]float64, len(row))
		want := make([]float64, 4)
		for c := range channels {
			for y := range height {
				for x := range width {
					row[at(c, y, x)], w[at(c, y, x)] = 1, weight(c, y, x)
					want[y/4*2+x/3] += weight(c, y, x)
				}
			}
		}
		model := linear(0, w...)
		model.shape = onnx.Shape{onnx.Symbol("N"), onnx.Fixed(shape[1]), onnx.Fixed(shape[2]), onnx.Fixed(shape[3])}
		s := samplesOf(t, onnx.Double, shape, row)
		r := compared(t, model, model, s, Options{Grid: 2, Fill: FillZero, KeepMaps: true})
		if d := cmp.Diff(want, r.Pairs[0].Baseline, near); d != "" || r.Rows != 2 || r.Cols != 2 {
			t.Errorf("layout %d: map of %d × %d: %s", layout, r.Rows, r.Cols, d)
		}
		r = compared(t, model, model, s, Options{Layout: layout, Grid: 2, Fill: FillBlur, KeepMaps: true})
		for i, v := range r.Pairs[0].Baseline {
			if math.Abs(v) > 1e-9 {
				t.Errorf("layout %d: blurring a constant image changed cell %d by %v", layout, i, v)
			}
		}
	}
}

func TestBlur(t *testing.T) {
	in := []float64{0, 0, 9, 0, 0, 0}
	out := make([]float64, 6)
	boxLine(out, in, 0, 1, 6, 1)
	if d := cmp.Diff([]float64{0, 3, 3, 3, 0, 0}, out); d != "" {
		t.Error(d)
	}
}

func TestBatching(t *testing.T) {
	x := [][]float64{{3, 1, 2}, {1, 2, 0}}
	s := samplesOf(t, onnx.Double, []int64{1, 3}, x...)
	free, alone, fixed := linear(0, 1, -2, 0.5), linear(0, 1, -2, 0.5), linear(0, 1, -2, 0.5)
	fixed.shape = onnx.ShapeOf(1, 3)
	coupled := linear(0, 1, -2, 0.5)
	coupled.across = func(rows [][]float64) [][]float64 { // the range of the batch sets a scale, as in dynamic quantization
		largest := 0.0
		for _, r := range rows {
			largest = max(largest, math.Abs(r[0]))
		}
		for _, r := range rows {
			r[0] = math.Round(r[0]/largest*7) * largest / 7
		}
		return rows
	}
	want := compared(t, alone, alone, s, Options{Batch: 1, KeepMaps: true})
	if len(alone.sizes) != 1 || want.Batch != 1 {
		t.Errorf("batch 1: got sizes %v", alone.sizes)
	}
	got := compared(t, free, linear(0, 1, -2, 0.5), s, Options{KeepMaps: true, Batch: 3})
	if got.Batch != 3 || free.sizes[3] == 0 || len(free.sizes) != 2 || free.sizes[1] != 2+3+2 {
		t.Errorf("free batch: got %d, sizes %v, want full batches only", got.Batch, free.sizes)
	}
	if d := cmp.Diff(want.Pairs, got.Pairs, near); d != "" {
		t.Error(d)
	}
	if r := compared(t, free, fixed, s, Options{}); r.Batch != 1 {
		t.Errorf("a fixed batch axis was batched by %d", r.Batch)
	}
	r := compared(t, free, coupled, s, Options{})
	if r.Batch != 1 || len(r.Warnings) == 0 || !strings.Contains(r.Warnings[0], "candidate's output depends") {
		t.Errorf("got batch %d and %q, want one by one with a warning", r.Batch, r.Warnings)
	}
}

func TestFlipsAreKeptApart(t *testing.T) {
	s := samplesOf(t, onnx.Double, []int64{1, 2}, []float64{3, 1}, []float64{-3, 1}, []float64{0.1, 1})
	r := compared(t, linear(0, 1, 0.5), linear(-1, 1, 0.25), s, Options{KeepMaps: true, Fill: FillZero})
	if r.Samples != 2 || r.Flipped != 1 || r.Flips[0].ID != "s2" || r.Flips[0].Classes != [2]int{0, 1} {
		t.Fatalf("got %+v", r)
	}
	// The candidate is asked about the baseline's class, not about its own.
	if d := cmp.Diff([]float64{0.1, 0.25}, r.Flips[0].Candidate, near); d != "" {
		t.Error(d)
	}
}

func TestDead(t *testing.T) {
	step := mapped(linear(0, 1, 0.01), func(z []float64) []float64 { return []float64{math.Round(z[0]), 0} })
	s := samplesOf(t, onnx.Double, []int64{1, 2}, []float64{3, 1}, []float64{5, 1}, []float64{4, 0})
	r := compared(t, linear(0, 1, 0.01), step, s, Options{Fill: FillZero})
	// Second features are lost in the candidate's rounding; the third sample's is 0 already and so no perturbation.
	if r.DeadPerturbations != [2]float64{0, 2.0 / 5} || r.DeadMaps != 0 {
		t.Errorf("got %v dead perturbations, %d dead maps", r.DeadPerturbations, r.DeadMaps)
	}
	constant := mapped(linear(0, 1, 1), func([]float64) []float64 { return []float64{1, 0} })
	r = compared(t, linear(0, 1, 0.01), constant, s, Options{Fill: FillZero})
	if r.DeadMaps != 3 || r.Spearman.Median != 0 || r.DeadPerturbations[1] != 1 || r.CrossFaithfulness != nil {
		t.Errorf("got %+v", r)
	}
}

// With all features hidden in order of importance, the mean drop of a linear model has a closed form.
func TestDeletionCurve(t *testing.T) {
	s := samplesOf(t, onnx.Double, []int64{1, 3}, []float64{1, 1, 1})
	r := compared(t, linear(0, 3, 2, 1), linear(0, 1, 2, 3), s, Options{Fill: FillZero, NoiseFloor: -1})
	// Drops 0, 3, 5, 6 by its own order, so an area of (3 + 5 + 6/2) / 3 of 6; shown in that order it rises the same way. The
	// baseline's order on the candidate drops 1, 3, 6.
	for _, f := range []*Faithfulness{r.Deletion, r.Insertion} {
		if d := cmp.Diff([2]float64{11.0 / 18, 11.0 / 18}, f.Own, near); d != "" || f.Delta != 0 || f.Interval != nil {
			t.Errorf("%+v: %s", f, d)
		}
	}
	if !cmp.Equal(*r.CrossFaithfulness, 7.0/11, near) || r.Spearman.Median != -1 || r.SelfCheck != nil || r.NoiseFloor != nil {
		t.Errorf("got %+v", r)
	}
	if r := compared(t, linear(0, 1, 2), linear(0, 1, 2), samplesOf(t, onnx.Double, []int64{1, 2}, []float64{1, 1}), Options{SkipCurves: true}); r.Deletion != nil || r.Insertion != nil || r.CrossFaithfulness != nil {
		t.Errorf("curves were not skipped: %+v", r)
	}
}

func TestTokens(t *testing.T) {
	value := map[float64]float64{101: 0, 7: 5, 8: -2, 9: 1, 103: 0.5, 102: 0}
	model := &fake{dtype: onnx.Int64, shape: onnx.Shape{onnx.Symbol("N"), onnx.Symbol("T")}, out: []int64{2}, f: func(x []float64) []float64 {
		sum := 0.0
		for _, v := range x {
			sum += value[v]
		}
		return []float64{sum, 0}
	}}
	s := samplesOf(t, onnx.Int64, []int64{1, 5}, []float64{101, 7, 8, 9, 102})
	s = append(s, samplesOf(t, onnx.Int64, []int64{1, 4}, []float64{101, 9, 7, 102})...)
	r := compared(t, model, model, s, Options{Token: 103, Keep: []int64{101, 102}, KeepMaps: true})
	if d := cmp.Diff([]float64{4.5, -2.5, 0.5}, r.Pairs[0].Baseline, near); d != "" {
		t.Error(d)
	}
	if len(r.Pairs[1].Baseline) != 2 || r.Fill != "token" || r.NoiseFloor != nil || *r.SelfCheck != 1 || r.MeanBaseline != nil || r.Features != 3 {
		t.Errorf("got %+v", r)
	}
}

func TestProjection(t *testing.T) {
	boxes := linear(0, 1, 2)
	boxes.out = []int64{2, 2}
	boxes.f = func(x []float64) []float64 { return []float64{3 * x[0], 4 * x[1], 0, 0} }
	s := samplesOf(t, onnx.Double, []int64{1, 2}, []float64{1, 1})
	r := compared(t, boxes, boxes, s, Options{Fill: FillZero, KeepMaps: true})
	// Output (3, 4, 0, 0), direction (0.6, 0.8, 0, 0): hiding drops 0.6·3 and 0.8·4.
	if d := cmp.Diff([]float64{1.8, 3.2}, r.Pairs[0].Baseline, near); d != "" || r.Target != "projection" {
		t.Errorf("%s: %s", r.Target, d)
	}
}

func TestBrokenOutputs(t *testing.T) {
	good := linear(0, 1, 2)
	bad := mapped(good, func(z []float64) []float64 {
		if z[0] > 4 {
			return []float64{math.NaN(), 0}
		}
		return z
	})
	s := samplesOf(t, onnx.Double, []int64{1, 2}, []float64{2, 2}, []float64{1, 1}, []float64{1, 0.5})
	r := compared(t, good, bad, s, Options{Fill: FillZero})
	if r.Samples != 2 || len(r.Warnings) == 0 || !strings.Contains(r.Warnings[0], "not finite in 1 samples") || math.IsNaN(r.Spearman.Median) {
		t.Errorf("got %+v", r)
	}
}

func TestSeriesAreGrouped(t *testing.T) {
	p, err := newPartition([]int64{1, 100, 2}, Options{MaxFeatures: 64})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int32]bool{}
	for _, f := range p.features {
		if len(f) == 0 {
			t.Fatal("an empty feature")
		}
		for _, e := range f {
			seen[e] = true
		}
	}
	if len(p.features) != 64 || len(seen) != 200 || p.nChannels != 2 {
		t.Errorf("%d features over %d elements, %d channels", len(p.features), len(seen), p.nChannels)
	}
}

func TestCompareRefuses(t *testing.T) {
	model := linear(0, 1, 2)
	s := samplesOf(t, onnx.Double, []int64{1, 2}, []float64{1, 2})
	nan := samplesOf(t, onnx.Double, []int64{1, 2}, []float64{1, math.NaN()})
	single := linear(0, 1)
	three := mapped(model, func(z []float64) []float64 { return append(z, 0) })
	three.out = []int64{3}
	for _, tt := range []struct {
		name    string
		a, b    *fake
		samples []Sample
		o       Options
		want    string
	}{
		{"no samples", model, model, nil, Options{}, "no samples"},
		{"unknown input", model, model, s, Options{Input: "z"}, `input "z"`},
		{"unknown output", model, model, s, Options{Output: "z"}, `output "z"`},
		{"nan input", model, model, nan, Options{}, "finite"},
		{"one feature", single, single, samplesOf(t, onnx.Double, []int64{1, 1}, []float64{1}), Options{}, "at least 2"},
		{"image layout", model, model, s, Options{Layout: NCHW}, "rank 4"},
		{"blur", model, model, s, Options{Fill: FillBlur}, "image layout"},
		{"token", model, model, s, Options{Fill: FillToken}, "integer"},
		{"grid", model, model, s, Options{Grid: -1}, "grid"},
		{"top", model, model, s, Options{Top: 2}, "top share"},
		{"classes", model, three, s, Options{}, "elements"},
	} {
		r, err := Compare(t.Context(), Model{Session: tt.a}, Model{Session: tt.b}, tt.samples, tt.o)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %+v, %v, want an error about %q", tt.name, r, err, tt.want)
		}
	}
}

// scipy.stats.spearmanr(a, b); a@b/norm(a)/norm(b); abs(abs(a)/abs(a).sum() - abs(b)/abs(b).sum()).sum()/2
func TestSimilarities(t *testing.T) {
	a := []float64{.3, -1.2, .3, 4, 2.2, 0, 0, .7}
	b := []float64{.1, -1, .5, 3, 3, .2, -.2, .7}
	rho, ok := Spearman(a, b)
	got := []float64{rho, Cosine(a, b), MassDisplacement(a, b), TopJaccard(a, b, 3), TopJaccard(a, b, 4), SignAgreement(a, b, 8)}
	want := []float64{0.9333504749136049, 0.9595445445630224, 0.16091954022988506, 1, 1, 6.0 / 8}
	if d := cmp.Diff(want, got, cmpopts.EquateApprox(0, 1e-12)); d != "" || !ok {
		t.Error(d)
	}
	if got := TopJaccard([]float64{3, 2, 1, 0}, []float64{0, 2, 1, 3}, 2); got != 1.0/3 {
		t.Errorf("jaccard: got %v", got)
	}
	if _, ok := Spearman([]float64{1, 1}, []float64{1, 2}); ok {
		t.Error("a constant map has no rank correlation")
	}
	if got := MassDisplacement([]float64{1, 0}, []float64{0, -1}); got != 1 {
		t.Errorf("mass: got %v", got)
	}
}

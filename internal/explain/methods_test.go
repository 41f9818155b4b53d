package explain

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

func method(t *testing.T, name string) Method {
	t.Helper()
	m, err := Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// randomRows returns n rows of m numbers.
func randomRows(seed uint64, n, m int) [][]float64 {
	rng := rand.New(rand.NewPCG(seed, 3))
	rows := make([][]float64, n)
	for i := range rows {
		rows[i] = make([]float64, m)
		for j := range rows[i] {
			rows[i][j] = rng.NormFloat64()
		}
	}
	return rows
}

// A linear model's Shapley values are w_i (x_i - E b_i), whether all subsets are run or some are drawn, and so is leaving one feature
// out. A feature that is not read has none, equal features have equal ones, and they add up to f(x) - E f(b).
func TestLinearOracle(t *testing.T) {
	for _, name := range []string{"kernel-shap", "feature-ablation"} {
		for _, m := range []int{3, 6, 12, 25} {
			t.Run(fmt.Sprint(name, m), func(t *testing.T) {
				rows := randomRows(uint64(m), 40, m)
				w := randomRows(7, 1, m)[0]
				w[0] = 0 // a dummy
				for _, r := range rows {
					r[2], w[2] = r[1], w[1] // a twin
				}
				r := compared(t, linear(0.3, w...), linear(0.3, w...), samplesOf(t, onnx.Double, []int64{1, int64(m)}, rows...),
					Options{Method: method(t, name), KeepMaps: true, NoiseFloor: -1, SkipCurves: true})
				if r.BackgroundRows != 16 || r.Fill != "rows" || len(r.Background) != 64 || r.Samples != 40 {
					t.Fatalf("background %q of %d rows, %d samples", r.Fill, r.BackgroundRows, r.Samples)
				}
				for s, p := range r.Pairs {
					sign, margin := 1.0, 0.3
					for i := range w {
						margin += w[i] * rows[s][i]
					}
					if margin < 0 {
						sign = -1
					}
					want := make([]float64, m)
					for i := range want {
						for k := range 16 {
							want[i] += sign * w[i] * (rows[s][i] - rows[k*40/16][i]) / 16
						}
					}
					if d := cmp.Diff(want, p.Baseline, cmpopts.EquateApprox(0, 1e-9)); d != "" {
						t.Fatalf("%s: %s", p.ID, d)
					}
					if math.Abs(p.Baseline[0]) > 1e-9 || math.Abs(p.Baseline[1]-p.Baseline[2]) > 1e-9 {
						t.Errorf("%s: dummy %v, twins %v and %v", p.ID, p.Baseline[0], p.Baseline[1], p.Baseline[2])
					}
				}
				if name == "kernel-shap" && (r.Completeness == nil || *r.Completeness > 1e-9 || r.StandardError == nil || *r.StandardError > 1e-9) {
					t.Errorf("residual %v, standard error %v: want 0 of a linear model", r.Completeness, r.StandardError)
				}
				if name != "kernel-shap" && r.Completeness != nil {
					t.Errorf("%s promises no completeness, got %v", name, *r.Completeness)
				}
			})
		}
	}
}

// tangled is a model with products of three features (paired drawing is exact for those of two), so that Shapley values depend on all subsets.
func tangled(m int) *fake {
	return &fake{dtype: onnx.Double, shape: onnx.Shape{onnx.Symbol("N"), onnx.Fixed(int64(m))}, out: []int64{2}, f: func(x []float64) []float64 {
		sum := 0.5
		for i := range x {
			sum += x[i]*x[(i+1)%len(x)]*x[(i+4)%len(x)] + 0.3*math.Max(x[i], x[(i+2)%len(x)])
		}
		return []float64{sum, 0}
	}}
}

// Of few features the values are those of the definition, as a mean over all orders; the background that changes nothing gives 0.
func TestKernelSHAPIsShapley(t *testing.T) {
	const m = 6
	rows := randomRows(9, 4, m)
	for _, r := range rows {
		r[3] = 0.25 // the same everywhere: no player
	}
	model := tangled(m)
	r := compared(t, model, model, samplesOf(t, onnx.Double, []int64{1, m}, rows...), Options{Method: method(t, "kernel-shap"), Rows: 3, KeepMaps: true})
	for s, p := range r.Pairs {
		v := make([]float64, 1<<m)
		for set := range v {
			for _, b := range []int{0, 1, 2} {
				x := make([]float64, m)
				for i := range x {
					x[i] = rows[b*4/3][i]
					if set>>i&1 == 1 {
						x[i] = rows[s][i]
					}
				}
				v[set] += model.f(x)[0] / 3
			}
		}
		sign := 1.0
		if v[1<<m-1] < 0 {
			sign = -1
		}
		for i, want := range shapley(m, v) {
			if math.Abs(p.Baseline[i]-sign*want) > 1e-9 {
				t.Errorf("%s, feature %d: got %v, want %v", p.ID, i, p.Baseline[i], sign*want)
			}
		}
		if p.Baseline[3] != 0 {
			t.Errorf("%s: a feature that is the same everywhere has %v, want exactly 0", p.ID, p.Baseline[3])
		}
	}
}

// Drawn subsets come near the exact values, by about as much as the standard error says.
func TestKernelSHAPError(t *testing.T) {
	const m = 13
	s := samplesOf(t, onnx.Double, []int64{1, m}, randomRows(11, 12, m)...)
	o := Options{Method: method(t, "kernel-shap"), Rows: -1, KeepMaps: true, NoiseFloor: -1, SkipCurves: true}
	o.Perturbations = 1 << m
	exact := compared(t, tangled(m), tangled(m), s, o)
	o.Perturbations = 300
	drawn := compared(t, tangled(m), tangled(m), s, o)
	var shares []float64
	for i, p := range drawn.Pairs {
		sum := 0.0
		for k, v := range p.Baseline {
			sum += (v - exact.Pairs[i].Baseline[k]) * (v - exact.Pairs[i].Baseline[k])
		}
		shares = append(shares, math.Sqrt(sum/m)/largest(p.Baseline))
	}
	got, said := *medianOf(shares), *drawn.StandardError
	if *exact.StandardError != 0 || said < got/2 || said > 2*got || got > 0.2 {
		t.Errorf("error %v, said to be %v (exact: %v)", got, said, *exact.StandardError)
	}
}

// Windows overlap and are cut off at the edge, and a place gets the mean of those that cover it, as in Captum's Occlusion: of 6
// columns with windows of 3 at a stride of 2, [0, 3), [2, 5) and [4, 6).
func TestOcclusionWindows(t *testing.T) {
	w := []float64{1, 2, 4, 8, 16, 32}
	s := samplesOf(t, onnx.Double, []int64{1, 6}, []float64{1, 1, 1, 1, 1, 1})
	o := Options{Fill: FillZero, Window: 3, Stride: 2, KeepMaps: true}
	r := compared(t, linear(0, w...), linear(0, w...), s, o)
	if d := cmp.Diff([]float64{7, 7, (7 + 28) / 2.0, 28, (28 + 48) / 2.0, 48}, r.Pairs[0].Baseline, near); d != "" || r.Perturbations != 3 {
		t.Errorf("%d windows: %s", r.Perturbations, d)
	}
}

// An image of 3 × 5 pixels under windows of 2 × 2 at a stride of 2, [0, 2), [2, 3) × [0, 2), [2, 4), [4, 5); and at a stride of 1.
func TestOcclusionOfImages(t *testing.T) {
	w := make([]float64, 15)
	for i := range w {
		w[i] = float64(i + 1)
	}
	ones := make([]float64, 15)
	for i := range ones {
		ones[i] = 1
	}
	model := linear(0, w...)
	model.shape = onnx.Shape{onnx.Symbol("N"), onnx.Fixed(1), onnx.Fixed(3), onnx.Fixed(5)}
	s := samplesOf(t, onnx.Double, []int64{1, 1, 3, 5}, ones)
	r := compared(t, model, model, s, Options{Fill: FillZero, Window: 2, Stride: 2, KeepMaps: true, Grid: 5})
	want := []float64{
		16, 16, 24, 24, 15,
		16, 16, 24, 24, 15,
		23, 23, 27, 27, 15,
	}
	if d := cmp.Diff(want, r.Pairs[0].Baseline, near); d != "" || r.Perturbations != 6 || r.Rows != 3 || r.Cols != 5 {
		t.Errorf("%d windows on %d × %d: %s", r.Perturbations, r.Rows, r.Cols, d)
	}
	r = compared(t, model, model, s, Options{Fill: FillZero, Window: 2, Stride: 1, KeepMaps: true, Grid: 5})
	// The corner lies in one window of 1 + 2 + 6 + 7, the pixel to its right also in one of 2 + 3 + 7 + 8.
	if p := r.Pairs[0].Baseline; r.Perturbations != 8 || math.Abs(p[0]-16) > 1e-9 || math.Abs(p[1]-18) > 1e-9 || math.Abs(p[6]-(16+20+36+40)/4.0) > 1e-9 {
		t.Errorf("%d windows: %v", r.Perturbations, p)
	}
}

// On a linear model RISE is w_i (x_i - fill_i) on average, within its standard error.
func TestRISEOracle(t *testing.T) {
	w := []float64{1, -2, 0.5, 0, 3}
	rows := [][]float64{{3, 1, 2, 9, 1}, {1, 2, 0, 7, 3}, {2, 0, 4, 5, 2}}
	r := compared(t, linear(9, w...), linear(9, w...), samplesOf(t, onnx.Double, []int64{1, 5}, rows...),
		Options{Method: method(t, "rise"), Perturbations: 20000, KeepMaps: true, NoiseFloor: -1})
	mean := []float64{2, 1, 2, 7, 2}
	for s, p := range r.Pairs {
		for i, v := range p.Baseline {
			want := w[i] * (rows[s][i] - mean[i])
			if math.Abs(v-want) > 5**r.StandardError*largest(p.Baseline) {
				t.Errorf("%s, feature %d: got %v, want %v within %v", p.ID, i, v, want, *r.StandardError*largest(p.Baseline))
			}
		}
	}
	if *r.StandardError <= 0 || *r.StandardError > 0.05 {
		t.Errorf("standard error %v", *r.StandardError)
	}
}

// Masks of images lie between 0 and 1, differ, and a mask and its opposite divide the image between them.
func TestRISEMasks(t *testing.T) {
	row := randomRows(2, 1, 3*9*8)[0]
	s := samplesOf(t, onnx.Double, []int64{1, 3, 9, 8}, row)[0]
	o, err := Options{Method: method(t, "rise"), Grid: 3, Fill: FillZero}.filled()
	if err != nil {
		t.Fatal(err)
	}
	b, err := newBackground([]Sample{s}, "x", o, FillZero)
	if err != nil {
		t.Fatal(err)
	}
	v, err := newView(s, "x", o, b)
	if err != nil {
		t.Fatal(err)
	}
	p := &problem{view: v, o: o, seed: 4}
	r, err := newMasker(p)
	if err != nil {
		t.Fatal(err)
	}
	rng := p.random()
	sum, n, soft := 0.0, 0.0, false
	for range 200 {
		mask := r.draw(rng)
		for _, m := range mask {
			if m < 0 || m > 1 {
				t.Fatalf("mask %v", m)
			}
			soft = soft || m > 0 && m < 1
			sum, n = sum+m, n+1
		}
		var halves [2][]float64
		for k := range halves {
			dst := make([]byte, len(v.original))
			if err := r.apply(dst, mask, k == 1); err != nil {
				t.Fatal(err)
			}
			x, err := onnx.NewTensor("x", onnx.Double, []int64{1, 3, 9, 8}, dst)
			if err != nil {
				t.Fatal(err)
			}
			if halves[k], err = x.Float64s(); err != nil {
				t.Fatal(err)
			}
		}
		for i := range row {
			if math.Abs(halves[0][i]+halves[1][i]-row[i]) > 1e-12 {
				t.Fatalf("element %d: %v and %v do not make %v", i, halves[0][i], halves[1][i], row[i])
			}
		}
	}
	if !soft || math.Abs(sum/n-0.5) > 0.03 {
		t.Errorf("mean %v, soft %v", sum/n, soft)
	}
}

// pooledModel is global average pooling over [1, 2, 2, 3] and a linear head with three classes, with the image as its own feature map.
func pooledModel(head [3][2]float64) (Model, *fake) {
	shape := onnx.Shape{onnx.Symbol("N"), onnx.Fixed(2), onnx.Fixed(2), onnx.Fixed(3)}
	whole := &fake{dtype: onnx.Double, shape: shape, out: []int64{3}, f: func(x []float64) []float64 {
		var pooled [2]float64
		for i, v := range x {
			pooled[i/6] += v / 6
		}
		out := make([]float64, 3)
		for j, w := range head {
			out[j] = w[0]*pooled[0] + w[1]*pooled[1]
		}
		return out
	}}
	body := &fake{dtype: onnx.Double, shape: shape, out: []int64{2, 2, 3}, f: func(x []float64) []float64 { return x }}
	tail := mapped(whole, func(y []float64) []float64 { return y })
	return Model{Session: whole, Split: func(context.Context, string, Sample) (*Split, error) {
		return &Split{Body: body, Feature: "y", Tail: tail, Input: "x"}, nil
	}}, tail
}

// For global average pooling and a linear head, hiding a position is the class activation map of the margin,
// Σ_k (w_ck - w_rk) F_k(p) / positions, where r is the best other class.
func TestReciproCAMIsCAM(t *testing.T) {
	head := [3][2]float64{{3, 1}, {1, 1.5}, {-1, -2}}
	model, tail := pooledModel(head)
	rows := [][]float64{{5, 4, 3, 5, 4, 3, 1, 1, 1, 1, 0, 1}, {9, 8, 9, 7, 8, 9, 1, 2, 3, 3, 2, 1}}
	r, err := Compare(t.Context(), model, model, samplesOf(t, onnx.Double, []int64{1, 2, 2, 3}, rows...), Options{Method: method(t, "recipro-cam"), Layout: NCHW, KeepMaps: true})
	if err != nil {
		t.Fatal(err)
	}
	for s, p := range r.Pairs {
		want := make([]float64, 6)
		for i := range want {
			want[i] = ((head[0][0]-head[1][0])*rows[s][i] + (head[0][1]-head[1][1])*rows[s][6+i]) / 6
		}
		if d := cmp.Diff(want, p.Baseline, near); d != "" || p.Rows != 2 || p.Cols != 3 {
			t.Errorf("%s, %d × %d: %s", p.ID, p.Rows, p.Cols, d)
		}
	}
	if r.Spearman.Median != 1 || *r.CrossFaithfulness != 1 || *r.SelfCheck != 1 || r.Fill != "zero-features" || r.Background != "" {
		t.Errorf("got %+v", r)
	}
	if tail.sizes[7] == 0 {
		t.Errorf("heads ran in batches %v, want 7: all positions and the map itself", tail.sizes)
	}
	if _, err := Compare(t.Context(), Model{Session: model.Session}, model, samplesOf(t, onnx.Double, []int64{1, 2, 2, 3}, rows...), Options{Method: method(t, "recipro-cam")}); err == nil ||
		!strings.Contains(err.Error(), "needs the graphs") {
		t.Errorf("without a split: %v", err)
	}
}

// Columns have units of their own: moving inputs by a part of their range moves each by a part of its own.
func TestJitterByColumn(t *testing.T) {
	rows := randomRows(41, 30, 6)
	w := []float64{1, 1e4, 1, -1e4, 2, -1}
	for _, r := range rows {
		r[1], r[3] = r[1]/1e4, r[3]/1e4
		r[0] += 5
	}
	r := compared(t, linear(0, w...), linear(0, w...), samplesOf(t, onnx.Double, []int64{1, 6}, rows...), Options{})
	if c := r.Calibrated; c == nil || c.Spearman < 0.9 || c.Samples != 8 {
		t.Errorf("calibrated %+v, want nearly 1", c)
	}
}

// Every method gives identical models identical maps, and draws the same again from the same seed.
func TestIdenticalModelsByEveryMethod(t *testing.T) {
	rows := randomRows(21, 6, 12)
	for i := range rows {
		rows[i][0] += 4
	}
	for _, m := range Methods() {
		t.Run(m.Name, func(t *testing.T) {
			if m.Slopes {
				t.Skip("needs gradients")
			}
			model, _ := pooledModel([3][2]float64{{3, 1}, {1, 1.5}, {-1, -2}})
			run := func(seed uint64) *Result {
				r, err := Compare(t.Context(), model, model, samplesOf(t, onnx.Double, []int64{1, 2, 2, 3}, rows...),
					Options{Method: m, Layout: NCHW, Grid: 3, Perturbations: 60, Seed: seed, KeepMaps: true})
				if err != nil {
					t.Fatal(err)
				}
				return r
			}
			r := run(1)
			for name, e := range map[string]Estimate{"spearman": r.Spearman, "jaccard": r.TopKJaccard, "cosine": r.Cosine, "sign": r.SignAgreement, "ssim": *r.SSIM} {
				if e.Median != 1 || e.P10 != 1 || e.Interval.Low != 1 {
					t.Errorf("%s: got %+v, want exactly 1", name, e)
				}
			}
			if *r.SelfCheck != 1 || r.MassDisplacement.Median != 0 || r.ArgmaxDistance.Median != 0 || *r.CrossFaithfulness != 1 || r.Deletion.Delta != 0 || r.Insertion.Delta != 0 {
				t.Errorf("got %+v", r)
			}
			if d := cmp.Diff(r.Pairs, run(1).Pairs); d != "" {
				t.Errorf("the same seed: %s", d)
			}
			if same := cmp.Equal(r.Pairs, run(2).Pairs); same == m.Random && m.Name != "kernel-shap" { // of 6 features all subsets are run
				t.Errorf("another seed gives the same maps: %v", same)
			}
			if m.Random && (r.NoiseFloor == nil || r.StandardError == nil) {
				t.Errorf("noise floor %v, standard error %v of a method that draws", r.NoiseFloor, r.StandardError)
			}
			if r.Calibrated == nil || r.Calibrated.Samples != 6 || r.Calibrated.Spearman < 0.5 || !strings.Contains(r.Calibrated.How, "0.0039") {
				t.Errorf("calibrated %+v", r.Calibrated)
			}
		})
	}
}

// What a comparison is said to cost is what it runs at most, and nearly all of it.
func TestCost(t *testing.T) {
	rows := randomRows(31, 9, 12)
	for _, m := range Methods() {
		if m.Slopes {
			continue
		}
		model, tail := pooledModel([3][2]float64{{3, 1}, {1, 1.5}, {-1, -2}})
		other, tail2 := pooledModel([3][2]float64{{3, 1}, {1, 1.4}, {-1, -2}})
		s := samplesOf(t, onnx.Double, []int64{1, 2, 2, 3}, rows...)
		o := Options{Method: m, Layout: NCHW, Batch: 1, Perturbations: 70}
		if _, err := Compare(t.Context(), model, other, s, o); err != nil {
			t.Fatal(err)
		}
		c, err := CostOf(s[0], "x", len(s), o)
		if err != nil {
			t.Fatal(err)
		}
		whole := model.Session.(*fake).runs + other.Session.(*fake).runs
		heads := tail.runs + tail2.runs
		if whole > c.Whole || heads > c.Heads || 10*(whole+heads) < 7*(c.Whole+c.Heads) {
			t.Errorf("%s: %d runs of models and %d of heads, said to be at most %+v", m.Name, whole, heads, c)
		}
	}
}

// numpy: sin(0.7 i + s) + 0.3 cos(0.05 s i²) for s = 0 and 1; Gaussian window, valid places only.
func TestSSIM(t *testing.T) {
	of := func(rows, cols int, s float64) []float64 {
		out := make([]float64, rows*cols)
		for i := range out {
			x := float64(i)
			out[i] = math.Sin(0.7*x+s) + 0.3*math.Cos(0.05*s*x*x)
		}
		return out
	}
	for _, tt := range []struct {
		rows, cols int
		want       float64
	}{{7, 7, -0.18292183134447146}, {13, 13, 0.046429299229364514}, {4, 6, -0.06846097137998064}} {
		if got := SSIM(of(tt.rows, tt.cols, 0), of(tt.rows, tt.cols, 1), tt.rows, tt.cols); math.Abs(got-tt.want) > 1e-9 {
			t.Errorf("%d × %d: got %v, want %v", tt.rows, tt.cols, got, tt.want)
		}
	}
	if got := ArgmaxDistance([]float64{0, 0, -5, 0, 0, 0}, []float64{0, 0, 0, 5, 0, 0}, 3); got != math.Sqrt(5) {
		t.Errorf("distance %v, want that of (0, 2) and (1, 0)", got)
	}
	if got := ArgmaxDistance([]float64{5, 0, 5}, []float64{0, 0, 5}, 3); got != 0 {
		t.Errorf("of two peaks the nearest: got %v", got)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, o := range []Options{{Window: -1}, {Stride: 2}, {Window: 2, Stride: 3}, {Perturbations: -1}, {Grid: 300}} {
		if o.Check() == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
	if _, err := Lookup("magic"); err == nil || !strings.Contains(err.Error(), "kernel-shap") {
		t.Errorf("got %v, want the list of methods", err)
	}
	if m, err := Lookup("auto"); err != nil || m.Name != "occlusion" {
		t.Errorf("auto is %q, %v", m.Name, err)
	}
}

// Tokens cannot be moved a little: limits are calibrated by a copy of the model that was changed a little.
func TestCalibrationOfTokens(t *testing.T) {
	model := func(weight float64) *fake {
		return &fake{dtype: onnx.Int64, shape: onnx.Shape{onnx.Symbol("N"), onnx.Symbol("T")}, out: []int64{2}, f: func(x []float64) []float64 {
			sum := 1.0
			for i, v := range x {
				sum += v * math.Pow(weight, float64(i))
			}
			return []float64{sum, 0}
		}}
	}
	var rows [][]float64
	for i := range 5 {
		rows = append(rows, []float64{float64(i + 1), 7, float64(9 - i), 3, 5})
	}
	s := samplesOf(t, onnx.Int64, []int64{1, 5}, rows...)
	same := compared(t, model(0.5), model(0.5), s, Options{Reference: &Model{Session: model(0.5001)}})
	if c := same.Calibrated; c == nil || c.Spearman < 0.9 || c.Samples != 5 || !strings.Contains(c.How, "float16") || *same.NoiseFloor < c.Spearman {
		t.Errorf("calibrated %+v", c)
	}
	far := compared(t, model(0.5), model(0.5), s, Options{Reference: &Model{Session: model(2)}})
	if c := far.Calibrated; c == nil || c.Spearman > 0.5 {
		t.Errorf("calibrated %+v by a copy that is quite another model", c)
	}
	if none := compared(t, model(0.5), model(0.5), s, Options{}); none.Calibrated != nil || none.NoiseFloor != nil {
		t.Errorf("calibrated %+v without a copy", none.Calibrated)
	}
}

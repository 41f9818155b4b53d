package score

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var (
	logitsA = [][]float64{{2, 1, 0}, {0, 3, 1}, {1, 1, 4}, {0.5, 0.2, 0.1}}
	logitsB = [][]float64{{1.5, 1, 0.2}, {0, 2, 2.5}, {1, 0.9, 4}, {0.1, 0.2, 0.6}}
	labels  = []int{0, 1, 2, 0}
	nan     = math.NaN()
)

func softmax(row []float64) []float64 {
	p := logProbabilities(nil, row, false)
	for i := range p {
		p[i] = math.Exp(p[i])
	}
	return p
}

func classified(t *testing.T, o Options, a, b [][]float64) *ClassificationResult {
	t.Helper()
	c, err := NewClassification(o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range a {
		s := Sample{ID: fmt.Sprint("s", i), Label: labels[i%len(labels)], Slices: []string{fmt.Sprint("odd=", i%2)}}
		if err := c.Add(s, a[i], b[i]); err != nil {
			t.Fatal(err)
		}
	}
	r, err := c.Result()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The distribution's numbers come from SciPy's log_softmax and softmax:
//
//	l1, l2 = log_softmax(a, 1), log_softmax(b, 1); p1, p2 = softmax(a, 1), softmax(b, 1)
//	-l1[range(4), y].mean(); ((p1 - onehot)**2).sum(1).mean(); (p1*(l1 - l2)).sum(1).mean()
func TestClassification(t *testing.T) {
	r := classified(t, Options{}, logitsA, logitsB)
	if d := cmp.Diff([]float64{1, 0.5, -0.5}, []float64{r.TopK[0].Baseline, r.TopK[0].Candidate, r.TopK[0].Delta}); d != "" {
		t.Error(d)
	}
	if len(r.TopK) != 1 {
		t.Errorf("top-5 of 3 classes was scored: %+v", r.TopK)
	}
	wantFlips := Flips{RightToWrong: 2, Lost: []Flip{{ID: "s1", Label: 1, Baseline: 1, Candidate: 2}, {ID: "s3", Label: 0, Baseline: 0, Candidate: 2}}}
	if d := cmp.Diff(wantFlips, r.Flips, cmpopts.IgnoreFields(Flip{}, "Margin"), cmpopts.IgnoreUnexported(Flip{})); d != "" {
		t.Error(d)
	}
	d := r.Distribution
	got := []float64{d.NLL.Baseline, d.NLL.Candidate, d.Brier.Baseline, d.Brier.Candidate, d.KLMean}
	want := []float64{0.38811847156555807, 0.7670200149199722, 0.1864463839953264, 0.48420184309153186, 0.15853554390678648}
	if diff := cmp.Diff(want, got, near); diff != "" {
		t.Error(diff)
	}
	if math.Abs(d.KLP95/5.26564972e-01-1) > 0.011 || d.BaselineKind != Logits || d.CandidateKind != Logits {
		t.Errorf("got %+v", d)
	}
	if r.Agreement.Count != 2 || r.Agreement.N != 4 {
		t.Errorf("agreement: got %+v", r.Agreement)
	}
	if len(r.Slices) != 2 || r.Slices[1].N != 2 || r.Slices[1].Delta != -1 || r.Slices[1].Tested {
		t.Errorf("slices: got %+v", r.Slices)
	}
	if r.Worst != nil {
		t.Errorf("a slice below the least size was judged: %+v", r.Worst)
	}
}

// The same model with its softmax in the file gives the same distribution, whichever side has it.
func TestProbabilitiesEqualLogits(t *testing.T) {
	want := classified(t, Options{}, logitsA, logitsB)
	var pa, pb [][]float64
	for i := range logitsA {
		pa, pb = append(pa, softmax(logitsA[i])), append(pb, softmax(logitsB[i]))
	}
	for _, tt := range []struct {
		name string
		a, b [][]float64
		kind [2]Kind
	}{
		{"both", pa, pb, [2]Kind{Probabilities, Probabilities}},
		{"candidate only", logitsA, pb, [2]Kind{Logits, Probabilities}},
		{"baseline only", pa, logitsB, [2]Kind{Probabilities, Logits}},
	} {
		r := classified(t, Options{}, tt.a, tt.b)
		got := r.Distribution
		if got.BaselineKind != tt.kind[0] || got.CandidateKind != tt.kind[1] {
			t.Errorf("%s: got kinds %v and %v", tt.name, got.BaselineKind, got.CandidateKind)
		}
		if d := cmp.Diff(want.Distribution, got, near, cmpopts.IgnoreFields(Distribution{}, "BaselineKind", "CandidateKind")); d != "" {
			t.Errorf("%s: %s", tt.name, d)
		}
		if mixed := tt.kind[0] != tt.kind[1]; mixed != (len(r.Warnings) > len(want.Warnings)) {
			t.Errorf("%s: warnings %q", tt.name, r.Warnings)
		}
	}
}

// One row that happens to look like probabilities does not make a model's logits probabilities.
func TestKindIsConsistent(t *testing.T) {
	a := slices.Clone(logitsA)
	a[0] = []float64{0.7, 0.2, 0.1}
	if r := classified(t, Options{}, a, a); r.Distribution.BaselineKind != Logits || r.Distribution.KLMean != 0 {
		t.Errorf("got %+v", r.Distribution)
	}
	if r := classified(t, Options{Kind: Logits}, a[:1], a[:1]); r.Distribution.BaselineKind != Logits {
		t.Errorf("got %+v, want what was asked for", r.Distribution)
	}
	if r := classified(t, Options{}, a[:1], a[:1]); r.Distribution.BaselineKind != Probabilities {
		t.Errorf("got %+v", r.Distribution)
	}
}

func TestEqualModels(t *testing.T) {
	r := classified(t, Options{}, logitsB, logitsB)
	top := r.TopK[0]
	if top.Delta != 0 || *top.PValue != 1 || top.Low >= 0 || top.High <= 0 || r.Distribution.NLL.Delta != 0 || r.Distribution.NLL.High != 0 {
		t.Errorf("got %+v and %+v", top, r.Distribution)
	}
	if r.Flips.RightToWrong+r.Flips.WrongToRight+r.Flips.WrongToOther != 0 || r.Agreement.Value != 1 || r.Distribution.KLMax != 0 {
		t.Errorf("got %+v", r)
	}
}

func TestNonFiniteOutputs(t *testing.T) {
	b := slices.Clone(logitsA)
	b[2] = []float64{1, nan, 4}
	r := classified(t, Options{}, logitsA, b)
	if r.NonFinite.Candidate != 1 || r.NonFinite.Baseline != 0 || r.NonFinite.IDs[0] != "s2" || len(r.Warnings) == 0 {
		t.Errorf("got %+v, %q", r.NonFinite, r.Warnings)
	}
	if r.TopK[0].Candidate != 0.75 || r.Flips.Lost[0].Candidate != -1 || r.Distribution.N != 3 || math.IsNaN(r.Distribution.KLMean) {
		t.Errorf("a NaN must be wrong and out of the averages: %+v", r)
	}
	// A mask is no fault.
	b[2] = []float64{1, math.Inf(-1), 4}
	if r := classified(t, Options{}, b, b); r.NonFinite.Candidate != 0 || r.Distribution.N != 4 || math.IsInf(r.Distribution.KLMean, 0) {
		t.Errorf("got %+v", r)
	}
}

func TestSlicesAndWorst(t *testing.T) {
	c, err := NewClassification(Options{MaxFlips: 3})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		region := []string{"a", "b", "c"}[i%3]
		lost := region == "b" && i%6 == 1
		row := []float64{1, 0}
		if lost {
			row = []float64{0, 1}
		}
		if err := c.Add(Sample{ID: fmt.Sprint(i), Label: 0, Slices: []string{region, region}}, []float64{1, 0}, row); err != nil {
			t.Fatal(err)
		}
	}
	r, err := c.Result()
	if err != nil {
		t.Fatal(err)
	}
	if r.Worst == nil || r.Worst.Name != "b" || r.Worst.N != 100 || r.Worst.Delta != -0.5 {
		t.Fatalf("worst: got %+v", r.Worst)
	}
	low, high := Tango(0, 50, 100, 1-0.05/3)
	ownLow, ownHigh := Tango(0, 50, 100, 0.95)
	want := Slice{
		Name: "b", N: 100, Baseline: 1, Candidate: 0.5, Delta: -0.5, OwnLow: ownLow, OwnHigh: ownHigh, Low: low, High: high,
		PValue: McNemar(0, 50), Adjusted: 3 * McNemar(0, 50), Tested: true,
	}
	if d := cmp.Diff(want, *r.Worst, near); d != "" {
		t.Error(d)
	}
	if r.Flips.RightToWrong != 50 || len(r.Flips.Lost) != 3 {
		t.Errorf("flips: %d counted, %d listed, want 50 and 3", r.Flips.RightToWrong, len(r.Flips.Lost))
	}
	if r.Required <= 300 || r.MDE < 0.005 {
		t.Errorf("required %d, detectable %v", r.Required, r.MDE)
	}
}

func TestTiesAreRankedByIndex(t *testing.T) {
	c, _ := NewClassification(Options{TopK: []int{1, 2}})
	if err := c.Add(Sample{Label: 1}, []float64{5, 5, 5}, []float64{5, 5, 6}); err != nil {
		t.Fatal(err)
	}
	r, err := c.Result()
	if err != nil {
		t.Fatal(err)
	}
	if r.Ties != [2]int{1, 0} || r.TopK[0].Baseline != 0 || r.TopK[1].Baseline != 1 || r.TopK[1].Candidate != 0 {
		t.Errorf("got %+v", r)
	}
}

func TestAddRefuses(t *testing.T) {
	c, _ := NewClassification(Options{})
	if err := c.Add(Sample{Label: 0}, []float64{1, 2}, []float64{1, 2}); err != nil {
		t.Fatal(err)
	}
	for name, add := range map[string]func() error{
		"lengths": func() error { return c.Add(Sample{}, []float64{1, 2}, []float64{1}) },
		"one":     func() error { return c.Add(Sample{}, []float64{1}, []float64{1}) },
		"changed": func() error { return c.Add(Sample{}, []float64{1, 2, 3}, []float64{1, 2, 3}) },
		"label":   func() error { return c.Add(Sample{Label: 2}, []float64{1, 2}, []float64{1, 2}) },
		"no":      func() error { return c.Add(Sample{Label: -1}, []float64{1, 2}, []float64{1, 2}) },
		"labels":  func() error { return c.AddLabels(Sample{Label: -1}, 0, 0) },
	} {
		if add() == nil {
			t.Errorf("%s: want an error", name)
		}
	}
	if r, _ := c.Result(); r.N != 1 {
		t.Errorf("a refused sample was counted: %d", r.N)
	}
	for _, o := range []Options{{Confidence: 1}, {Margin: -1}, {TopK: []int{0}}, {MaxFlips: -1}, {Kind: 9}} {
		if _, err := NewClassification(o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
	empty, _ := NewClassification(Options{})
	if _, err := empty.Result(); err == nil {
		t.Error("a result of no samples")
	}
}

func TestAddLabels(t *testing.T) {
	c, _ := NewClassification(Options{})
	for i, pair := range [][2]int{{1, 1}, {1, 0}, {0, 2}} {
		if err := c.AddLabels(Sample{ID: fmt.Sprint(i), Label: 1}, pair[0], pair[1]); err != nil {
			t.Fatal(err)
		}
	}
	r, err := c.Result()
	if err != nil {
		t.Fatal(err)
	}
	if r.Distribution != nil || len(r.TopK) != 1 || r.Flips.RightToWrong != 1 || r.Flips.WrongToOther != 1 || r.Agreement.Count != 1 {
		t.Errorf("got %+v", r)
	}
}

// The streaming calibration error agrees with the one computed from sorted confidences.
func TestECE(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var r reliability
	type pair struct {
		confidence float64
		right      bool
	}
	var all []pair
	const n = 15000
	for range n {
		p := pair{confidence: 0.5 + 0.5*math.Sqrt(rng.Float64())}
		p.right = rng.Float64() < p.confidence-0.1
		r.add(p.confidence, p.right)
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b pair) int {
		if a.confidence < b.confidence {
			return -1
		}
		return 1
	})
	exact := 0.0
	for b := range 15 {
		var confidence, right float64
		for _, p := range all[b*n/15 : (b+1)*n/15] {
			confidence += p.confidence
			right += number(p.right)
		}
		exact += math.Abs(confidence-right) / n
	}
	got, floor := r.ece()
	if math.Abs(got-exact) > 0.001 || floor < 0.005 || floor > 0.012 {
		t.Errorf("got %v (floor %v), want %v", got, floor, exact)
	}
	var sure reliability
	for range 10 {
		sure.add(1, true)
	}
	if v, f := sure.ece(); v != 0 || f != 0 {
		t.Errorf("sure and right: got %v, %v", v, f)
	}
}

func TestSketch(t *testing.T) {
	var s sketch
	for i := 1; i <= 1000; i++ {
		s.add(float64(i) / 1000)
	}
	for _, p := range []float64{0.1, 0.5, 0.95, 1} {
		if got := s.quantile(p); math.Abs(got/p-1) > 0.0101 {
			t.Errorf("p %v: got %v", p, got)
		}
	}
	var zero sketch
	zero.add(0)
	if zero.quantile(0.95) != 0 {
		t.Error("zero must stay zero")
	}
}

func TestTokens(t *testing.T) {
	tokens, err := NewTokens(Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range logitsA {
		sequence := []string{"x", "x", "y", "y"}[i]
		if err := tokens.Add(Sample{ID: sequence, Label: labels[i]}, logitsA[i], logitsB[i]); err != nil {
			t.Fatal(err)
		}
		if err := tokens.Add(Sample{ID: sequence, Label: -1}, logitsA[i], logitsB[i]); err != nil {
			t.Fatal(err)
		}
	}
	r, err := tokens.Result()
	if err != nil {
		t.Fatal(err)
	}
	if r.N != 4 || r.Sequences != 2 || r.Ignored != 4 || r.NLL.Clusters != 2 || r.Accuracy.Delta != -0.5 || r.Accuracy.LowerIsBetter {
		t.Errorf("got %+v", r)
	}
	got := []float64{r.NLL.Baseline, r.Perplexity[1], r.PerplexityRatio}
	want := []float64{0.38811847156555807, math.Exp(0.7670200149199722), math.Exp(0.7670200149199722 - 0.38811847156555807)}
	if d := cmp.Diff(want, got, near); d != "" {
		t.Error(d)
	}
	if err := tokens.Add(Sample{ID: "z", Label: 3}, logitsA[0], logitsA[0]); err == nil {
		t.Error("a label beyond the vocabulary was accepted")
	}
}

func TestRegression(t *testing.T) {
	r, _ := NewRegression(Options{})
	target := [][]float64{{1, 2}, {3, 4}, {5, 6}}
	a := [][]float64{{1, 1}, {3, 6}, {5, 6}}
	b := [][]float64{{2, 1}, {3, 7}, {4, 6}}
	for i := range target {
		if err := r.Add(Sample{ID: fmt.Sprint(i)}, target[i], a[i], b[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Add(Sample{ID: "bad"}, []float64{1, 1}, []float64{1, nan}, []float64{1, 1}); err != nil {
		t.Fatal(err)
	}
	got, err := r.Result()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]float64{0.5, 1, 0.5}, []float64{got.MAE.Baseline, got.MAE.Candidate, got.MAE.Delta}, near); d != "" {
		t.Error(d)
	}
	// Paired differences per sample of two elements: 0.5, 0.5, 0.5: no spread.
	if got.MAE.Low != 0.5 || got.MAE.High != 0.5 || got.NonFinite.Baseline != 1 || got.N != 4 {
		t.Errorf("got %+v", got)
	}
	if d := cmp.Diff([]float64{math.Sqrt(5.0 / 6), math.Sqrt(12.0 / 6)}, []float64{got.RMSE.Baseline, got.RMSE.Candidate}, near); d != "" {
		t.Error(d)
	}
	if !(got.RMSE.Low < got.RMSE.Delta && got.RMSE.Delta < got.RMSE.High) {
		t.Errorf("got %+v", got.RMSE)
	}
	for name, err := range map[string]error{
		"length": r.Add(Sample{ID: "x"}, []float64{1}, []float64{1, 2}, []float64{1}),
		"target": r.Add(Sample{ID: "x"}, []float64{nan}, []float64{1}, []float64{1}),
		"empty":  r.Add(Sample{ID: "x"}, nil, nil, nil),
	} {
		if err == nil {
			t.Errorf("%s: want an error", name)
		}
	}
}

// The interval of the RMSE's difference covers it.
func TestRMSECovers(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	truth := math.Sqrt(1+0.25) - 1
	covered := 0
	const repetitions = 600
	for range repetitions {
		r, _ := NewRegression(Options{})
		for i := range 200 {
			e := rng.NormFloat64()
			if err := r.Add(Sample{ID: fmt.Sprint(i)}, []float64{0}, []float64{e}, []float64{e + 0.5*rng.NormFloat64()}); err != nil {
				t.Fatal(err)
			}
		}
		got, _ := r.Result()
		if got.RMSE.Low <= truth && truth <= got.RMSE.High {
			covered++
		}
	}
	if rate := float64(covered) / repetitions; rate < 0.93 || rate > 0.98 {
		t.Errorf("covers in %.1f %%, want 95 %%", 100*rate)
	}
}

func TestMultiLabel(t *testing.T) {
	m, _ := NewMultiLabel(Options{})
	truth := [][]int{{1, 0, 1}, {0, 1, -1}, {1, 1, 0}}
	a := [][]float64{{0.9, 0.1, 0.8}, {0.2, 0.7, 0.9}, {0.6, 0.9, 0.2}}
	b := [][]float64{{2, -2, -1}, {-1, 1, 2}, {-1, 2, -1}} // logits
	for i := range truth {
		if err := m.Add(Sample{ID: fmt.Sprint(i)}, truth[i], a[i], b[i]); err != nil {
			t.Fatal(err)
		}
	}
	r, err := m.Result()
	if err != nil {
		t.Fatal(err)
	}
	if r.BaselineKind != Probabilities || r.CandidateKind != Logits || len(r.Warnings) != 1 {
		t.Errorf("kinds %v and %v, warnings %q", r.BaselineKind, r.CandidateKind, r.Warnings)
	}
	if r.Exact.Metric != "exact-match" || r.Exact.Baseline != 1 || math.Abs(r.Exact.Candidate-1.0/3) > 1e-12 || r.Flips.RightToWrong != 2 {
		t.Errorf("got %+v", r.Exact)
	}
	// Candidate: 3 true positives, 2 missed, none invented (the unknown label does not count): F1 = 6/8.
	if d := cmp.Diff([]float64{1, 0.75, -0.25, 0.75}, []float64{r.MicroF1.Baseline, r.MicroF1.Candidate, r.MicroF1.Delta, r.Label.Candidate}, near); d != "" {
		t.Error(d)
	}
	if err := m.Add(Sample{ID: "x"}, []int{2, 0, 0}, a[0], b[0]); err == nil {
		t.Error("a label of 2 was accepted")
	}
	binary, _ := NewMultiLabel(Options{})
	if err := binary.Add(Sample{ID: "0"}, []int{1}, []float64{nan}, []float64{0.7}); err != nil {
		t.Fatal(err)
	}
	if r, _ := binary.Result(); r.Exact.Metric != "accuracy" || r.Exact.Baseline != 0 || r.Exact.Candidate != 1 || r.NonFinite.Baseline != 1 {
		t.Errorf("got %+v", r)
	}
}

func TestAgreement(t *testing.T) {
	a, _ := NewAgreement(Options{TopK: []int{2}}, false)
	for i := range logitsA {
		if err := a.Add(fmt.Sprint(i), logitsA[i], logitsB[i]); err != nil {
			t.Fatal(err)
		}
	}
	r, err := a.Result()
	if err != nil {
		t.Fatal(err)
	}
	if r.Same.Count != 2 || len(r.Disagreements) != 2 || r.Disagreements[0].ID != "1" || r.Disagreements[0].Label != -1 || r.Disagreements[0].Baseline != 1 || r.Disagreements[0].Candidate != 2 {
		t.Errorf("got %+v", r)
	}
	// The two highest: {0,1} and {0,1}; {1,2} and {2,1}; {2,0} twice; {0,1} against {2,1}.
	if r.TopK != 2 || r.TopKOverlap != (1+1+1+0.5)/4 {
		t.Errorf("overlap of top %d: got %v", r.TopK, r.TopKOverlap)
	}
	var signal, noise float64
	for i := range logitsA {
		for j := range logitsA[i] {
			signal += logitsA[i][j] * logitsA[i][j]
			noise += math.Pow(logitsA[i][j]-logitsB[i][j], 2)
		}
	}
	if !cmp.Equal(r.SQNR, 10*math.Log10(signal/noise), near) || !cmp.Equal(r.Distribution.KLMean, 0.15853554390678648, near) || r.Distribution.NLL != nil {
		t.Errorf("got %+v", r)
	}
	numeric, _ := NewAgreement(Options{}, true)
	for _, row := range [][]float64{{1, 2}, {3, nan}} {
		if err := numeric.Add("n", row, row); err != nil {
			t.Fatal(err)
		}
	}
	n, _ := numeric.Result()
	if n.Same != nil || n.Distribution != nil || n.CosineMin != 1 || !math.IsInf(n.SQNR, 1) || n.NonFinite.Candidate != 1 || n.FiniteSamples != 1 {
		t.Errorf("got %+v", n)
	}
}

func TestHighest(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	for range 300 {
		row := make([]float64, 12)
		for i := range row {
			row[i] = float64(rng.IntN(6))
		}
		var want []int
		for i := range row {
			if rank(row, i) < 5 {
				want = append(want, i)
			}
		}
		got := highest(nil, row, 5)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Fatalf("%v: got %v, want %v", row, got, want)
		}
	}
}

func BenchmarkClassification1000Classes(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	x, y := make([]float64, 1000), make([]float64, 1000)
	for i := range x {
		x[i] = rng.NormFloat64()
		y[i] = x[i] + 0.01*rng.NormFloat64()
	}
	c, _ := NewClassification(Options{})
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Add(Sample{Label: 3}, x, y); err != nil {
			b.Fatal(err)
		}
	}
}

// TestMargins holds that a changed prediction tells how sure the baseline was of its class, of logits and of
// probabilities, which may be told apart only by a later sample.
func TestMargins(t *testing.T) {
	softmax := func(a, b, c float64) []float64 { return []float64{math.Log(a), math.Log(b), math.Log(c)} }
	for _, tt := range []struct {
		name string
		rows [][2][]float64
	}{
		{"probabilities", [][2][]float64{{{0.5, 0.3, 0.2}, {0.3, 0.5, 0.2}}, {{0.6, 0.2, 0.2}, {0.6, 0.2, 0.2}}}},
		{"logits", [][2][]float64{{softmax(0.5, 0.3, 0.2), softmax(0.3, 0.5, 0.2)}, {{4, -1, 0}, {4, -1, 0}}}},
		{"logits that look like probabilities", [][2][]float64{{{1, 0, 0}, {0, 1, 0}}, {{4, -1, 0}, {4, -1, 0}}}},
	} {
		want := 0.2
		if tt.name == "logits that look like probabilities" {
			want = (math.E - 1) / (math.E + 2)
		}
		labelled, err := NewClassification(Options{MaxFlips: 5})
		if err != nil {
			t.Fatal(err)
		}
		unlabelled, err := NewAgreement(Options{MaxFlips: 5}, false)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range tt.rows {
			if err := labelled.Add(Sample{ID: strconv.Itoa(i)}, r[0], r[1]); err != nil {
				t.Fatal(err)
			}
			if err := unlabelled.Add(strconv.Itoa(i), r[0], r[1]); err != nil {
				t.Fatal(err)
			}
		}
		a, err := labelled.Result()
		if err != nil {
			t.Fatal(err)
		}
		b, err := unlabelled.Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range [][]Flip{a.Flips.Lost, b.Disagreements} {
			if len(f) != 1 || f[0].Margin == nil || math.Abs(*f[0].Margin-want) > 1e-9 {
				t.Errorf("%s: %+v, want the margin %v", tt.name, f, want)
			}
		}
	}
}

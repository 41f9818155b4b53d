package measure

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// Constants below marked SciPy come from SciPy 1.16:
//
//	stats.t.ppf(p, df); stats.binom.cdf(k, n, p)
//	l = max(k for k in range(n+1) if stats.binom.cdf(k-1, n, p) <= .025)
//	u = min(k for k in range(1, n+2) if stats.binom.sf(k-1, n, p) <= .025)
//	coverage = stats.binom.cdf(u-1, n, p) - stats.binom.cdf(l-1, n, p)
//	np.quantile([1,2,4,8,16,32,64], [.5,.9,.95,.25])
//	stats.bootstrap((d,), np.mean, method="BCa", n_resamples=200000, random_state=1)
var near = cmpopts.EquateApprox(1e-9, 1e-12)

func TestDistributions(t *testing.T) {
	for _, tt := range []struct{ got, want float64 }{
		{studentQuantile(0.975, 1), 12.706204736174694},
		{studentQuantile(0.975, 2), 4.302652729749462},
		{studentQuantile(0.975, 4), 2.7764451051977934},
		{studentQuantile(0.8, 4), 0.9409645772351816},
		{studentQuantile(0.025, 9), -2.2621571627982053},
		{studentQuantile(0.975, 100), 1.9839715185235518},
		{studentQuantile(0.5, 7), 0},
		{binomialCDF(3, 10, 0.5), 0.171875},
		{binomialCDF(44, 50, 0.9), 0.3838769922757227},
		{binomialCDF(990, 1000, 0.99), 0.5426994078251104},
		{binomialCDF(0, 5, 0.3), 0.16807000000000002},
		{binomialUpper(4, 10, 0.5), 1 - 0.171875},
	} {
		if !cmp.Equal(tt.got, tt.want, near) {
			t.Errorf("got %v, want %v", tt.got, tt.want)
		}
	}
}

func TestOrderInterval(t *testing.T) {
	for _, tt := range []struct {
		n      int
		p      float64
		lo, hi int
		ok     bool
	}{
		{6, 0.5, 1, 6, true},
		{5, 0.5, 0, 6, false},
		{100, 0.5, 40, 61, true},
		{35, 0.9, 28, 36, false},
		{36, 0.9, 29, 36, true},
		{100, 0.9, 84, 96, true},
		{71, 0.95, 63, 72, false},
		{72, 0.95, 64, 72, true},
		{367, 0.99, 359, 368, false},
		{368, 0.99, 360, 368, true},
		{1000, 0.99, 983, 997, true},
	} {
		lo, hi, ok := OrderInterval(tt.n, tt.p, 0.95)
		if lo != tt.lo || hi != tt.hi || ok != tt.ok {
			t.Errorf("n %d, p %v: got %d, %d, %v, want %d, %d, %v", tt.n, tt.p, lo, hi, ok, tt.lo, tt.hi, tt.ok)
		}
	}
	for p, want := range map[float64]int{0.5: 6, 0.9: 36, 0.95: 72, 0.99: 368, 0.999: 3688} {
		if got := MinSamples(p, 0.95); got != want {
			t.Errorf("least samples for p = %v: got %d, want %d", p, got, want)
		}
	}
}

func TestEarlyStopping(t *testing.T) {
	// The least number of queries for 1 to 5 over-latency ones, as MLPerf's table has it.
	for p, least := range map[float64][]int{
		0.9:  {64, 81, 97, 113, 127},
		0.95: {130, 165, 198, 229, 259},
		0.99: {662, 838, 1001, 1157, 1307},
	} {
		for i, n := range least {
			sorted := make([]float64, n)
			for j := range sorted {
				sorted[j] = float64(j + 1)
			}
			if got, ok := EarlyStopping(sorted, p, 0.99); !ok || got != float64(n-i) {
				t.Errorf("p %v, n %d: got %v, %v, want %d", p, n, got, ok, n-i)
			}
			got, ok := EarlyStopping(sorted[:n-1], p, 0.99)
			if want := float64(n - 1 - (i - 1)); i == 0 && ok || i > 0 && got != want {
				t.Errorf("p %v, n %d: got %v, %v, want one over-latency query less", p, n-1, got, ok)
			}
		}
	}
}

func TestSummarize(t *testing.T) {
	s, err := Summarize([]float64{64, 1, 32, 2, 16, 4, 8}, 0)
	if err != nil {
		t.Fatal(err)
	}
	want := &Summary{
		N: 7, Mean: 127.0 / 7, SD: math.Sqrt(variance([]float64{1, 2, 4, 8, 16, 32, 64})), Min: 1, Max: 64,
		Median: &Quantile{P: 0.5, Value: 8, Low: 1, High: 64, Confidence: 126.0 / 128},
		Warnings: []Warning{
			{"few-samples", Note, 36, "p90 needs at least 36 samples, there are 7"},
			{"few-samples", Note, 72, "p95 needs at least 72 samples, there are 7"},
			{"few-samples", Note, 368, "p99 needs at least 368 samples, there are 7"},
		},
	}
	if d := cmp.Diff(want, s, near); d != "" {
		t.Error(d)
	}
	many := make([]float64, 368)
	for i := range many {
		many[i] = 1 + float64(i%7)/1000
	}
	many[100] = 5
	if s, err = Summarize(many, 0); err != nil {
		t.Fatal(err)
	}
	if s.P99 == nil || s.P99.High != 5 || s.Outliers != 1 || s.Max != 5 || len(s.Warnings) != 0 || len(s.EarlyStopping) != 2 {
		t.Errorf("got %+v, want a p99 that reaches the one outlier, and no p99 bound below 662 samples", s)
	}
	for _, bad := range [][]float64{nil, {1, math.NaN()}, {-1}, {math.Inf(1)}} {
		if s, err := Summarize(bad, 0); err == nil {
			t.Errorf("%v: got %+v, want an error", bad, s)
		}
	}
}

func TestQuantileSorted(t *testing.T) {
	x := []float64{1, 2, 4, 8, 16, 32, 64}
	for p, want := range map[float64]float64{0.5: 8, 0.9: 44.8, 0.95: 54.4, 0.25: 3, 0: 1, 1: 64} {
		if got := quantileSorted(x, p); !cmp.Equal(got, want, near) {
			t.Errorf("p %v: got %v, want %v", p, got, want)
		}
	}
}

func TestMedianSelects(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for n := 1; n < 200; n++ {
		x := make([]float64, n)
		for i := range x {
			x[i] = float64(rng.IntN(20))
		}
		sorted := slices.Sorted(slices.Values(x))
		if got, want := Median(x), (sorted[(n-1)/2]+sorted[n/2])/2; got != want {
			t.Fatalf("n %d: got %v, want %v", n, got, want)
		}
	}
}

func TestBootstrapAgainstSciPy(t *testing.T) {
	d := []float64{10.1, 9.8, 10.4, 10.0, 12.9, 9.9, 10.2, 10.3, 10.6, 9.7, 10.05, 11.2}
	for _, tt := range []struct {
		name       string
		statistic  func([]float64) float64
		percentile bool
		low, high  float64
	}{
		{"mean, BCa", mean, false, 10.104166666666664, 11.208333333333334},
		{"mean, percentile", mean, true, 10.041666666666666, 10.966666666666667},
		{"median, BCa", medianInPlace, false, 9.95, 10.5},
		{"median, percentile", medianInPlace, true, 9.95, 10.5},
	} {
		got, err := Bootstrap(d, tt.statistic, BootstrapOptions{Seed: 3, Resamples: 20000, Percentile: tt.percentile})
		if err != nil {
			t.Fatal(err)
		}
		// Monte Carlo error of the endpoints.
		if math.Abs(got.Low-tt.low) > 0.03 || math.Abs(got.High-tt.high) > 0.03 {
			t.Errorf("%s: got [%.4f, %.4f], want [%.4f, %.4f]", tt.name, got.Low, got.High, tt.low, tt.high)
		}
	}
	same, err := Bootstrap([]float64{2, 2, 2}, mean, BootstrapOptions{})
	if err != nil || same.Low != 2 || same.High != 2 {
		t.Errorf("constant samples: got %+v, %v, want [2, 2]", same, err)
	}
}

func TestMannKendall(t *testing.T) {
	x := []float64{5, 3, 8, 8, 2, 9, 11, 4, 12, 12, 13, 7}
	got := MannKendall(x)
	// S and its variance by the definition, p by stats.norm.sf (SciPy).
	want := Trend{S: 30, Tau: 30.0 / 66, Z: 1.9980211729596202, P: 0.045714364714747324}
	if d := cmp.Diff(want, got, near); d != "" {
		t.Error(d)
	}
	falling := []float64{9, 8, 7, 6, 5}
	if got := MannKendall(falling); got.Tau != -1 {
		t.Errorf("falling: got %+v", got)
	}
	// Offsets between series are no trend.
	if got := MannKendall([]float64{1, 2, 1, 2}, []float64{10, 9, 10, 9}, []float64{20, 20, 20}); got.S != 0 || got.P != 1 {
		t.Errorf("three level series: got %+v, want no trend", got)
	}
	if got := MannKendall(); got.P != 1 {
		t.Errorf("no series: got %+v", got)
	}
}

func TestTwoMeans(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	var normal, mixed []float64
	for i := range 3000 {
		z := 1 + 0.02*rng.NormFloat64()
		normal = append(normal, z)
		if i%3 == 0 {
			z *= 1.2
		}
		mixed = append(mixed, z)
	}
	one := TwoMeans(normal)
	if math.Abs(one.Explained-2/math.Pi) > 0.03 || one.Bimodal() {
		t.Errorf("normal: got %+v, want 2/π explained", one)
	}
	two := TwoMeans(mixed)
	if !two.Bimodal() || math.Abs(two.Ratio-1.2) > 0.01 || math.Abs(two.SlowShare-1.0/3) > 0.01 {
		t.Errorf("mixture: got %+v, want ratio 1.2 and a third slow", two)
	}
	if got := TwoMeans([]float64{3, 3, 3, 3, 3}); got.Bimodal() {
		t.Errorf("constant: got %+v", got)
	}
}

func TestNoise(t *testing.T) {
	var drifting, calm []Block
	for i := range 60 {
		drifting = append(drifting, Block{Process: i / 10, Baseline: 1 + 0.05*float64(i), Candidate: 1})
		calm = append(calm, Block{Process: i / 10, Baseline: 1 + 0.001*float64(i*7919%13), Candidate: 1})
	}
	codes := func(n Noise) (c []string) {
		for _, w := range n.Warnings {
			c = append(c, w.Code+" "+w.Severity.String())
		}
		return c
	}
	n := NoiseOf(drifting, []Warmup{{Steady: false}})
	if d := cmp.Diff([]string{"autocorrelation note", "trend warn", "drift severe", "noisy warn", "warm-up warn"}, codes(n)); d != "" {
		t.Error(d)
	}
	if worst, any := Worst(n.Warnings); worst != Severe || !any {
		t.Errorf("worst: got %v, %v", worst, any)
	}
	if n := NoiseOf(calm, nil); len(n.Warnings) != 0 {
		t.Errorf("calm machine: got %v", codes(n))
	}
	if n := NoiseOf(nil, nil); n.N != 0 || len(n.Warnings) != 0 {
		t.Errorf("nothing measured: got %+v", n)
	}
}

func TestCounters(t *testing.T) {
	f := func(v float64) *float64 { return &v }
	k := func(v int64) *int64 { return &v }
	if w := (Counters{}).Warnings(); len(w) != 0 {
		t.Errorf("unknown counters: got %v, want no warning", w)
	}
	c := Counters{
		Wall: 10, CPUs: 2, StealSeconds: f(1), ThrottledPeriods: k(60), Periods: k(100), CPUPressure: f(0.05),
		InvoluntarySwitch: k(5000), OtherLoad: f(1.5), GPUThrottle: []string{"thermal"},
	}
	got := map[string]Severity{}
	for _, w := range c.Warnings() {
		got[w.Code] = w.Severity
	}
	want := map[string]Severity{"steal": Warn, "throttled": Severe, "preempted": Warn, "other-load": Warn, "gpu-throttle": Warn}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestSteady(t *testing.T) {
	falling := make([]float64, 15)
	for i := range falling {
		falling[i] = 2 - 0.05*float64(i)
	}
	flat := append(slices.Clone(falling), slices.Repeat([]float64{1}, 15)...)
	flat[20] = 9 // one spike does not move a window's median
	for _, tt := range []struct {
		name   string
		series []float64
		want   bool
	}{{"short", flat[16:], false}, {"falling", falling, false}, {"flat", flat, true}, {"empty", nil, false}} {
		if got := (Steadiness{}).Steady(tt.series); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestCompareClosedForm(t *testing.T) {
	// Process medians of log-ratio: 0.02, 0.04, 0.06: mean 0.04, sd 0.02, t(2) = 4.302652729749462.
	var blocks []Block
	for p, r := range []float64{0.02, 0.04, 0.06} {
		for i := range 4 {
			first := Arm(i % 2)
			blocks = append(blocks, Block{Process: p, First: first, Baseline: 2, Candidate: 2 * math.Exp(r)})
		}
	}
	d, err := Compare(blocks, CompareOptions{})
	if err != nil {
		t.Fatal(err)
	}
	half := 4.302652729749462 * 0.02 / math.Sqrt(3)
	want := Interval{Low: math.Exp(0.04 - half), High: math.Exp(0.04 + half), Confidence: 0.95, Method: MethodProcessT}
	if diff := cmp.Diff(want, d.Interval, near); diff != "" {
		t.Error(diff)
	}
	if !cmp.Equal(d.Ratio, math.Exp(0.04), near) || !cmp.Equal(d.BetweenSD, 0.02, near) || d.WithinSD != 0 || d.OrderEffect != 0 {
		t.Errorf("got %+v", d)
	}
	if d.Claim != Undecided || d.Cluster.Method != "" || d.Pairs != 12 {
		t.Errorf("got %+v, want an undecided comparison of 12 pairs", d)
	}
	again, err := Compare(blocks, CompareOptions{})
	if err != nil || cmp.Diff(d, again) != "" {
		t.Errorf("the same blocks and seed gave another result: %v", err)
	}
}

func TestCompareOneProcess(t *testing.T) {
	var blocks []Block
	for i := range 40 {
		blocks = append(blocks, Block{First: Arm(i % 2), Baseline: 1, Candidate: 1.05 + 0.001*float64(i%5) + 0.06*float64(1-i%2)})
	}
	d, err := Compare(blocks, CompareOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if d.Interval.Method != MethodBCa || d.Claim != Slower {
		t.Errorf("got %+v, want a claim by the block bootstrap", d)
	}
	// The candidate runs 6 % slower when second, so the second place costs about half of that in the log-ratio of each order.
	if math.Abs(d.OrderEffect-0.028) > 0.003 {
		t.Errorf("order effect: got %v, want 0.028", d.OrderEffect)
	}
	if worst, _ := Worst(d.Warnings); worst != Severe {
		t.Errorf("warnings: got %v, want a severe one", d.Warnings)
	}
}

func TestCompareRefuses(t *testing.T) {
	ok := Block{Baseline: 1, Candidate: 1}
	for name, blocks := range map[string][]Block{
		"one pair": {ok},
		"zero":     {ok, {Baseline: 0, Candidate: 1}},
		"nan":      {ok, {Baseline: 1, Candidate: math.NaN()}},
		"inf":      {ok, {Baseline: 1, Candidate: math.Inf(1)}},
	} {
		if d, err := Compare(blocks, CompareOptions{}); err == nil {
			t.Errorf("%s: got %+v, want an error", name, d)
		}
	}
}

func TestClaim(t *testing.T) {
	for _, tt := range []struct {
		ratio, low, high float64
		want             Claim
	}{
		{1.05, 1.02, 1.08, Slower},
		{0.9, 0.88, 0.92, Faster},
		{1.005, 1.001, 1.009, Same},
		{1.009, 1.001, 1.017, Undecided}, // significant, but negligible
		{1.03, 0.98, 1.08, Undecided},
	} {
		if got := claim(tt.ratio, Interval{Low: tt.low, High: tt.high}, 0.01); got != tt.want {
			t.Errorf("%v [%v, %v]: got %v, want %v", tt.ratio, tt.low, tt.high, got, tt.want)
		}
	}
}

func TestPlan(t *testing.T) {
	for _, tt := range []struct {
		name      string
		o         PlanOptions
		base      float64 // seconds per run
		between   float64
		reason    StopReason
		processes [2]int // least and most
		inner     int
	}{
		{"quiet", PlanOptions{}, 0.010, 0, StopPrecise, [2]int{6, 7}, 1},
		{"small model", PlanOptions{}, 0.0001, 0, StopPrecise, [2]int{6, 7}, 64},
		{"varying", PlanOptions{}, 0.010, 0.05, StopProcesses, [2]int{20, 20}, 1},
		{"short budget", PlanOptions{Budget: 5 * time.Second}, 0.010, 0.05, StopBudget, [2]int{6, 9}, 1},
		{"slow model", PlanOptions{Budget: 10 * time.Second}, 3, 0.01, StopBudget, [2]int{3, 3}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(7, tt.between, 0)
			m.base = tt.base
			p := m.measure(t, tt.o)
			blocks := p.Blocks()
			n := blocks[len(blocks)-1].Process + 1
			if p.Reason() != tt.reason || n < tt.processes[0] || n > tt.processes[1] || p.Progress() != 1 {
				t.Errorf("got %v after %d processes and %v, want %v after %v", p.Reason(), n, p.Used(), tt.reason, tt.processes)
			}
			var firsts [2]int
			for _, b := range blocks {
				firsts[b.First]++
				if b.Runs < tt.inner || b.Runs > 2*tt.inner {
					t.Fatalf("block of %d runs, want about %d", b.Runs, tt.inner)
				}
			}
			if d := firsts[0] - firsts[1]; max(d, -d) > n {
				t.Errorf("baseline first in %d pairs, candidate in %d", firsts[0], firsts[1])
			}
			if len(p.Warmups()) != 2*n {
				t.Errorf("got %d warm-up records for %d processes", len(p.Warmups()), n)
			}
			kept, total := p.Samples(Candidate)
			if len(kept) != total || total == 0 {
				t.Errorf("kept %d of %d samples", len(kept), total)
			}
		})
	}
}

// Noise within a process is met by more pairs, a single slow run within a block by the block's median.
func TestPlanAdaptsPairs(t *testing.T) {
	pairs := func(white float64) float64 {
		m := newMachine(7, 0, 0)
		m.white = white
		b := m.measure(t, PlanOptions{}).Blocks()
		return float64(len(b)) / float64(b[len(b)-1].Process+1)
	}
	if quiet, busy := pairs(0.001), pairs(0.1); quiet != 10 || busy < 100 {
		t.Errorf("got %v pairs per process when quiet and %v when busy, want 10 and at least 100", quiet, busy)
	}
	if got := medianSeconds([]time.Duration{time.Second, time.Minute, time.Second}); got != 1 {
		t.Errorf("block with one interrupted run: got %v s, want 1", got)
	}
}

func TestPlanIsSeeded(t *testing.T) {
	run := func(seed uint64) []Block {
		return newMachine(7, 0.01, 0).measure(t, PlanOptions{Seed: seed, Order: Coin}).Blocks()
	}
	if d := cmp.Diff(run(4), run(4)); d != "" {
		t.Error(d)
	}
	if cmp.Equal(run(4), run(5)) {
		t.Error("another seed gave the same order")
	}
}

func TestPlanRefusesRecords(t *testing.T) {
	p, err := NewPlan(PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Record(time.Second, []time.Duration{1}); err == nil {
		t.Error("timings for a start were accepted")
	}
	if err := p.Record(time.Second, nil); err != nil {
		t.Fatal(err)
	}
	before := p.Next()
	for name, runs := range map[string][]time.Duration{"none": nil, "negative": {-1}, "zero": {0}, "two": {1, 1}} {
		if err := p.Record(time.Second, runs); err == nil || p.Next() != before {
			t.Errorf("%s: got %v and step %+v, want an error and no progress", name, err, p.Next())
		}
	}
	for _, bad := range []PlanOptions{{Processes: 1}, {Pairs: 1}, {Budget: -1}, {Precision: -1}, {Confidence: 2}, {MaxSamples: -1}, {Order: 9}, {Processes: 4, MaxProcesses: 3}} {
		if _, err := NewPlan(bad); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}

func TestReservoir(t *testing.T) {
	r := reservoir{rng: rand.New(rand.NewPCG(1, 1)), limit: 1000}
	for i := range 100_000 {
		r.add(float64(i), i/1000)
	}
	if len(r.kept.Seconds) != 1000 || len(r.kept.Process) != 1000 || r.seen != 100_000 {
		t.Fatalf("kept %d of %d", len(r.kept.Seconds), r.seen)
	}
	for i, s := range r.kept.Seconds {
		if r.kept.Process[i] != int(s)/1000 {
			t.Fatalf("run %v is kept as of process %d", s, r.kept.Process[i])
		}
	}
	if m := mean(r.kept.Seconds); math.Abs(m-50_000) > 4*28_868/math.Sqrt(1000) {
		t.Errorf("mean of the subset is %v, want about 50000", m)
	}
}

func BenchmarkCompare60Pairs(b *testing.B) {
	m := newMachine(1, 0.01, 0)
	p := m.measure(b, PlanOptions{})
	for b.Loop() {
		if _, err := Compare(p.Blocks(), CompareOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

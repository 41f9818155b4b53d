package gate

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lapidary-ml/lapidary/internal/attest"
	"github.com/lapidary-ml/lapidary/internal/report"
)

const candidateDigest = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

// measured returns a report with every metric that gates know.
func measured() *report.Report {
	q := &report.Quantile{BaselineMS: 4, CandidateMS: 3, CandidateCI95: report.CI(2.9, 3.1), DeltaMS: report.Num(-1), DeltaCI95: report.CI(-1.2, -0.8)}
	return &report.Report{
		Schema: report.SchemaURI, SchemaVersion: report.SchemaVersion,
		Baseline:  report.Model{Bytes: 900, Parameters: 200, External: []report.File{{Bytes: 100}}},
		Candidate: report.Model{SHA256: candidateDigest, Bytes: 250, Parameters: 100},
		Data:      &report.Data{Origin: report.OriginFiles, Samples: 1000, Labelled: true, CalibrationOverlap: report.Count(0)},
		Accuracy: &report.Accuracy{
			Task: report.TaskClassification, Better: report.BetterHigher, N: 1000, NRequired: report.Count(4000),
			Delta: report.Num(-0.004), CI95: report.CI(-0.009, 0.001),
			Agreement: report.Num(0.995), AgreementCI95: report.CI(0.99, 0.998),
			KL: report.Num(0.01), SQNR: report.Num(31),
			ECE:   &report.ECE{Delta: report.Num(0.001), CI95: report.CI(-0.002, 0.004)},
			Flips: &report.Flips{RightToWrong: report.Count(5)},
			Slices: []report.Slice{
				{Name: "class=1", Delta: report.Num(-0.01), CI95: report.CI(-0.03, 0.01)},
				{Name: "class=2", Delta: report.Num(0.01), CI95: report.CI(0, 0.02)},
			},
			Ratio: report.Num(0.995), RatioCI95: report.CI(0.991, 1.001), TopKOverlap: report.Num(0.9),
			Cosine: &report.Similarity{Mean: report.Num(0.99), CI95: report.CI(0.98, 0.995)},
			TopK:   []report.Measure{further("top5", report.BetterHigher)},
			NLL:    pointer(further("nll", report.BetterLower)), Brier: pointer(further("brier", report.BetterLower)),
			Perplexity: pointer(further("perplexity", report.BetterLower)),
			Metrics: []report.Measure{
				further("map50", report.BetterHigher), further("map75", report.BetterHigher), further("recall100", report.BetterHigher),
				further("pixel-accuracy", report.BetterHigher), further("micro-f1", report.BetterHigher), further("recall@5", report.BetterHigher),
				further("rmse", report.BetterLower),
			},
		},
		Latency: &report.Latency{
			Ratio: report.Num(0.8), CI95: report.CI(0.78, 0.82), P50: q, P90: q, P95: q, P99: q,
			Memory:    &report.Memory{BaselinePeakBytes: 100, CandidatePeakBytes: 50, DeltaBytes: report.Num(-50), DeltaCI95: report.CI(-52, -48)},
			ColdStart: &report.ColdStart{Ratio: report.Num(1.2), CI95: report.CI(1.1, 1.3)},
			Energy:    &report.Energy{Ratio: report.Num(0.7), CI95: report.CI(0.6, 0.8)},
			Throughput: []report.Throughput{
				{Batch: 8, Instances: 1, Ratio: report.Num(1.5), CI95: report.CI(1.4, 1.6)},
				{Batch: 1, Instances: 2, Ratio: report.Num(1.1), CI95: report.CI(1.05, 1.15)},
			},
		},
		Explanation: &report.Explanation{
			Spearman: report.Num(0.95), CI95: report.CI(0.93, 0.96), TopKJaccard: report.Num(0.7), TopKCI95: report.CI(0.6, 0.8),
			Cosine: report.Num(0.9), CosineCI95: report.CI(0.88, 0.92), SSIM: report.Num(0.8), SSIMCI95: report.CI(0.75, 0.85),
			Sign: report.Num(1), SignCI95: report.CI(0.9, 1), ArgmaxDistance: report.Num(0.5), ArgmaxDistanceCI95: report.CI(0.25, 0.75),
			MassDisplacement: report.Num(0.1), MassDisplacementCI95: report.CI(0.08, 0.12), CrossFaithfulness: report.Num(0.98), CrossCI95: report.CI(0.96, 1),
			Deletion:          &report.Faithfulness{Delta: report.Num(-0.01), DeltaCI95: report.CI(-0.02, 0.01)},
			Insertion:         &report.Faithfulness{Delta: report.Num(0.01), DeltaCI95: report.CI(-0.01, 0.02)},
			DeadPerturbations: report.Num(0.02), Calibrated: &report.Calibrated{Spearman: report.Num(0.9), Samples: 8, How: "jitter"},
		},
	}
}

// further is a measure that is a little worse in the candidate.
func further(name, better string) report.Measure {
	d := 0.01
	if better == report.BetterHigher {
		d = -d
	}
	return report.Measure{
		Name: name, Better: better, Delta: &d, CI95: report.CI(d-0.005, d+0.005), Ratio: report.Num(1.02), RatioCI95: report.CI(1.01, 1.03),
	}
}

func pointer[T any](v T) *T { return &v }

func TestEvaluateByInterval(t *testing.T) {
	const (
		pass         = report.Pass
		fail         = report.Fail
		inconclusive = report.Inconclusive
	)
	tests := []struct {
		gate, value string
		want        report.Verdict
		observed    float64
	}{
		{"max-drop", "1pt", pass, 0.004},
		{"max-drop", "0.9pt", pass, 0.004}, // the upper end lies on the limit
		{"max-drop", "0.5pt", inconclusive, 0.004},
		{"max-drop", "-0.1pt", inconclusive, 0.004}, // the lower end lies on the limit
		{"max-drop", "-0.2pt", fail, 0.004},
		{"max-slice-drop", "3pt", pass, 0.01},
		{"max-slice-drop", "2.9pt", inconclusive, 0.01},
		{"max-slice-drop", "-1.1pt", fail, 0.01},
		{"min-agreement", "0.99", pass, 0.995},
		{"min-agreement", "99.5%", inconclusive, 0.995},
		{"min-agreement", "0.999", fail, 0.995},
		{"max-kl", "0.01nats", pass, 0.01},
		{"max-kl", "0.005", fail, 0.01},
		{"min-sqnr", "30dB", pass, 31},
		{"min-sqnr", "31", pass, 31},
		{"min-sqnr", "40", fail, 31},
		{"min-gain", "-1pt", pass, -0.004}, // the whole interval of a gain of -0.4 pt
		{"min-gain", "0.2pt", fail, -0.004},
		{"min-gain", "0", inconclusive, -0.004},
		{"min-accuracy-ratio", "99%", pass, 0.995},
		{"min-accuracy-ratio", "0.999", inconclusive, 0.995},
		{"max-latency-ratio", "1.0", pass, 0.8},
		{"max-latency-ratio", "80%", inconclusive, 0.8},
		{"max-latency-ratio", "0.5x", fail, 0.8},
		{"max-cold-start-ratio", "1.3", pass, 1.2},
		{"max-cold-start-ratio", "1.2", inconclusive, 1.2},
		{"max-cold-start-ratio", "1.0", fail, 1.2},
		{"min-throughput-ratio", "1.05", pass, 1.1}, // the load that does worst decides
		{"min-throughput-ratio", "1.1", inconclusive, 1.1},
		{"min-throughput-ratio", "1.2", fail, 1.1},
		{"max-energy-ratio", "0.8", pass, 0.7},
		{"max-energy-ratio", "0.5", fail, 0.7},
		{"max-memory-ratio", "0.5", pass, 0.5},
		{"max-memory-ratio", "0.49", fail, 0.5},
		{"max-latency-delta", "2ms", pass, -1},
		{"max-latency-delta", "-700us", pass, -1},
		{"max-latency-delta", "-1ms", inconclusive, -1},
		{"max-latency-delta", "-1.5", fail, -1},
		{"max-memory-delta", "1MiB", pass, -50},
		{"max-memory-delta", "-50B", inconclusive, -50},
		{"max-memory-delta", "-1kB", fail, -50},
		{"max-bytes-ratio", "0.25", pass, 0.25},
		{"max-bytes-ratio", "0.2499", fail, 0.25},
		{"min-explanation-rho", "0.9", pass, 0.95},
		{"min-explanation-rho", "0.95", inconclusive, 0.95},
		{"min-explanation-rho", "0.97", fail, 0.95},
		{"min-explanation-topk", "61%", inconclusive, 0.7},
		{"min-explanation-topk", "0.5", pass, 0.7},
		{"min-explanation-ssim", "0.9", fail, 0.8},
		{"min-explanation-margin", "0.02", pass, 0.05},
		{"min-explanation-margin", "0.05", inconclusive, 0.05},
		{"min-explanation-margin", "0.07", fail, 0.05},
		{"min-cross-faithfulness", "0.95", pass, 0.98},
		{"min-cross-faithfulness", "97%", inconclusive, 0.98},
	}
	for _, tt := range tests {
		g, err := Parse(tt.gate, tt.value)
		if err != nil {
			t.Fatal(err)
		}
		got := Evaluate(measured(), Policy{Gates: []Gate{g}})[0]
		if got.Verdict != tt.want || got.Observed == nil || math.Abs(*got.Observed-tt.observed) > 1e-12 || got.Reason == "" {
			t.Errorf("%s %s: %+v, want %s of %v", tt.gate, tt.value, got, tt.want, tt.observed)
		}
	}
}

// TestNoiseReachesTheGate: what a severe detector says is the reason of every gate on times, which is inconclusive.
func TestNoiseReachesTheGate(t *testing.T) {
	const why = "the hypervisor took 50.0 % of the processor time"
	r := measured()
	l := r.Latency
	l.Noise = &report.Noise{Severe: why}
	l.CI95, l.ColdStart.CI95, l.Energy.CI95 = nil, nil, nil
	l.P99 = &report.Quantile{BaselineMS: 4, CandidateMS: 3, DeltaMS: report.Num(-1)}
	l.Throughput[1].CI95, l.Throughput[1].Severe = nil, why
	for _, tt := range []struct{ metric, operator string }{
		{"latency.ratio", "<="}, {"latency.cold_start_ratio", "<="}, {"latency.energy_ratio", "<="}, {"latency.p99.candidate_ms", "<="}, {"latency.p99.delta_ms", "<="},
		{"latency.throughput_ratio", ">="},
	} {
		got := evaluate(r, Gate{"g", tt.metric, tt.operator, 1})
		if got.Verdict != report.Inconclusive || !strings.Contains(got.Reason, why) {
			t.Errorf("%s: %s, %q; want inconclusive because %s", tt.metric, got.Verdict, got.Reason, why)
		}
	}
	for _, metric := range []string{"latency.memory_ratio", "latency.memory_difference"} {
		if got := evaluate(r, Gate{"g", metric, "<=", 1}); got.Verdict != report.Pass {
			t.Errorf("memory, which noise does not touch: %+v", got)
		}
	}
}

// TestDifferences: a gate on a difference says what is missing, and shows its value, interval and limit in the units of a reader.
func TestDifferences(t *testing.T) {
	r := measured()
	r.Latency.P99.DeltaMS, r.Latency.P99.DeltaCI95 = nil, nil // all of them are one
	if got := evaluate(r, Gate{"g", "latency.p90.delta_ms", "<=", 1}); got.Verdict != report.Fail || got.Reason != "too few runs were measured to state latency.p90.delta_ms" {
		t.Errorf("%s: %s; want a failure for too few runs", got.Verdict, got.Reason)
	}
	r = measured()
	r.Latency.Memory.DeltaBytes, r.Latency.Memory.DeltaCI95 = report.Num(3<<20), report.CI(2.5*(1<<20), 3.5*(1<<20))
	p, err := FromConfig("f", map[string]any{"max-memory-delta": "2MiB", "tail": map[string]any{"metric": "latency.p99.delta_ms", "operator": "<", "threshold": "-0.5ms"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := Apply(r, p); err != nil {
		t.Fatal(err)
	}
	page := string(r.Markdown())
	for _, want := range []string{
		"latency.memory\\_difference ≤ 2 MiB | 3 MiB [2.5 MiB, 3.5 MiB] | ❌ **fail**",
		"latency.p99.delta\\_ms &lt; -0.5 ms | -1.000 ms [-1.200, -0.8000] | ✅ **pass**",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q:\n%s", want, page[:min(len(page), 1500)])
		}
	}
}

// TestEveryMetric reads every metric from a full report, and holds that each is missing, and so fails, in an empty one.
func TestEveryMetric(t *testing.T) {
	for _, m := range Metrics() {
		g := Gate{"g", m.Name, "<=", 0.9999e9}
		if m.Higher {
			g.Operator, g.Threshold = ">=", -1e9
		}
		if m.Unit == report.UnitDifference {
			g.Threshold = 0.99
			if m.Higher {
				g.Threshold = -0.99
			}
		}
		if got := evaluate(measured(), g); got.Verdict != report.Pass {
			t.Errorf("%s: %+v, want pass", m.Name, got)
		}
		if got := evaluate(&report.Report{}, g); got.Verdict != report.Fail || got.Observed != nil {
			t.Errorf("%s of an empty report: %+v, want fail", m.Name, got)
		}
		synthetic := measured()
		synthetic.Data.Origin = report.OriginSynthetic
		want := report.Pass
		if m.Real {
			want = report.Fail
		}
		if got := evaluate(synthetic, g); got.Verdict != want || m.Real && !strings.Contains(got.Reason, "generated inputs") {
			t.Errorf("%s on generated inputs: %+v, want %s", m.Name, got, want)
		}
	}
}

func TestEvaluateRefuses(t *testing.T) {
	drop := Gate{"max-drop", "accuracy.drop", "<=", 0.01}
	tests := []struct {
		name   string
		gate   Gate
		edit   func(*report.Report)
		want   report.Verdict
		reason string
	}{
		{"no labels", drop, func(r *report.Report) { r.Data.Labelled = false; r.Accuracy.Delta = nil }, report.Fail, "no labels"},
		{"skipped", drop, func(r *report.Report) {
			r.Accuracy = nil
			r.Skipped = []report.Skip{{Section: "accuracy", Reason: "no data was given"}}
		}, report.Fail, "no data was given"},
		{"origin left out", drop, func(r *report.Report) { r.Data.Origin = "" }, report.Fail, "origin"},
		{"direction left out", drop, func(r *report.Report) { r.Accuracy.Better = "" }, report.Fail, "does not contain"},
		{"no interval", drop, func(r *report.Report) { r.Accuracy.CI95 = nil }, report.Inconclusive, "no interval"},
		{"NaN", drop, func(r *report.Report) { *r.Accuracy.Delta = math.NaN() }, report.Fail, "does not contain"},
		{"interval backwards", drop, func(r *report.Report) { r.Accuracy.CI95 = report.CI(1, -1) }, report.Fail, "does not contain"},
		{"vacuous", Gate{"g", "accuracy.drop", "<=", 1}, nil, report.Fail, "write 1pt"},
		{"lower is better", drop, func(r *report.Report) {
			r.Accuracy.Task, r.Accuracy.Better, r.Accuracy.Delta, r.Accuracy.CI95 = report.TaskRegression, report.BetterLower, report.Num(3), report.CI(2, 4)
		}, report.Fail, "[2.00, 4.00] is above"},
		{"sample size", drop, func(r *report.Report) { r.Accuracy.CI95 = report.CI(-0.02, 0.01) }, report.Inconclusive, "4,000 samples"},
		{"worst slice", Gate{"g", "accuracy.worst_slice_drop", "<=", 0.02}, nil, report.Inconclusive, "class=1"},
		{"too few runs", Gate{"g", "latency.p99.candidate_ms", "<=", 9}, func(r *report.Report) { r.Latency.P99 = nil }, report.Fail, "too few runs"},
		{"identical", Gate{"g", "accuracy.sqnr_db", ">=", 99}, func(r *report.Report) { r.Accuracy.SQNR, r.Accuracy.Identical = nil, true }, report.Pass, "bitwise"},
		{"unknown metric", Gate{"g", "accuracy.luck", "<=", 1}, nil, report.Fail, "no metric"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := measured()
			if tt.edit != nil {
				tt.edit(r)
			}
			got := evaluate(r, tt.gate)
			if got.Verdict != tt.want || !strings.Contains(got.Reason, tt.reason) {
				t.Errorf("%s: %q, want %s: %q", got.Verdict, got.Reason, tt.want, tt.reason)
			}
		})
	}
}

func TestVerdict(t *testing.T) {
	p, f, i := report.Gate{Verdict: report.Pass}, report.Gate{Verdict: report.Fail}, report.Gate{Verdict: report.Inconclusive}
	tests := []struct {
		gates []report.Gate
		want  report.Verdict
	}{
		{nil, report.Inconclusive},
		{[]report.Gate{p, p}, report.Pass},
		{[]report.Gate{p, i}, report.Inconclusive},
		{[]report.Gate{i, p, f}, report.Fail},
		{[]report.Gate{p, {}}, report.Fail}, // an unknown verdict is no pass
	}
	for _, tt := range tests {
		if got := Verdict(tt.gates); got != tt.want {
			t.Errorf("Verdict(%v) = %s, want %s", tt.gates, got, tt.want)
		}
	}
}

func TestDefault(t *testing.T) {
	tests := []struct {
		name string
		r    *report.Report
		want []string
	}{
		{"nothing measured", &report.Report{}, []string{"max-drop", "max-latency-ratio"}},
		{"labelled", measured(), []string{"max-drop", "max-latency-ratio"}},
		{"not labelled", &report.Report{Data: &report.Data{}, Accuracy: &report.Accuracy{Task: report.TaskClassification}}, []string{"min-agreement", "max-latency-ratio"}},
		{"tensor", &report.Report{Accuracy: &report.Accuracy{Task: report.TaskTensor}}, []string{"min-sqnr", "max-latency-ratio"}},
	}
	for _, tt := range tests {
		p := Default(tt.r)
		var got []string
		for _, g := range p.Gates {
			got = append(got, g.Name)
		}
		if d := cmp.Diff(tt.want, got); d != "" || p.Check() != nil {
			t.Errorf("%s: %s, %v", tt.name, d, p.Check())
		}
	}
}

func TestParseThreshold(t *testing.T) {
	tests := []struct {
		metric, in string
		want       float64
		err        string
	}{
		{"accuracy.drop", "0.5pt", 0.005, ""},
		{"accuracy.drop", " 0.5 % ", 0.005, ""},
		{"accuracy.drop", "0.005", 0.005, ""},
		{"accuracy.drop", "0.7pt", 0.007, ""},
		{"accuracy.drop", "5e-3", 0.005, ""},
		{"accuracy.drop", "0.5dB", 0, `unit "dB"`},
		{"accuracy.drop", "pt", 0, "not a number"},
		{"accuracy.drop", "", 0, "not a number"},
		{"accuracy.drop", "0x1p-3", 0, "not a number"},
		{"accuracy.drop", "1_000", 0, "not a number"},
		{"accuracy.drop", "nan", 0, "want a number"},
		{"accuracy.drop", "inf", 0, "want a number"},
		{"accuracy.drop", "1e999", 0, "not a number"},
		{"latency.ratio", "-1", 0, "at least 0"},
		{"accuracy.agreement", "99", 0, "0 to 1"},
		{"accuracy.agreement", "99%", 0.99, ""},
		{"explanation.spearman", "90", 0, "-1 to 1"},
		{"latency.p99.candidate_ms", "1.5s", 1500, ""},
		{"candidate.bytes", "4MiB", 4 << 20, ""},
		{"no.such", "1", 0, "no metric"},
	}
	for _, tt := range tests {
		got, err := ParseThreshold(tt.metric, tt.in)
		switch {
		case tt.err == "" && (err != nil || got != tt.want):
			t.Errorf("%s %q = %v, %v, want %v", tt.metric, tt.in, got, err, tt.want)
		case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
			t.Errorf("%s %q: error %v, want %q", tt.metric, tt.in, err, tt.err)
		}
	}
}

func TestFromConfig(t *testing.T) {
	got, err := FromConfig("lapidary.yaml", map[string]any{
		"tail":              map[string]any{"metric": "latency.p99.candidate_ms", "operator": "<", "threshold": "20ms"},
		"max-latency-ratio": 1, "max-drop": "0.5pt", "min-sqnr": 30.5,
	})
	want := Policy{Source: "lapidary.yaml", Gates: []Gate{
		{"max-drop", "accuracy.drop", "<=", 0.005}, {"min-sqnr", "accuracy.sqnr_db", ">=", 30.5}, {"max-latency-ratio", "latency.ratio", "<=", 1},
		{"tail", "latency.p99.candidate_ms", "<", 20},
	}}
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("%v\n%s", err, d)
	}
	long := func(m map[string]any) map[string]any { return map[string]any{"g": m} }
	bad := []struct {
		in   map[string]any
		want string
	}{
		{map[string]any{"max-dorp": "1pt"}, "no such gate"},
		{map[string]any{"max-drop": true}, "number or a text"},
		{map[string]any{"max-drop": "x"}, "gates.max-drop"},
		{long(map[string]any{"metric": "latency.ratio", "operator": "<="}), "threshold is missing"},
		{long(map[string]any{"metric": "latency.ratio", "operator": "<=", "threshold": 1, "treshold": 1}), `unknown key "treshold"`},
		{long(map[string]any{"metric": "latency.ratio", "operator": ">=", "threshold": 1}), "turn it around"},
		{long(map[string]any{"metric": "latency.ratio", "operator": "=", "threshold": 1}), "operator is"},
		{long(map[string]any{"metric": "luck", "operator": "<=", "threshold": 1}), "no metric"},
	}
	for _, tt := range bad {
		if _, err := FromConfig("f", tt.in); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: error %v, want %q", tt.in, err, tt.want)
		}
	}
}

func TestFromFlagsAndMerge(t *testing.T) {
	flags, err := FromFlags(map[string]string{"max-drop": "2pt", "min-sqnr": ""})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := FromFlags(map[string]string{"min-luck": ""}); err == nil {
		t.Error("an unknown flag was accepted")
	}
	file := Policy{Source: "f.yaml", Gates: []Gate{{"max-drop", "accuracy.drop", "<=", 0.01}, {"max-kl", "accuracy.kl", "<=", 1}}}
	want := Policy{Source: "f.yaml and flags", Gates: []Gate{{"max-drop", "accuracy.drop", "<=", 0.02}, {"max-kl", "accuracy.kl", "<=", 1}}}
	if d := cmp.Diff(want, file.Merge(flags)); d != "" {
		t.Error(d)
	}
	if file.Gates[0].Threshold != 0.01 {
		t.Error("Merge changed its receiver")
	}
	a, _ := file.Digest()
	b, _ := want.Digest()
	if a == b || len(a) != 64 {
		t.Errorf("loosening a gate leaves the digest %s", a)
	}
}

func TestCheckRefusesRepeatedNames(t *testing.T) {
	g := Gate{"g", "latency.ratio", "<=", 1}
	if err := (Policy{Gates: []Gate{g, g}}).Check(); err == nil {
		t.Error("two gates of one name were accepted")
	}
	if err := (Policy{Gates: []Gate{{"", "latency.ratio", "<=", 1}}}).Check(); err == nil {
		t.Error("a gate without a name was accepted")
	}
}

// verified signs the predicate and verifies it again.
func verified(t *testing.T, predicateType string, predicate []byte) *attest.Verified {
	t.Helper()
	key, err := attest.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	ev, err := attest.Sign(context.Background(), key, attest.Statement{
		PredicateType: predicateType, Subjects: []attest.Subject{{Name: "m.onnx", SHA256: candidateDigest}}, Predicate: predicate,
	})
	if err != nil {
		t.Fatal(err)
	}
	v, err := attest.Verify(ev.Bundle, []attest.PublicKey{key.PublicKey()})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func signedReport(t *testing.T, edit func(*report.Report)) []byte {
	t.Helper()
	r := measured()
	if err := Apply(r, Default(r)); err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		edit(r)
	}
	data, err := r.JSON()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestEvaluateVerified(t *testing.T) {
	v := verified(t, report.PredicateType, signedReport(t, nil))
	out, err := EvaluateVerified(v, Policy{})
	if err != nil {
		t.Fatal(err)
	}
	if out.Verdict != report.Pass || out.Recorded != report.Pass || len(out.Gates) != 2 {
		t.Errorf("%s, %s, %d gates", out.Verdict, out.Recorded, len(out.Gates))
	}
	strict := Policy{Source: "own", Gates: []Gate{{"max-latency-ratio", "latency.ratio", "<=", 0.5}}}
	if out, err = EvaluateVerified(v, strict); err != nil || out.Verdict != report.Fail || out.Recorded != report.Pass {
		t.Errorf("a stricter own policy: %+v, %v", out, err)
	}
}

func TestEvaluateVerifiedRejects(t *testing.T) {
	tests := []struct {
		name   string
		edit   func(*report.Report)
		reason attest.Reason
	}{
		{"verdict raised", func(r *report.Report) { r.Accuracy.CI95 = report.CI(-0.5, -0.4); r.Gates[0].CI95 = report.CI(0.4, 0.5) }, ReasonVerdict},
		{"whole verdict raised", func(r *report.Report) { r.Verdict = report.Fail }, ReasonVerdict},
		{"observed changed", func(r *report.Report) { r.Gates[0].Observed = report.Num(0) }, ReasonVerdict},
		{"threshold loosened", func(r *report.Report) { r.Gates[0].Threshold = 0.02 }, ReasonVerdict},
		{"section dropped", func(r *report.Report) { r.Latency = nil }, ReasonVerdict},
		{"gates dropped", func(r *report.Report) { r.Gates = nil }, ReasonVerdict},
		{"repeated gate", func(r *report.Report) { r.Gates[1] = r.Gates[0] }, ReasonVerdict},
		{"other candidate", func(r *report.Report) { r.Candidate.SHA256 = strings.Repeat("1", 64) }, attest.ReasonDigest},
		{"external data not signed", func(r *report.Report) {
			r.Candidate.External = []report.File{{Path: "w", SHA256: strings.Repeat("2", 64)}}
		}, attest.ReasonDigest},
		{"later major", func(r *report.Report) { r.SchemaVersion = "2.0" }, attest.ReasonSchema},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := EvaluateVerified(verified(t, report.PredicateType, signedReport(t, tt.edit)), Policy{})
			wantRejected(t, err, tt.reason)
		})
	}
	t.Run("other type", func(t *testing.T) {
		_, err := EvaluateVerified(verified(t, "https://example.com/x", signedReport(t, nil)), Policy{})
		wantRejected(t, err, attest.ReasonSchema)
	})
	t.Run("key in other case", func(t *testing.T) {
		data := strings.Replace(string(signedReport(t, nil)), `"verdict"`, `"Verdict"`, 1)
		_, err := EvaluateVerified(verified(t, report.PredicateType, []byte(data)), Policy{})
		wantRejected(t, err, attest.ReasonSchema)
	})
	t.Run("field of a later minor version", func(t *testing.T) {
		data := strings.Replace(string(signedReport(t, nil)), `{`, `{"later": 1,`, 1)
		if !json.Valid([]byte(data)) {
			t.Fatal("the test's document is not JSON")
		}
		if _, err := EvaluateVerified(verified(t, report.PredicateType, []byte(data)), Policy{}); err != nil {
			t.Error(err)
		}
	})
}

func wantRejected(t *testing.T, err error, reason attest.Reason) {
	t.Helper()
	var rejected *attest.RejectedError
	if !errors.As(err, &rejected) || rejected.Reason != reason {
		t.Errorf("error %v, want a rejection by %s", err, reason)
	}
}

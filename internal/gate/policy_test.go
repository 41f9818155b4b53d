package gate

import (
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/report"
)

// TestHypotheses states trials and compares the gates that they come to, and their verdicts on the measured report: a drop of 0.4 pt
// [-0.1, 0.9], a latency ratio of 0.8 [0.78, 0.82], a quarter of the bytes.
func TestHypotheses(t *testing.T) {
	tests := []struct {
		test, of, margin string
		relative         bool
		want             Gate
		verdict          report.Verdict
	}{
		{"non-inferiority", "accuracy", "1pt", false, Gate{"g", "accuracy.drop", "<=", 0.01}, report.Pass},
		{"non-inferiority", "accuracy", "0.5pt", false, Gate{"g", "accuracy.drop", "<=", 0.005}, report.Inconclusive},
		{"superiority", "accuracy", "0", false, Gate{"g", "accuracy.gain", ">", 0}, report.Inconclusive},
		{"superiority", "accuracy", "1pt", false, Gate{"g", "accuracy.gain", ">", 0.01}, report.Fail},
		{"non-inferiority", "accuracy", "1%", true, Gate{"g", "accuracy.ratio", ">=", 0.99}, ""},
		{"superiority", "accuracy", "1%", true, Gate{"g", "accuracy.ratio", ">", 1.01}, ""},
		{"non-inferiority", "latency", "5%", true, Gate{"g", "latency.ratio", "<=", 1.05}, report.Pass},
		{"superiority", "latency", "10%", true, Gate{"g", "latency.ratio", "<", 0.9}, report.Pass},
		{"superiority", "latency", "20%", true, Gate{"g", "latency.ratio", "<", 0.8}, report.Inconclusive},
		{"superiority", "latency", "50%", true, Gate{"g", "latency.ratio", "<", 0.5}, report.Fail},
		{"superiority", "bytes", "700", false, Gate{"g", "bytes_difference", "<", -700}, report.Pass},
		{"superiority", "bytes", "750", false, Gate{"g", "bytes_difference", "<", -750}, report.Fail},
		{"non-inferiority", "bytes", "0", true, Gate{"g", "bytes_ratio", "<=", 1}, report.Pass},
		{"non-inferiority", "latency", "2ms", false, Gate{"g", "latency.p50.delta_ms", "<=", 2}, report.Pass},
		{"superiority", "latency", "500us", false, Gate{"g", "latency.p50.delta_ms", "<", -0.5}, report.Pass},
		{"superiority", "latency", "1ms", false, Gate{"g", "latency.p50.delta_ms", "<", -1}, report.Inconclusive},
		{"superiority", "latency", "2ms", false, Gate{"g", "latency.p50.delta_ms", "<", -2}, report.Fail},
		{"superiority", "memory", "40B", false, Gate{"g", "latency.memory_difference", "<", -40}, report.Pass},
		{"superiority", "memory", "60B", false, Gate{"g", "latency.memory_difference", "<", -60}, report.Fail},
		{"superiority", "memory", "40%", true, Gate{"g", "latency.memory_ratio", "<", 0.6}, report.Pass},
	}
	for _, tt := range tests {
		g, err := hypothesis("g", tt.test, tt.of, tt.margin, tt.relative)
		if err != nil || g != tt.want {
			t.Errorf("%s of %s by %s: %v, %v; want %v", tt.test, tt.of, tt.margin, g, err, tt.want)
			continue
		}
		if got := evaluate(measured(), g); tt.verdict != "" && got.Verdict != tt.verdict {
			t.Errorf("%s of %s by %s: %s (%s), want %s", tt.test, tt.of, tt.margin, got.Verdict, got.Reason, tt.verdict)
		}
		if got := evaluate(&report.Report{}, g); got.Verdict != report.Fail {
			t.Errorf("%s of %s on nothing: %s", tt.test, tt.of, got.Verdict)
		}
	}
	for _, bad := range []map[string]any{
		{"test": "equality", "of": "accuracy"}, {"test": "superiority", "of": "beauty"}, {"test": "superiority", "of": "latency", "margin": "5%"},
		{"test": "superiority", "of": "ece", "relative": true}, {"test": "superiority", "of": "accuracy", "margin": "-1pt"},
		{"test": "superiority", "of": "latency", "margin": "100%", "relative": true}, {"test": "superiority", "of": "accuracy", "threshold": 1},
	} {
		if p, err := FromConfig("f", map[string]any{"g": bad}); err == nil {
			t.Errorf("%v is accepted: %v", bad, p)
		}
	}
}

func TestRules(t *testing.T) {
	synthetic := func(r *report.Report) { r.Data.Origin = report.OriginSynthetic }
	tests := []struct {
		cel    string
		edit   func(*report.Report)
		want   report.Verdict
		reason string
	}{
		{"report.latency.ratio < 0.9 && report.accuracy.flips.right_to_wrong <= 5", nil, report.Pass, "holds"},
		{"report.accuracy.slices.all(s, s.ci95[0] > -0.01)", nil, report.Fail, "does not hold: sorry"},
		{"report.latency.ratio < 0.9", func(r *report.Report) { r.Latency = nil }, report.Fail, "does not contain latency"},
		{"report.latency.ratio < 0.9", func(r *report.Report) {
			r.Latency, r.Skipped = nil, []report.Skip{{Section: "latency", Reason: "it was switched off"}}
		}, report.Fail, "latency was not measured: it was switched off"},
		{"report.accuracy.kl < 1.0", synthetic, report.Fail, "generated inputs"},
		{"!has(report.accuracy)", synthetic, report.Fail, "generated inputs"},
		{"report.latency.ratio < 0.9", synthetic, report.Pass, "holds"},
		{"report.latency.ratio / 0.0 < 0.0", nil, report.Fail, "does not hold"},
	}
	for _, tt := range tests {
		r := measured()
		if tt.edit != nil {
			tt.edit(r)
		}
		p := Policy{Rules: []Rule{{"r", tt.cel, "sorry"}}}
		if err := p.Check(); err != nil {
			t.Fatal(err)
		}
		got := Evaluate(r, p)[0]
		if got.Verdict != tt.want || !strings.Contains(got.Reason, tt.reason) {
			t.Errorf("%s: %s (%s), want %s (%s)", tt.cel, got.Verdict, got.Reason, tt.want, tt.reason)
		}
	}
	for _, bad := range []string{"report.verdict == 'pass'", "report.gates.size() > 0", "report.policy.source == ''", "true", "1 + 1", "report.latency.ration < 1.0"} {
		if err := (Policy{Rules: []Rule{{"r", bad, ""}}}).Check(); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}

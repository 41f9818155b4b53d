package gate

import (
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/report"
)

// TestPresets: the whole interval of the share kept must reach the target; a report without the share fails.
func TestPresets(t *testing.T) {
	for _, tt := range []struct {
		preset    string
		ratio     float64
		low, high float64
		want      report.Verdict
	}{
		{"mlperf-99", 0.995, 0.991, 0.999, report.Pass},
		{"mlperf-99", 0.995, 0.989, 1.001, report.Inconclusive},
		{"mlperf-99", 0.97, 0.96, 0.98, report.Fail},
		{"mlperf-99.9", 1, 0.9991, 1.0009, report.Pass},
		{"mlperf-99.9", 0.995, 0.991, 0.998, report.Fail},
	} {
		p, err := Preset(tt.preset)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Check(); err != nil {
			t.Fatal(err)
		}
		r := measured()
		r.Accuracy.Ratio, r.Accuracy.RatioCI95 = &tt.ratio, report.CI(tt.low, tt.high)
		if got := Evaluate(r, p); got[0].Verdict != tt.want {
			t.Errorf("%s of %v [%v, %v]: %+v, want %s", tt.preset, tt.ratio, tt.low, tt.high, got[0], tt.want)
		}
		r.Accuracy.Ratio = nil
		if got := Evaluate(r, p); got[0].Verdict != report.Fail {
			t.Errorf("%s without the share: %+v", tt.preset, got[0])
		}
	}
	if _, err := Preset("mlperf-98"); err == nil || !strings.Contains(err.Error(), "mlperf-99 and mlperf-99.9") {
		t.Errorf("an unknown preset: %v", err)
	}
}

// TestWorstSlice: many small slices do not fail together what none of them fails by itself, and those with too few samples are left out.
func TestWorstSlice(t *testing.T) {
	r := measured()
	slice := func(name string, delta, half, all float64) report.Slice {
		return report.Slice{Name: name, Delta: &delta, CI95: report.CI(delta-half, delta+half), CI95All: report.CI(delta-all, delta+all)}
	}
	g := Gate{"g", "accuracy.worst_slice_drop", "<=", 0.02}
	r.Accuracy.Slices = []report.Slice{slice("a", -0.05, 0.025, 0.04), slice("b", 0, 0.01, 0.015)}
	if got := evaluate(r, g); got.Verdict != report.Inconclusive {
		t.Errorf("a loss that only the interval of its own shows: %+v", got)
	}
	r.Accuracy.Slices[0] = slice("a", -0.08, 0.025, 0.04)
	if got := evaluate(r, g); got.Verdict != report.Fail || !strings.Contains(got.Reason, "worst slice is a") {
		t.Errorf("a loss beyond doubt: %+v", got)
	}
	r.Accuracy.Slices[0].Small = true
	if got := evaluate(r, g); got.Verdict != report.Pass {
		t.Errorf("a slice of too few samples: %+v", got)
	}
	r.Accuracy.Slices = r.Accuracy.Slices[:1]
	if got := evaluate(r, g); got.Verdict != report.Fail || got.Observed != nil {
		t.Errorf("no slice that can be judged: %+v", got)
	}
}

package report

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestNormalizeDropsWhatCannotBeStated(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	r := Report{
		Started: time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600)),
		Accuracy: &Accuracy{
			Delta: &nan, CI95: &Interval{0, inf}, Agreement: Num(0.5),
			Outputs: []OutputDistance{{Name: "y", SQNR: &inf, MaxAbs: Num(1)}},
		},
		Latency:     &Latency{P90: &Quantile{BaselineMS: 1, CandidateMS: nan}, P50: &Quantile{BaselineMS: 1, CandidateMS: 2, BaselineCI95: &Interval{nan, 1}}},
		Explanation: &Explanation{MeanMap: &Map{Baseline: []float64{inf}}, Maps: []Map{{ID: "a", Baseline: []float64{nan}, Candidate: []float64{1}}, {ID: "b", Baseline: []float64{1}, Candidate: []float64{2}}, {ID: "c"}}},
	}
	r.Normalize()
	want := Report{
		Started: time.Date(2026, 1, 2, 2, 4, 5, 0, time.UTC),
		Accuracy: &Accuracy{
			Agreement: Num(0.5),
			Outputs:   []OutputDistance{{Name: "y", MaxAbs: Num(1)}},
		},
		Latency:     &Latency{P50: &Quantile{BaselineMS: 1, CandidateMS: 2}},
		Explanation: &Explanation{Maps: []Map{{ID: "b", Baseline: []float64{1}, Candidate: []float64{2}}}},
	}
	want.Finished = want.Finished.UTC()
	if d := cmp.Diff(want, r); d != "" {
		t.Errorf("Normalize (-want +got):\n%s", d)
	}
}

func TestNewHistogram(t *testing.T) {
	tests := []struct {
		name       string
		base, cand []float64
		want       *Histogram
	}{
		{"empty", nil, []float64{1}, nil},
		{"only not finite", []float64{math.NaN()}, []float64{math.Inf(1)}, nil},
		{"constant", []float64{2, 2}, []float64{2, math.NaN()}, &Histogram{EdgesMS: []float64{2, 2.001, 2.002}, Baseline: []int{0, 0}, Candidate: []int{0, 0}}},
		{"two levels", []float64{1, 1, 1}, []float64{3, 3}, &Histogram{Baseline: []int{3, 0}, Candidate: []int{0, 2}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := NewHistogram(tt.base, tt.cand, 2)
			if (got == nil) != (tt.want == nil) {
				t.Fatalf("got %+v, want %+v", got, tt.want)
			}
			if got == nil {
				return
			}
			if tt.name == "constant" {
				tt.want.Baseline[0], tt.want.Candidate[0] = 2, 1
			}
			if d := cmp.Diff(tt.want.Baseline, got.Baseline); d != "" {
				t.Error("baseline", d)
			}
			if d := cmp.Diff(tt.want.Candidate, got.Candidate); d != "" {
				t.Error("candidate", d)
			}
		})
	}
}

func TestHistogramCountsEveryRunOnce(t *testing.T) {
	var base, cand []float64
	for i := range 1000 {
		base = append(base, 10+float64(i%37)*0.1)
		cand = append(cand, 7+float64(i%41)*0.1)
	}
	base[5], cand[9] = 900, 1200
	h := NewHistogram(base, cand, 24)
	sum := func(bins []int) (n int) {
		for _, b := range bins {
			n += b
		}
		return n
	}
	if got := sum(h.Baseline) + h.BaselineAbove; got != len(base) {
		t.Errorf("baseline: %d runs counted, want %d", got, len(base))
	}
	if got := sum(h.Candidate) + h.CandidateAbove; got != len(cand) {
		t.Errorf("candidate: %d runs counted, want %d", got, len(cand))
	}
	if h.BaselineAbove < 1 || h.CandidateAbove < 1 {
		t.Errorf("above = %d, %d, want the stragglers there", h.BaselineAbove, h.CandidateAbove)
	}
	if n := len(h.EdgesMS); n != 25 {
		t.Errorf("%d edges, want 25", n)
	}
}

func TestWorstSlice(t *testing.T) {
	a := Accuracy{Better: BetterHigher, Slices: []Slice{
		{Name: "a", Delta: Num(-0.01), CI95: CI(-0.02, 0.01)},
		{Name: "b", Delta: Num(-0.03), CI95: CI(-0.04, -0.02)},
		{Name: "c", Delta: Num(0.01), CI95: CI(-0.09, 0.2)},
	}}
	s, v, ci := a.WorstSlice()
	if s == nil || s.Name != "b" || *v != 0.03 || *ci != (Interval{0.02, 0.09}) {
		t.Errorf("WorstSlice = %v, %v, %v", s, v, ci)
	}
	a.Slices[2].CI95 = nil
	if s, _, _ := a.WorstSlice(); s != nil {
		t.Errorf("WorstSlice with a slice without interval = %v, want none", s)
	}
}

func TestDrop(t *testing.T) {
	tests := []struct {
		better string
		want   float64
		ci     Interval
	}{
		{BetterHigher, 0.02, Interval{0.01, 0.05}},
		{BetterLower, -0.02, Interval{-0.05, -0.01}},
	}
	for _, tt := range tests {
		a := Accuracy{Better: tt.better, Delta: Num(-0.02), CI95: CI(-0.05, -0.01)}
		v, ci := a.Drop()
		if *v != tt.want || *ci != tt.ci {
			t.Errorf("%s: %v %v, want %v %v", tt.better, *v, *ci, tt.want, tt.ci)
		}
	}
	if v, _ := (&Accuracy{Delta: Num(1)}).Drop(); v != nil {
		t.Error("a delta without a known good direction has a drop")
	}
}

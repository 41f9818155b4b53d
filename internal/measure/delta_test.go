package measure

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestMeanDelta holds the interval against t.ppf(0.975, df) × sd / √n by hand.
func TestMeanDelta(t *testing.T) {
	for _, tt := range []struct {
		name                string
		baseline, candidate []float64
		pilot               int
		want                Delta
	}{
		{"differences 1, 2, 3", []float64{10, 10, 10}, []float64{11, 12, 13}, 0, Delta{2, Interval{2 - 4.302652729749462/math.Sqrt(3), 2 + 4.302652729749462/math.Sqrt(3), 0.95, MethodProcessT}}},
		{"by a pilot of 2", []float64{10, 10, 10}, []float64{11, 12, 13}, 2, Delta{2, Interval{2 - 12.706204736174694/math.Sqrt(3), 2 + 12.706204736174694/math.Sqrt(3), 0.95, MethodProcessT}}},
		{"always the same", []float64{7, 9}, []float64{4, 6}, 0, Delta{-3, Interval{-3, -3, 0.95, MethodProcessT}}},
		{"one pair", []float64{7}, []float64{4}, 0, Delta{Value: -3}},
	} {
		got, err := MeanDelta(tt.baseline, tt.candidate, 0, tt.pilot)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(&tt.want, got, near); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
	}
	for _, bad := range [][2][]float64{{}, {{1}, {1, 2}}, {{math.NaN()}, {1}}, {{1}, {math.Inf(1)}}} {
		if d, err := MeanDelta(bad[0], bad[1], 0, 0); err == nil {
			t.Errorf("%v: %+v", bad, d)
		}
	}
}

// TestQuantileDelta: each process counts once, however many runs it has, and in whatever order they come.
func TestQuantileDelta(t *testing.T) {
	var b, c Timed
	add := func(to *Timed, process int, seconds ...float64) {
		for _, s := range seconds {
			to.Seconds, to.Process = append(to.Seconds, s), append(to.Process, process)
		}
	}
	add(&b, 0, 3, 1, 2)
	add(&c, 1, 20, 40)
	add(&b, 1, 9, 11, 10, 10)
	add(&c, 0, 4, 3, 5)
	got, err := QuantileDelta(b, c, 0.5, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	half := 12.706204736174694 * 9 // differences of 2 and 20
	if d := cmp.Diff(&Delta{11, Interval{11 - half, 11 + half, 0.95, MethodProcessT}}, got, near); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if got, err := QuantileDelta(b, c, 0.9, 0, 0); got != nil || err != nil {
		t.Errorf("of 2 to 4 runs per process the 90th percentile is %+v, %v; want none", got, err)
	}
	add(&b, 2, 1, 2)
	if got, err := QuantileDelta(b, c, 0.5, 0, 0); err == nil {
		t.Errorf("a process that timed only the baseline gives %+v", got)
	}
}

// TestDeltaCoverage: on simulated machines the interval of the difference covers the truth in about 95 % of the runs or more, for quantiles as near to
// their least number of runs as they are stated.
func TestDeltaCoverage(t *testing.T) {
	for _, tt := range []struct {
		p               float64
		processes, runs int
		between, slower float64
	}{
		{0.5, 6, 20, 0, 0}, {0.5, 6, 20, 0.01, 0.05}, {0.5, 12, 40, 0.02, 0},
		{0.9, 6, 10, 0.01, 0}, {0.9, 6, 40, 0, 0.05},
		{0.95, 6, 20, 0.01, 0},
		{0.99, 6, 100, 0.01, 0}, {0.99, 6, 300, 0, 0},
	} {
		const n = 400
		truth := math.Expm1(tt.slower) * quantileOfBaseline(tt.p, tt.between)
		covered := 0
		for i := range n {
			m := newMachine(uint64(i)+1, tt.between, tt.slower)
			m.step = -1
			b, c := m.timed(tt.processes, tt.runs)
			d, err := QuantileDelta(b, c, tt.p, 0, 6)
			if err != nil || d == nil {
				t.Fatalf("%+v: %v, %v", tt, d, err)
			}
			if d.Interval.Contains(truth) {
				covered++
			}
		}
		share := float64(covered) / n
		t.Logf("%+v: covered in %.1f %%", tt, 100*share)
		if slack := 2 * math.Sqrt(0.05*0.95/n); share < 0.95-slack-0.01 {
			t.Errorf("%+v: the interval covers in %.1f %%, want about 95 %%", tt, 100*share)
		}
	}
}

// timed runs both models in turns in fresh processes.
func (m *machine) timed(processes, runs int) (b, c Timed) {
	for k := range processes {
		m.start()
		for range runs {
			for arm, into := range []*Timed{&b, &c} {
				into.Seconds, into.Process = append(into.Seconds, m.time(Arm(arm), false).Seconds()), append(into.Process, k)
			}
		}
	}
	return b, c
}

// quantileOfBaseline returns the p-quantile of the baseline's runs, over many processes.
func quantileOfBaseline(p, between float64) float64 {
	m := newMachine(0, between, 0)
	m.step = -1
	b, _ := m.timed(2000, 20)
	k := int(p * float64(len(b.Seconds)))
	selectRank(b.Seconds, k)
	return b.Seconds[k]
}

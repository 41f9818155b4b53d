package measure

import (
	"fmt"
	"maps"
	"math"
	"slices"
)

// Timed are single runs of one model, each with the pair of fresh processes that it came from.
type Timed struct {
	Seconds []float64
	Process []int
}

// Delta is the difference candidate − baseline of a quantity: the mean over pairs of processes.
type Delta struct {
	Value    float64
	Interval Interval // Student's t over processes; Method is empty below 2 of them
}

// MeanDelta estimates the difference candidate − baseline of what every pair of fresh processes shows once, such as their peaks of memory.
// pilot is that of [CompareOptions].
func MeanDelta(baseline, candidate []float64, confidence float64, pilot int) (*Delta, error) {
	if confidence == 0 {
		confidence = defaultConfidence
	}
	if confidence <= 0 || confidence >= 1 {
		return nil, fmt.Errorf("confidence %v is outside (0, 1)", confidence)
	}
	if len(baseline) == 0 || len(baseline) != len(candidate) {
		return nil, fmt.Errorf("%d values of the baseline and %d of the candidate, want as many of both and at least one", len(baseline), len(candidate))
	}
	d := make([]float64, len(baseline))
	for i := range d {
		if d[i] = candidate[i] - baseline[i]; math.IsNaN(d[i]) || math.IsInf(d[i], 0) {
			return nil, fmt.Errorf("pair %d has the values %v and %v, want finite ones", i, baseline[i], candidate[i])
		}
	}
	out := &Delta{Value: mean(d)}
	if n := len(d); n > 1 {
		half := studentQuantile((1+confidence)/2, degrees(n, pilot)) * math.Sqrt(variance(d)/float64(n))
		out.Interval = Interval{Low: out.Value - half, High: out.Value + half, Confidence: confidence, Method: MethodProcessT}
	}
	return out, nil
}

// QuantileDelta estimates by how much the p-quantile of the candidate's single runs is above the baseline's, in seconds. The unit of replication
// is the pair of processes, as in [Compare]: each contributes the difference of the quantiles of its own runs, in which what slowed both has
// gone. It is nil where a process has so few runs that not even one is expected beyond the quantile: 10 for p90, 100 for p99.
func QuantileDelta(baseline, candidate Timed, p, confidence float64, pilot int) (*Delta, error) {
	if p <= 0 || p >= 1 {
		return nil, fmt.Errorf("quantile %v is outside (0, 1)", p)
	}
	b, c := baseline.byProcess(), candidate.byProcess()
	var values [2][]float64
	for _, k := range slices.Sorted(maps.Keys(b)) {
		runs, other := b[k], c[k]
		if len(other) == 0 || len(b) != len(c) {
			return nil, fmt.Errorf("the baseline was timed in %d processes and the candidate in %d, want the same", len(b), len(c))
		}
		if need := int(math.Ceil(1/min(p, 1-p) - 1e-9)); min(len(runs), len(other)) < need {
			return nil, nil
		}
		for arm, x := range [][]float64{runs, other} {
			slices.Sort(x)
			values[arm] = append(values[arm], quantileSorted(x, p))
		}
	}
	return MeanDelta(values[0], values[1], confidence, pilot)
}

// byProcess returns the times of the runs of each process.
func (t Timed) byProcess() map[int][]float64 {
	out := map[int][]float64{}
	for i, s := range t.Seconds {
		out[t.Process[i]] = append(out[t.Process[i]], s)
	}
	return out
}

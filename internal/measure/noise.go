package measure

import (
	"fmt"
	"math"
	"slices"
)

// Noise describes how far a series of timings is from independent draws of one distribution.
type Noise struct {
	N            int
	Lag1         float64 // lag-1 autocorrelation of the baseline within processes
	EffectiveN   float64 // N corrected for it
	Trend        Trend   // of the baseline within processes
	Drift        float64 // relative change of the baseline from the first to the last third of the time
	Bimodality   Bimodality
	Coefficient  float64 // coefficient of variation of the baseline's blocks
	WarmupStable bool    // every warm-up reached a steady state

	Warnings []Warning
}

// NoiseOf examines the baseline's side of the blocks, in the order of measurement. Offsets between processes are removed
// before autocorrelation and trend are computed, since they are expected and Compare accounts for them.
func NoiseOf(blocks []Block, warmups []Warmup) Noise {
	n := Noise{N: len(blocks), WarmupStable: true}
	for _, w := range warmups {
		n.WarmupStable = n.WarmupStable && w.Steady
	}
	series := make([]float64, len(blocks))
	var groups [][]float64
	last := -1
	for i, b := range blocks {
		series[i] = b.Baseline
		if i == 0 || b.Process != last {
			groups = append(groups, nil)
			last = b.Process
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], b.Baseline)
	}
	if len(series) == 0 {
		return n
	}
	var centred []float64
	for _, g := range groups {
		m := Median(g)
		for _, v := range g {
			centred = append(centred, v/m)
		}
	}
	n.Lag1 = lag1(centred, groups)
	n.EffectiveN = float64(n.N) * (1 - n.Lag1) / (1 + n.Lag1)
	n.Trend = MannKendall(groups...)
	if third := len(series) / 3; third > 0 {
		n.Drift = Median(series[len(series)-third:])/Median(series[:third]) - 1
	}
	n.Bimodality = TwoMeans(centred)
	if m := mean(series); m > 0 {
		n.Coefficient = math.Sqrt(variance(series)) / m
	}
	n.Warnings = n.doubts()
	return n
}

func (n Noise) doubts() []Warning {
	var w []Warning
	add := func(code string, s Severity, v float64, format string, args ...any) {
		w = append(w, Warning{Code: code, Severity: s, Value: v, Message: fmt.Sprintf(format, args...)})
	}
	// Under independence lag1 is normal with standard deviation 1/sqrt(n); 3 of them rarely happen by chance.
	if limit := max(0.3, 3/math.Sqrt(float64(n.N))); n.Lag1 > limit {
		add("autocorrelation", Note, n.Lag1, "successive timings are correlated (%.2f): %d pairs are worth about %.0f", n.Lag1, n.N, n.EffectiveN)
	}
	if n.Trend.P < 0.01 && math.Abs(n.Drift) > 0.01 {
		add("trend", Warn, n.Drift, "the baseline drifted by %+.1f %% while measuring (Mann-Kendall p = %.2g)", 100*n.Drift, n.Trend.P)
	}
	// Pairs cancel a drift that both models meet; a machine that became twice as slow or fast is another machine.
	if n.Drift > 1 || n.Drift < -0.5 {
		add("drift", Severe, n.Drift, "the baseline's time changed by %+.0f %% while measuring: the machine was not in one state", 100*n.Drift)
	}
	if n.Bimodality.Bimodal() {
		add("bimodal", Warn, n.Bimodality.Ratio, "the baseline has two modes, the slower %.0f %% above the faster and taken in %.0f %% of the runs",
			100*(n.Bimodality.Ratio-1), 100*n.Bimodality.SlowShare)
	}
	if n.Coefficient > 0.3 {
		add("noisy", Warn, n.Coefficient, "the baseline's timings vary by %.0f %% of their mean", 100*n.Coefficient)
	}
	if !n.WarmupStable {
		add("warm-up", Warn, 0, "at least one warm-up ended by its time limit before the timings were steady")
	}
	return w
}

// lag1 is the autocorrelation at lag 1 of a concatenation of series, without the products across their seams.
func lag1(centred []float64, groups [][]float64) float64 {
	m, seam := mean(centred), map[int]bool{}
	at := 0
	for _, g := range groups {
		seam[at] = true
		at += len(g)
	}
	var num, den float64
	for i, v := range centred {
		den += (v - m) * (v - m)
		if !seam[i] {
			num += (v - m) * (centred[i-1] - m)
		}
	}
	if den == 0 {
		return 0
	}
	return num / den
}

// Trend is the outcome of the Mann-Kendall test for a monotone trend.
type Trend struct {
	S   int64   // pairs that rise less pairs that fall
	Tau float64 // S divided by the number of pairs: 1 for a strictly rising series
	Z   float64 // normal score with continuity correction
	P   float64 // two-sided; 1 where nothing can be said
}

// MannKendall tests one or more series for a common monotone trend; several are combined as the seasonal Kendall test does
// (Hirsch, Slack, Smith 1982), summing statistic and variance over series, so that offsets between them do not matter. The
// variance is corrected for ties. It takes O(n log n).
func MannKendall(series ...[]float64) Trend {
	var s, pairs int64
	var v float64
	for _, x := range series {
		n := int64(len(x))
		pairs += n * (n - 1) / 2
		si, vi := kendall(x)
		s += si
		v += vi
	}
	t := Trend{S: s, P: 1}
	if pairs > 0 {
		t.Tau = float64(s) / float64(pairs)
	}
	if v <= 0 || s == 0 {
		return t
	}
	t.Z = (float64(s) - math.Copysign(1, float64(s))) / math.Sqrt(v)
	t.P = math.Erfc(math.Abs(t.Z) / math.Sqrt2)
	return t
}

// kendall returns Mann-Kendall's S and its variance under no trend.
func kendall(x []float64) (s int64, variance float64) {
	n := int64(len(x))
	if n < 2 {
		return 0, 0
	}
	sorted := slices.Clone(x)
	inversions := countInversions(sorted, make([]float64, len(x)))
	size := func(n int64) int64 { return n * (n - 1) * (2*n + 5) }
	var tied, correction int64
	for i := 0; i < len(sorted); {
		j := i
		for j < len(sorted) && sorted[j] == sorted[i] {
			j++
		}
		t := int64(j - i)
		tied += t * (t - 1) / 2
		correction += size(t)
		i = j
	}
	s = n*(n-1)/2 - tied - 2*inversions
	return s, float64(size(n)-correction) / 18
}

// countInversions sorts x and returns how many pairs were strictly out of order.
func countInversions(x, buffer []float64) int64 {
	if len(x) < 2 {
		return 0
	}
	mid := len(x) / 2
	count := countInversions(x[:mid], buffer[:mid]) + countInversions(x[mid:], buffer[mid:])
	copy(buffer, x)
	i, j := 0, mid
	for k := range x {
		if j == len(x) || (i < mid && buffer[i] <= buffer[j]) {
			x[k] = buffer[i]
			i++
		} else {
			x[k] = buffer[j]
			j++
			count += int64(mid - i)
		}
	}
	return count
}

// Bimodality is the best split of a series into two groups.
type Bimodality struct {
	Explained float64 // share of the variance that the split explains: 2/π for a normal distribution, 1 for two points
	SlowShare float64 // share of the values in the upper group
	Ratio     float64 // mean of the upper group over mean of the lower
}

// TwoMeans splits x at the threshold that minimizes the variance within the two groups (exact one-dimensional 2-means).
func TwoMeans(x []float64) Bimodality {
	n := len(x)
	if n < 4 {
		return Bimodality{Ratio: 1}
	}
	sorted := slices.Clone(x)
	slices.Sort(sorted)
	m, total := mean(sorted), 0.0
	for _, v := range sorted {
		total += (v - m) * (v - m)
	}
	if total == 0 {
		return Bimodality{Ratio: 1}
	}
	best, cut, prefix, bestPrefix := -1.0, 0, 0.0, 0.0
	for i := range n - 1 {
		prefix += sorted[i] - m
		k := float64(i + 1)
		if between := prefix * prefix * float64(n) / (k * (float64(n) - k)); between > best {
			best, cut, bestPrefix = between, i+1, prefix
		}
	}
	low := m + bestPrefix/float64(cut)
	high := m - bestPrefix/float64(n-cut)
	return Bimodality{Explained: best / total, SlowShare: float64(n-cut) / float64(n), Ratio: high / low}
}

// Bimodal says whether the split is more than a normal or uniform distribution would show: it explains 85 % of the variance,
// neither group is smaller than a tenth, and the modes are 2 % apart.
func (b Bimodality) Bimodal() bool {
	return b.Explained >= 0.85 && b.SlowShare >= 0.1 && b.SlowShare <= 0.9 && b.Ratio >= 1.02
}

// Counters are the machine's own records over the measurement, filled by whoever can read them. A nil field was not
// available, which is not zero.
type Counters struct {
	Wall              float64  // seconds covered
	CPUs              int      // processors available to the processes
	StealSeconds      *float64 // processor time taken by the hypervisor (/proc/stat)
	ThrottledPeriods  *int64   // cgroup cpu.stat nr_throttled
	Periods           *int64   // cgroup cpu.stat nr_periods
	CPUPressure       *float64 // share of the time some task waited for a processor (/proc/pressure/cpu), 0 to 1
	InvoluntarySwitch *int64   // involuntary context switches of the two workers
	OtherLoad         *float64 // mean number of runnable tasks that are not ours
	GPUThrottle       []string // reasons NVML gave for lowered clocks
	GPULimited        *float64 // share of the readings of the GPU with such a reason
}

// Warnings judges the counters.
func (c Counters) Warnings() []Warning {
	var w []Warning
	add := func(code string, s Severity, v float64, format string, args ...any) {
		w = append(w, Warning{Code: code, Severity: s, Value: v, Message: fmt.Sprintf(format, args...)})
	}
	// graded warns from warn on and calls it severe from severe on.
	graded := func(code string, v, warn, severe float64, format string) {
		switch {
		case v >= severe:
			add(code, Severe, v, format, 100*v)
		case v >= warn:
			add(code, Warn, v, format, 100*v)
		}
	}
	if c.StealSeconds != nil && c.Wall > 0 && c.CPUs > 0 {
		graded("steal", *c.StealSeconds/(c.Wall*float64(c.CPUs)), 0.01, 0.2, "the hypervisor took %.1f %% of the processor time")
	}
	if c.ThrottledPeriods != nil && c.Periods != nil && *c.Periods > 0 {
		graded("throttled", float64(*c.ThrottledPeriods)/float64(*c.Periods), 0.01, 0.5, "the container's quota stopped the processes in %.1f %% of the periods")
	}
	if c.CPUPressure != nil {
		graded("cpu-pressure", *c.CPUPressure, 0.1, 0.6, "tasks waited for a processor during %.0f %% of the time")
	}
	if c.InvoluntarySwitch != nil && c.Wall > 0 {
		if rate := float64(*c.InvoluntarySwitch) / c.Wall; rate > 100 {
			add("preempted", Warn, rate, "the workers were preempted %.0f times a second", rate)
		}
	}
	if c.OtherLoad != nil && *c.OtherLoad > 0.5 {
		add("other-load", Warn, *c.OtherLoad, "on average %.1f other tasks wanted a processor", *c.OtherLoad)
	}
	return append(w, c.gpu()...)
}

// gpu judges why the GPU lowered its clocks. A power cap is how many GPUs work under load; heat and faults are a state in
// which no time says what the GPU does otherwise.
func (c Counters) gpu() []Warning {
	var w []Warning
	for _, reason := range c.GPUThrottle {
		x := Warning{Code: "gpu-throttle", Severity: Warn, Value: 1, Message: "the GPU lowered its clocks: " + reason}
		if c.GPULimited != nil {
			x.Value = *c.GPULimited
			x.Message = fmt.Sprintf("the GPU lowered its clocks in %.0f %% of the readings: %s", 100*x.Value, reason)
			if reason != PowerCap && x.Value >= 0.5 {
				x.Severity = Severe
			}
		}
		w = append(w, x)
	}
	return w
}

// PowerCap is the one reason for lowered clocks of a GPU that is a regular state.
const PowerCap = "power-cap"

package measure

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Arm is one of the two models under comparison.
type Arm int

const (
	Baseline Arm = iota
	Candidate
)

// String returns "baseline" or "candidate".
func (a Arm) String() string {
	if a == Baseline {
		return "baseline"
	}
	return "candidate"
}

// Other returns the other arm.
func (a Arm) Other() Arm { return 1 - a }

// Block is one interleaved pair: each model ran Runs times, one model right after the other. Its times are medians over
// these runs, so that a run the scheduler interrupted does not stand for the others; means and tails are Summary's.
type Block struct {
	Process   int     // which pair of fresh processes it came from, from 0
	First     Arm     // who ran first
	Runs      int     // inner runs per arm
	Baseline  float64 // seconds per run
	Candidate float64 // seconds per run
}

// logRatio is log(candidate / baseline).
func (b Block) logRatio() float64 { return math.Log(b.Candidate / b.Baseline) }

// CompareOptions says how to compare; the zero value is 95 % confidence, 2000 resamples, seed 0, 1 % negligible.
type CompareOptions struct {
	Seed       uint64
	Resamples  int     // bootstrap resamples; 0 means 2000
	Confidence float64 // 0 means 0.95
	Negligible float64 // relative difference that nobody would act on; 0 means 0.01
	// Pilot is the number of processes from whose variance the number of processes was chosen: Plan.Pilot. 0 means that
	// their number did not depend on the data.
	Pilot int
}

// Claim is what a comparison entitles one to say.
type Claim string

const (
	// Slower: the interval lies above 1 and the ratio is more than negligibly above it.
	Slower Claim = "slower"
	// Faster: the interval lies below 1 and the ratio is more than negligibly below it.
	Faster Claim = "faster"
	// Same: the whole interval lies within the negligible difference.
	Same Claim = "same"
	// Undecided: the interval is too wide for any of these.
	Undecided Claim = "undecided"
)

// Difference is the outcome of comparing two models by interleaved pairs. Ratios are candidate / baseline: below 1 is faster.
type Difference struct {
	Ratio    float64  // geometric mean over processes of the median ratio of their blocks
	Interval Interval // of Ratio; covers variation between processes as well as within them

	// Blocks is the BCa bootstrap interval over all blocks: valid only if nothing varied between processes.
	Blocks Interval
	// Cluster is the bootstrap interval over whole processes, expanded for their small number. It is absent (Method is
	// empty) below 5 processes, where the few values to draw from cannot carry it.
	Cluster Interval

	Pairs, Processes    int
	BetweenSD, WithinSD float64 // standard deviations of the log-ratio: between processes (noise within removed), within one
	OrderEffect         float64 // relative slow-down of running second: median over pairs, 0 when only one order occurred
	MDE                 float64 // relative difference that this measurement would have found with 80 % power
	Claim               Claim
	Warnings            []Warning
}

// Compare estimates the ratio candidate / baseline from interleaved blocks.
//
// Fresh processes of one and the same program differ by a per cent or two (memory layout, page colouring, the thread pool's
// placement), and blocks of one process all share its offset. The unit of replication is therefore the process: each
// contributes the median log-ratio of its blocks, and the interval is Student's t over these. With few processes a
// percentile bootstrap over clusters is far too narrow; the t interval holds its level from 3 on (see TestSimulatedRates).
// A single process gives the block bootstrap and a severe warning: that interval knows nothing of other processes.
func Compare(blocks []Block, o CompareOptions) (*Difference, error) {
	o.Negligible = cmp.Or(o.Negligible, 0.01)
	if !(o.Negligible > 0 && o.Negligible < 1) {
		return nil, fmt.Errorf("negligible difference %v is outside (0, 1)", o.Negligible)
	}
	boot, err := BootstrapOptions{Seed: o.Seed, Resamples: o.Resamples, Confidence: o.Confidence}.filled()
	if err != nil {
		return nil, err
	}
	groups, err := byProcess(blocks)
	if err != nil {
		return nil, err
	}
	all := make([]float64, len(blocks))
	for i, b := range blocks {
		all[i] = b.logRatio()
	}
	inBlocks, err := Bootstrap(all, medianInPlace, boot)
	if err != nil {
		return nil, err
	}
	est := estimate(groups, boot.Confidence, o.Pilot)
	d := &Difference{
		Ratio:  math.Exp(est.center),
		Blocks: exponential(inBlocks),
		Pairs:  len(blocks), Processes: len(groups),
		BetweenSD: est.betweenSD, WithinSD: est.withinSD,
		OrderEffect: orderEffect(blocks),
	}
	if len(groups) == 1 {
		z := normalQuantile((1 + boot.Confidence) / 2)
		d.Interval, d.MDE = d.Blocks, math.Expm1((inBlocks.High-inBlocks.Low)/2/z*(z+normalQuantile(0.8)))
	} else {
		d.Interval = exponential(Interval{
			Low: est.center - est.half, High: est.center + est.half, Confidence: boot.Confidence, Method: MethodProcessT,
		})
		d.MDE = math.Expm1(est.detectable)
	}
	if len(groups) >= 5 {
		d.Cluster = exponential(clusterBootstrap(est.medians, boot))
	}
	d.Claim = claim(d.Ratio, d.Interval, o.Negligible)
	d.Warnings = d.doubts()
	return d, nil
}

// byProcess checks the blocks and returns their log-ratios grouped by process, in order of first appearance.
func byProcess(blocks []Block) ([][]float64, error) {
	if len(blocks) < 2 {
		return nil, fmt.Errorf("%d pairs are too few to compare, want at least 2", len(blocks))
	}
	var groups [][]float64
	at := map[int]int{}
	for i, b := range blocks {
		if r := b.logRatio(); !(b.Baseline > 0) || !(b.Candidate > 0) || math.IsInf(r, 0) || math.IsNaN(r) {
			return nil, fmt.Errorf("pair %d took %v and %v seconds, want finite durations above 0", i, b.Baseline, b.Candidate)
		}
		g, seen := at[b.Process]
		if !seen {
			g = len(groups)
			at[b.Process] = g
			groups = append(groups, nil)
		}
		groups[g] = append(groups[g], b.logRatio())
	}
	return groups, nil
}

// clustered is the analysis of log-ratios grouped by process.
type clustered struct {
	medians             []float64 // per process
	center              float64   // their mean
	half                float64   // half-width of the t interval; +Inf for one process
	detectable          float64   // log-ratio found with 80 % power
	betweenSD, withinSD float64
}

// estimate analyses log-ratios grouped by process. With a pilot (see CompareOptions), t keeps the pilot's degrees of freedom:
// a measurement that was long enough to stop tends to be one whose variance looked small, and the wider t makes up for that.
func estimate(groups [][]float64, confidence float64, pilot int) clustered {
	c := clustered{medians: make([]float64, len(groups)), half: math.Inf(1), detectable: math.Inf(1)}
	var withinSum, withinVarianceOfMedian float64
	for i, g := range groups {
		c.medians[i] = Median(g)
		sd := robustSD(g, c.medians[i])
		withinSum += sd * sd
		// The median of n normal values has π/2 times the variance of their mean.
		withinVarianceOfMedian += sd * sd / float64(len(g)) * math.Pi / 2
	}
	k := float64(len(groups))
	c.center = mean(c.medians)
	c.withinSD = math.Sqrt(withinSum / k)
	if len(groups) < 2 {
		return c
	}
	v := variance(c.medians)
	c.betweenSD = math.Sqrt(max(0, v-withinVarianceOfMedian/k))
	se := math.Sqrt(v / k)
	df := degrees(len(groups), pilot)
	t := studentQuantile((1+confidence)/2, df)
	c.half = t * se
	c.detectable = se * (t + studentQuantile(0.8, df))
	return c
}

// degrees returns the degrees of freedom of t over so many processes, of which so many were the pilot.
func degrees(processes, pilot int) float64 {
	if pilot >= 2 {
		return float64(min(processes, pilot) - 1)
	}
	return float64(processes - 1)
}

// robustSD is the scaled median absolute deviation, or the standard deviation where more than half of the values agree.
func robustSD(x []float64, median float64) float64 {
	dev := make([]float64, len(x))
	for i, v := range x {
		dev[i] = math.Abs(v - median)
	}
	if mad := medianInPlace(dev); mad > 0 {
		return 1.4826 * mad
	}
	return math.Sqrt(variance(x))
}

// clusterBootstrap resamples whole processes. The percentile interval of a mean of k values is too narrow by
// sqrt((k-1)/k) and by the ratio of t to z; its levels are widened by both (Hesterberg 2015, "expanded percentile").
func clusterBootstrap(medians []float64, o BootstrapOptions) Interval {
	k := len(medians)
	rng := rand.New(rand.NewPCG(o.Seed, 0x636c7573))
	replicates := make([]float64, o.Resamples)
	for b := range replicates {
		sum := 0.0
		for range k {
			sum += medians[rng.IntN(k)]
		}
		replicates[b] = sum / float64(k)
	}
	slices.Sort(replicates)
	t := studentQuantile((1+o.Confidence)/2, float64(k-1))
	tail := normalCDF(-math.Sqrt(float64(k)/float64(k-1)) * t)
	return Interval{
		Low: replicateQuantile(replicates, tail), High: replicateQuantile(replicates, 1-tail),
		Confidence: o.Confidence, Method: MethodCluster,
	}
}

func exponential(i Interval) Interval {
	i.Low, i.High = math.Exp(i.Low), math.Exp(i.High)
	return i
}

func claim(ratio float64, i Interval, negligible float64) Claim {
	switch {
	case i.Low > 1 && ratio > 1+negligible:
		return Slower
	case i.High < 1 && ratio < 1/(1+negligible):
		return Faster
	case i.Low >= 1/(1+negligible) && i.High <= 1+negligible:
		return Same
	}
	return Undecided
}

// orderEffect estimates how much slower the second model of a pair runs: half the difference between the median log-ratios
// of the two orders.
func orderEffect(blocks []Block) float64 {
	var byOrder [2][]float64
	for _, b := range blocks {
		byOrder[b.First] = append(byOrder[b.First], b.logRatio())
	}
	if len(byOrder[Baseline]) == 0 || len(byOrder[Candidate]) == 0 {
		return 0
	}
	return math.Expm1((medianInPlace(byOrder[Baseline]) - medianInPlace(byOrder[Candidate])) / 2)
}

func (d *Difference) doubts() []Warning {
	var w []Warning
	add := func(code string, s Severity, v float64, format string, args ...any) {
		w = append(w, Warning{Code: code, Severity: s, Value: v, Message: fmt.Sprintf(format, args...)})
	}
	switch {
	case d.Processes == 1:
		add("few-processes", Severe, 1, "all pairs come from one process: the interval knows nothing of variation between processes")
	case d.Processes < 5:
		add("few-processes", Warn, float64(d.Processes), "%d processes give a wide interval, want at least 5", d.Processes)
	}
	if d.Pairs < 30 {
		add("few-pairs", Warn, float64(d.Pairs), "%d pairs, want at least 30", d.Pairs)
	}
	if math.Abs(d.OrderEffect) > 0.02 {
		how := "slower"
		if d.OrderEffect < 0 {
			how = "faster"
		}
		add("order-effect", Warn, d.OrderEffect, "the model that runs second is %.1f %% %s; pairs alternate, so the ratio is not biased by it", 100*math.Abs(d.OrderEffect), how)
	}
	if d.BetweenSD > 0.05 {
		add("process-variation", Warn, d.BetweenSD, "the ratio varies by %.1f %% between processes", 100*d.BetweenSD)
	}
	return w
}

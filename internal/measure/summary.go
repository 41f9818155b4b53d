package measure

import (
	"fmt"
	"math"
	"slices"
)

// Quantile is an estimated quantile with a distribution-free interval made of order statistics.
type Quantile struct {
	P          float64 // 0.5 for the median
	Value      float64 // linear interpolation between order statistics (R type 7)
	Low, High  float64 // order statistics around the true quantile
	Confidence float64 // the interval's exact coverage for independent samples, at least what was asked for
}

// Summary describes one series of durations. Quantiles whose interval would be infinite are nil: a p99 out of 100 runs is
// a guess, and a guess is not printed.
type Summary struct {
	N             int
	Mean, SD      float64
	Min, Max      float64
	Median        *Quantile // nil below 6 samples at 95 %
	P90, P95, P99 *Quantile // nil below 36, 72 and 368 samples at 95 %

	// EarlyStopping holds MLPerf's early-stopping estimates of p90, p95 and p99: upper bounds that hold with 99 % confidence.
	EarlyStopping []Bound

	// Outliers counts the samples farther than 10 scaled median absolute deviations from the median. None is ever dropped.
	Outliers int

	Warnings []Warning
}

// Bound is a one-sided upper bound of a quantile.
type Bound struct {
	P, Value   float64
	Confidence float64
}

// Summarize describes samples, at confidence for the intervals (0 means 0.95). Samples are taken to be independent: use
// Noise to learn how far they are from that. It errs where there is no sample or one is not a finite number ≥ 0.
func Summarize(samples []float64, confidence float64) (*Summary, error) {
	if confidence == 0 {
		confidence = 0.95
	}
	if confidence <= 0 || confidence >= 1 {
		return nil, fmt.Errorf("confidence %v is outside (0, 1)", confidence)
	}
	if len(samples) == 0 {
		return nil, fmt.Errorf("there are no samples to summarize")
	}
	for i, v := range samples {
		if !(v >= 0) || math.IsInf(v, 0) {
			return nil, fmt.Errorf("sample %d is %v, want a finite duration ≥ 0", i, v)
		}
	}
	sorted := slices.Clone(samples)
	slices.Sort(sorted)
	s := &Summary{
		N:    len(sorted),
		Mean: mean(sorted), SD: math.Sqrt(variance(sorted)),
		Min: sorted[0], Max: sorted[len(sorted)-1],
		Outliers: countOutliers(sorted),
	}
	for _, q := range []struct {
		p    float64
		into **Quantile
	}{{0.5, &s.Median}, {0.9, &s.P90}, {0.95, &s.P95}, {0.99, &s.P99}} {
		*q.into = quantileOf(sorted, q.p, confidence)
		if *q.into == nil {
			need := MinSamples(q.p, confidence)
			s.Warnings = append(s.Warnings, Warning{
				Code: "few-samples", Severity: Note, Value: float64(need),
				Message: fmt.Sprintf("p%v needs at least %d samples, there are %d", round2(100*q.p), need, s.N),
			})
		}
	}
	for _, p := range []float64{0.9, 0.95, 0.99} {
		if v, ok := EarlyStopping(sorted, p, 0.99); ok {
			s.EarlyStopping = append(s.EarlyStopping, Bound{P: p, Value: v, Confidence: 0.99})
		}
	}
	return s, nil
}

func round2(v float64) float64 { return math.Round(v*100) / 100 }

func quantileOf(sorted []float64, p, confidence float64) *Quantile {
	lo, hi, ok := OrderInterval(len(sorted), p, confidence)
	if !ok {
		return nil
	}
	return &Quantile{
		P: p, Value: quantileSorted(sorted, p),
		Low: sorted[lo-1], High: sorted[hi-1],
		Confidence: binomialCDF(hi-1, len(sorted), p) - binomialCDF(lo-1, len(sorted), p),
	}
}

// OrderInterval returns the ranks lo and hi (1-based) such that the p-quantile of a continuous distribution lies between
// the lo-th and the hi-th smallest of n independent samples with at least the given confidence, each tail holding at most
// half of the rest. It is exact, whatever the distribution; ok is false where n is too small for any such pair.
func OrderInterval(n int, p, confidence float64) (lo, hi int, ok bool) {
	if n < 1 || p <= 0 || p >= 1 || confidence <= 0 || confidence >= 1 {
		return 0, 0, false
	}
	tail := (1 - confidence) / 2
	// The quantile is below the l-th smallest when fewer than l samples fall below it.
	lo = searchRank(1, n+1, func(l int) bool { return binomialCDF(l-1, n, p) > tail }) - 1
	hi = searchRank(1, n+1, func(u int) bool { return binomialUpper(u, n, p) <= tail })
	return lo, hi, lo >= 1 && hi <= n
}

// MinSamples returns the least number of samples for which OrderInterval succeeds: at 95 % it is 6 for the median, 36, 72
// and 368 for the 90th, 95th and 99th percentile. It returns 0 for arguments outside (0, 1).
func MinSamples(p, confidence float64) int {
	if p <= 0 || p >= 1 || confidence <= 0 || confidence >= 1 {
		return 0
	}
	far := max(p, 1-p)
	n := int(math.Ceil(math.Log((1-confidence)/2) / math.Log(far)))
	for n = max(n-1, 1); ; n++ {
		if _, _, ok := OrderInterval(n, p, confidence); ok {
			return n
		}
	}
}

// EarlyStopping returns MLPerf inference's early-stopping estimate of the p-quantile: an order statistic that is an upper
// bound of the true quantile with the given confidence (MLPerf takes 0.99). With n samples, t is the largest number of
// over-latency queries that n still allows; the t-1 slowest are set aside and the slowest of the rest is the estimate.
// sorted must be ascending. ok is false below the least n with t = 1: 64 for p90, 130 for p95, 662 for p99.
//
// Source: MLPerf inference rules, "early stopping criterion", tolerance d = 0.
func EarlyStopping(sorted []float64, p, confidence float64) (bound float64, ok bool) {
	n := len(sorted)
	if n == 0 || p <= 0 || p >= 1 || confidence <= 0 || confidence >= 1 {
		return 0, false
	}
	// t over-latency queries out of n are allowed when P(at most t of n over) ≤ 1 - confidence at over-probability 1 - p.
	t := searchRank(0, n+1, func(t int) bool { return binomialCDF(t, n, 1-p) > 1-confidence }) - 1
	if t < 1 {
		return 0, false
	}
	return sorted[n-t], true
}

// countOutliers counts modified z-scores above 10, the rule of hyperfine with its threshold: |x - median| > 10 × 1.4826 MAD.
// A series with no spread has none.
func countOutliers(sorted []float64) int {
	m := quantileSorted(sorted, 0.5)
	dev := make([]float64, len(sorted))
	for i, v := range sorted {
		dev[i] = math.Abs(v - m)
	}
	limit := 10 * 1.4826 * medianInPlace(slices.Clone(dev))
	if limit == 0 {
		return 0
	}
	n := 0
	for _, d := range dev {
		if d > limit {
			n++
		}
	}
	return n
}

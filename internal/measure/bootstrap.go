package measure

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Interval is a two-sided confidence interval.
type Interval struct {
	Low, High  float64
	Confidence float64
	Method     string // kebab-case: "bca-bootstrap"
}

// Contains says whether v lies in the closed interval.
func (i Interval) Contains(v float64) bool { return i.Low <= v && v <= i.High }

// Bootstrap methods.
const (
	MethodBCa         = "bca-bootstrap"
	MethodPercentile  = "percentile-bootstrap"
	MethodCluster     = "cluster-bootstrap"
	MethodProcessT    = "process-t"
	MethodDegenerate  = "degenerate"
	defaultResamples  = 2000
	defaultConfidence = 0.95
)

// BootstrapOptions says how to resample; the zero value is 2000 BCa resamples at 95 % with seed 0.
type BootstrapOptions struct {
	Seed       uint64
	Resamples  int     // 0 means 2000; at least 100
	Confidence float64 // 0 means 0.95
	Percentile bool    // plain percentile interval in place of BCa
}

func (o BootstrapOptions) filled() (BootstrapOptions, error) {
	if o.Resamples == 0 {
		o.Resamples = defaultResamples
	}
	if o.Confidence == 0 {
		o.Confidence = defaultConfidence
	}
	if o.Resamples < 100 {
		return o, fmt.Errorf("%d resamples are too few, want at least 100", o.Resamples)
	}
	if o.Confidence <= 0 || o.Confidence >= 1 {
		return o, fmt.Errorf("confidence %v is outside (0, 1)", o.Confidence)
	}
	return o, nil
}

// Bootstrap returns the interval of statistic over independent samples x, by resampling with replacement. The statistic may
// reorder the slice it is given. BCa (bias-corrected and accelerated; Efron 1987) takes its acceleration from the jackknife,
// so it costs len(x) evaluations more. It errs on fewer than two samples and on a statistic that is not a number.
func Bootstrap(x []float64, statistic func([]float64) float64, o BootstrapOptions) (Interval, error) {
	o, err := o.filled()
	if err != nil {
		return Interval{}, err
	}
	n := len(x)
	if n < 2 {
		return Interval{}, fmt.Errorf("%d samples are too few to bootstrap, want at least 2", n)
	}
	work := slices.Clone(x)
	estimate := statistic(work)
	if math.IsNaN(estimate) {
		return Interval{}, fmt.Errorf("the statistic of the samples is not a number")
	}
	rng := rand.New(rand.NewPCG(o.Seed, 0x626f6f74))
	replicates := make([]float64, o.Resamples)
	for b := range replicates {
		for i := range work {
			work[i] = x[rng.IntN(n)]
		}
		replicates[b] = statistic(work)
		if math.IsNaN(replicates[b]) {
			return Interval{}, fmt.Errorf("the statistic of resample %d is not a number", b)
		}
	}
	slices.Sort(replicates)
	tail := (1 - o.Confidence) / 2
	lo, hi, method := tail, 1-tail, MethodPercentile
	if !o.Percentile {
		lo, hi = bcaLevels(x, statistic, replicates, estimate, tail)
		method = MethodBCa
	}
	return Interval{
		Low: replicateQuantile(replicates, lo), High: replicateQuantile(replicates, hi),
		Confidence: o.Confidence, Method: method,
	}, nil
}

// bcaLevels returns the two percentiles of the replicates between which the BCa interval lies.
func bcaLevels(x []float64, statistic func([]float64) float64, sorted []float64, estimate, tail float64) (lo, hi float64) {
	below, _ := slices.BinarySearch(sorted, estimate)
	above := searchRank(below, len(sorted), func(i int) bool { return sorted[i] > estimate })
	share := (float64(below) + float64(above-below)/2) / float64(len(sorted))
	if share <= 0 || share >= 1 {
		return tail, 1 - tail
	}
	z0 := normalQuantile(share)
	a := jackknifeAcceleration(x, statistic)
	level := func(z float64) float64 { return normalCDF(z0 + (z0+z)/(1-a*(z0+z))) }
	z := normalQuantile(1 - tail)
	return level(-z), level(z)
}

func jackknifeAcceleration(x []float64, statistic func([]float64) float64) float64 {
	n := len(x)
	leave := make([]float64, n)
	work := make([]float64, n-1)
	for i := range x {
		copy(work, x[:i])
		copy(work[i:], x[i+1:])
		leave[i] = statistic(work)
	}
	m := mean(leave)
	var square, cube float64
	for _, v := range leave {
		d := m - v
		square += d * d
		cube += d * d * d
	}
	if square == 0 || math.IsNaN(square) {
		return 0
	}
	return cube / (6 * math.Pow(square, 1.5))
}

// replicateQuantile takes the p-quantile as the p(B+1)-th smallest replicate, interpolated.
func replicateQuantile(sorted []float64, p float64) float64 {
	h := p*float64(len(sorted)+1) - 1
	switch i := int(math.Floor(h)); {
	case i < 0:
		return sorted[0]
	case i >= len(sorted)-1:
		return sorted[len(sorted)-1]
	default:
		return sorted[i] + (h-float64(i))*(sorted[i+1]-sorted[i])
	}
}

package score

import (
	"math"
	"math/rand/v2"
	"slices"
)

// A bootstrap here gives each sample a weight drawn from Poisson(1) in each replicate, instead of drawing samples with
// replacement: the weights of a sample do not depend on how many others there are, so that sums over replicates can be kept while
// samples stream by. Both models share the weights, which makes it paired.
//
// Source: N. Chamandy and others, Estimating uncertainty for massive data streams, Google technical report (2012).

// poissonTable is the distribution function of Poisson(1).
var poissonTable = func() (table [16]float64) {
	p, sum := math.Exp(-1), 0.0
	for k := range table {
		sum += p
		table[k] = sum
		p /= float64(k + 1)
	}
	return table
}()

func poisson(rng *rand.Rand) uint8 {
	u := rng.Float64()
	k := 0
	for k < len(poissonTable)-1 && u > poissonTable[k] {
		k++
	}
	return uint8(k)
}

// sampleWeights fills into with the weights of a sample in all replicates.
func sampleWeights(into []uint8, seed uint64, sample int) []uint8 {
	rng := rand.New(rand.NewPCG(seed, uint64(sample)))
	for r := range into {
		into[r] = poisson(rng)
	}
	return into
}

// draws are a metric between 0 and 1 of both models in each replicate; NaN where it has no value there.
type draws struct{ baseline, candidate []float64 }

func newDraws(n int) draws { return draws{make([]float64, n), make([]float64, n)} }

// paired turns an estimate and its replicates over n samples into a comparison. moved is how many samples differ between the two
// models at all. Intervals are percentiles of the differences, at levels widened for small n as Student's t is against the
// normal distribution; where these lie beyond the replicates, the standard deviation of the replicates is used.
//
// Source: T. Hesterberg, What teachers should know about the bootstrap, The American Statistician 69 (2015), section 5.
func (d draws) paired(metric string, confidence, baseline, candidate float64, n, moved int) Paired {
	p := Paired{
		Metric: metric, Confidence: confidence, Method: "paired-bootstrap", N: n, Clusters: n,
		Baseline: baseline, Candidate: candidate, Delta: candidate - baseline,
		Ratio: math.NaN(), RatioLow: math.NaN(), RatioHigh: math.NaN(),
	}
	var delta, ratio []float64
	for r, b := range d.baseline {
		c := d.candidate[r]
		if math.IsNaN(b) || math.IsNaN(c) {
			continue
		}
		delta = append(delta, c-b)
		if b > 0 {
			ratio = append(ratio, c/b)
		}
	}
	floor := 0.0
	if moved < fewMoved {
		floor = unseen(n, confidence)
	}
	if n < 2 || len(delta) < 2 {
		p.spread(math.Inf(1), n)
		return p
	}
	sd := deviation(delta)
	p.spread(max(floor, studentQuantile((1+confidence)/2, float64(n-1))*sd), n)
	if floor > 0 {
		p.rarely(moved, n)
	}
	low, high := expanded(delta, confidence, n)
	if floor == 0 && low <= p.Delta && p.Delta <= high {
		p.Low, p.High = low, high
	} else {
		p.Low, p.High = min(p.Low, low), max(p.High, high)
	}
	p.Low, p.High = max(-1, p.Low), min(1, p.High)
	if baseline > 0 && len(ratio) > 1 {
		p.Ratio = candidate / baseline
		p.RatioLow, p.RatioHigh = expanded(ratio, confidence, n)
		p.RatioLow, p.RatioHigh = min(p.RatioLow, p.Ratio), max(p.RatioHigh, p.Ratio)
		if floor > 0 {
			p.RatioLow, p.RatioHigh = min(p.RatioLow, 1-floor/baseline), max(p.RatioHigh, 1+floor/baseline)
		}
		p.RatioLow = max(0, p.RatioLow)
	}
	return p
}

// expanded returns the percentile interval of the replicates over n samples, at the widened level.
func expanded(values []float64, confidence float64, n int) (low, high float64) {
	sorted := slices.Sorted(slices.Values(values))
	t := studentQuantile((1+confidence)/2, float64(n-1))
	tail := normalTail(t * math.Sqrt(float64(n)/float64(n-1)))
	if tail*float64(len(sorted)) < 5 {
		mean, half := mean(sorted), t*deviation(sorted)
		return mean - half, mean + half
	}
	at := func(p float64) float64 {
		x := p*float64(len(sorted)+1) - 1
		i := int(math.Floor(x))
		if i < 0 {
			return sorted[0]
		}
		if i >= len(sorted)-1 {
			return sorted[len(sorted)-1]
		}
		return sorted[i] + (x-float64(i))*(sorted[i+1]-sorted[i])
	}
	return at(tail), at(1 - tail)
}

func normalTail(z float64) float64 { return math.Erfc(z/math.Sqrt2) / 2 }

func mean(v []float64) float64 {
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}

// deviation is the standard deviation with n-1; 0 for fewer than two values.
func deviation(v []float64) float64 {
	if len(v) < 2 {
		return 0
	}
	m, sum := mean(v), 0.0
	for _, x := range v {
		sum += (x - m) * (x - m)
	}
	return math.Sqrt(sum / float64(len(v)-1))
}

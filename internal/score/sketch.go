package score

import "math"

// sketch is a histogram of non-negative values on a logarithmic scale, from which quantiles are read within 1 %.
type sketch struct {
	n       int
	buckets map[int]int
}

const sketchBase = 1.02

func (s *sketch) add(v float64) {
	if s.buckets == nil {
		s.buckets = map[int]int{}
	}
	s.n++
	s.buckets[int(math.Ceil(math.Log(min(max(v, 1e-15), 1e15))/math.Log(sketchBase)))]++
}

// quantile returns the nearest-rank p-quantile; values up to 1e-15 are given as 0.
func (s *sketch) quantile(p float64) float64 {
	need := int(math.Ceil(p * float64(s.n)))
	lowest := int(math.Ceil(math.Log(1e-15) / math.Log(sketchBase)))
	highest := int(math.Ceil(math.Log(1e15) / math.Log(sketchBase)))
	for b := lowest; b <= highest; b++ {
		if need -= s.buckets[b]; need <= 0 {
			if b == lowest {
				return 0
			}
			return 2 * math.Pow(sketchBase, float64(b)) / (1 + sketchBase)
		}
	}
	return 0
}

package report

import (
	"math"
	"slices"
)

// NewHistogram counts two series of run times, in milliseconds, over the same equally wide bins.
// The bins reach from the smallest time to the 99th percentile of both series together, so that a few stragglers do not flatten
// the picture; later times are counted as above. Times that are not finite are ignored. It returns nil when either series is empty
// or bins < 1.
func NewHistogram(baseline, candidate []float64, bins int) *Histogram {
	all := slices.DeleteFunc(slices.Concat(baseline, candidate), func(v float64) bool { return !isFinite(v) })
	if len(baseline) == 0 || len(candidate) == 0 || len(all) == 0 || bins < 1 {
		return nil
	}
	slices.Sort(all)
	lo, hi := all[0], all[(len(all)-1)*99/100]
	// The last bin is half open: push its edge just past the percentile, which itself belongs inside.
	if width := (hi - lo) / float64(bins); width > 0 {
		hi += width * 1e-6
	} else {
		hi = lo + max(math.Abs(lo)*1e-3, 1e-6)
	}
	h := &Histogram{EdgesMS: make([]float64, bins+1), Baseline: make([]int, bins), Candidate: make([]int, bins)}
	for i := range h.EdgesMS {
		h.EdgesMS[i] = lo + (hi-lo)*float64(i)/float64(bins)
	}
	h.BaselineAbove = h.count(baseline, h.Baseline)
	h.CandidateAbove = h.count(candidate, h.Candidate)
	return h
}

// count adds the times to the bins and returns how many lie at or beyond the last edge.
func (h *Histogram) count(times []float64, bins []int) (above int) {
	last := h.EdgesMS[len(h.EdgesMS)-1]
	for _, t := range times {
		switch {
		case !isFinite(t):
		case t >= last:
			above++
		default:
			i, exact := slices.BinarySearch(h.EdgesMS, t)
			if !exact {
				i--
			}
			bins[min(max(i, 0), len(bins)-1)]++
		}
	}
	return above
}

// Package measuretest holds the test by which benchmarks are mostly compared, for tests that hold ours beside it.
package measuretest

import (
	"cmp"
	"math"
	"slices"
)

// MannWhitney returns the two-sided p value of the rank-sum test, by the normal distribution with corrections for ties and continuity.
func MannWhitney(a, b []float64) float64 {
	type value struct {
		v     float64
		first bool
	}
	var all []value
	for _, v := range a {
		all = append(all, value{v, true})
	}
	for _, v := range b {
		all = append(all, value{v, false})
	}
	slices.SortFunc(all, func(x, y value) int { return cmp.Compare(x.v, y.v) })
	n1, n2 := float64(len(a)), float64(len(b))
	n := n1 + n2
	ranks, ties := 0.0, 0.0
	for i := 0; i < len(all); {
		j := i
		for j < len(all) && all[j].v == all[i].v {
			j++
		}
		rank := float64(i+j+1) / 2
		for _, x := range all[i:j] {
			if x.first {
				ranks += rank
			}
		}
		t := float64(j - i)
		ties += t*t*t - t
		i = j
	}
	u := ranks - n1*(n1+1)/2
	sd := math.Sqrt(n1 * n2 / 12 * (n + 1 - ties/(n*(n-1))))
	if sd == 0 {
		return 1
	}
	z := max(0, math.Abs(u-n1*n2/2)-0.5) / sd
	return math.Erfc(z / math.Sqrt2)
}

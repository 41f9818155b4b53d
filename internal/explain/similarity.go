package explain

import (
	"cmp"
	"math"
	"slices"
)

// Spearman returns the rank correlation of two maps of equal length, ties sharing their mean rank. It is exactly 1 for maps that
// rank alike. ok is false where a map is constant and no correlation exists.
func Spearman(a, b []float64) (rho float64, ok bool) {
	if constant(a) || constant(b) {
		return 0, false
	}
	x, y := midRanks(a), midRanks(b)
	if slices.Equal(x, y) {
		return 1, true
	}
	m := float64(len(a)+1) / 2
	var xy, xx, yy float64
	for i := range x {
		xy += (x[i] - m) * (y[i] - m)
		xx += (x[i] - m) * (x[i] - m)
		yy += (y[i] - m) * (y[i] - m)
	}
	return max(-1, min(1, xy/math.Sqrt(xx*yy))), true
}

func constant(a []float64) bool {
	for _, v := range a {
		if v != a[0] {
			return false
		}
	}
	return true
}

func midRanks(a []float64) []float64 {
	order := ascending(a)
	ranks := make([]float64, len(a))
	for i := 0; i < len(order); {
		j := i
		for j < len(order) && a[order[j]] == a[order[i]] {
			j++
		}
		for _, k := range order[i:j] {
			ranks[k] = float64(i+j+1) / 2
		}
		i = j
	}
	return ranks
}

func ascending(a []float64) []int {
	order := make([]int, len(a))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(a[i], a[j]) })
	return order
}

// top returns the k features of largest magnitude, of equal ones the first.
func top(a []float64, k int) []int {
	order := make([]int, len(a))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(math.Abs(a[j]), math.Abs(a[i])) })
	return order[:min(k, len(order))]
}

// TopJaccard returns |A ∩ B| / |A ∪ B| of the k features of largest magnitude in each map.
func TopJaccard(a, b []float64, k int) float64 {
	x, y := top(a, k), top(b, k)
	shared := 0
	for _, i := range x {
		if slices.Contains(y, i) {
			shared++
		}
	}
	return float64(shared) / float64(len(x)+len(y)-shared)
}

// SignAgreement returns the share of the features among the k largest of either map whose attributions have the same sign.
func SignAgreement(a, b []float64, k int) float64 {
	union := top(a, k)
	for _, i := range top(b, k) {
		if !slices.Contains(union, i) {
			union = append(union, i)
		}
	}
	same := 0
	for _, i := range union {
		if cmp.Compare(a[i], 0) == cmp.Compare(b[i], 0) {
			same++
		}
	}
	return float64(same) / float64(len(union))
}

// Cosine returns the cosine between two maps: exactly 1 for equal ones, 0 where one of them is all zero.
func Cosine(a, b []float64) float64 {
	if slices.Equal(a, b) {
		return 1
	}
	var ab, aa, bb float64
	for i := range a {
		ab += a[i] * b[i]
		aa += a[i] * a[i]
		bb += b[i] * b[i]
	}
	if aa == 0 || bb == 0 {
		return 0
	}
	return max(-1, min(1, ab/math.Sqrt(aa)/math.Sqrt(bb)))
}

// MassDisplacement returns the total variation distance between the maps' shares of importance, |a| / Σ|a|: 0 for the same
// distribution, 1 for maps that share no feature. An all-zero map is taken to spread its mass evenly.
func MassDisplacement(a, b []float64) float64 {
	x, y := shares(a), shares(b)
	sum := 0.0
	for i := range x {
		sum += math.Abs(x[i] - y[i])
	}
	return min(1, sum/2)
}

func shares(a []float64) []float64 {
	out := make([]float64, len(a))
	total := 0.0
	for _, v := range a {
		total += math.Abs(v)
	}
	for i, v := range a {
		out[i] = 1 / float64(len(a))
		if total > 0 {
			out[i] = math.Abs(v) / total
		}
	}
	return out
}

// ArgmaxDistance returns the Euclidean distance, in cells, between the features of largest magnitude of two maps with rows of cols
// cells; of several, between the nearest ones.
func ArgmaxDistance(a, b []float64, cols int) float64 {
	nearest := math.Inf(1)
	for _, i := range peaks(a) {
		for _, j := range peaks(b) {
			nearest = min(nearest, math.Hypot(float64(i/cols-j/cols), float64(i%cols-j%cols)))
		}
	}
	return nearest
}

// peaks returns the features of the largest magnitude.
func peaks(a []float64) []int {
	var out []int
	top := largest(a)
	for i, v := range a {
		if math.Abs(v) == top {
			out = append(out, i)
		}
	}
	return out
}

package measure

import (
	"math"
	"slices"
	"sort"

	"gonum.org/v1/gonum/mathext"
)

// binomialCDF returns P(X ≤ k) for X binomial with n trials of probability p, by the regularized incomplete beta function.
func binomialCDF(k, n int, p float64) float64 {
	switch {
	case k < 0:
		return 0
	case k >= n:
		return 1
	}
	return mathext.RegIncBeta(float64(n-k), float64(k+1), 1-p)
}

// binomialUpper returns P(X ≥ k), accurate where the upper tail is tiny.
func binomialUpper(k, n int, p float64) float64 {
	switch {
	case k <= 0:
		return 1
	case k > n:
		return 0
	}
	return mathext.RegIncBeta(float64(k), float64(n-k+1), p)
}

// studentQuantile returns the p-quantile of Student's t with df degrees of freedom, 0 < p < 1, df > 0.
func studentQuantile(p, df float64) float64 {
	if p == 0.5 {
		return 0
	}
	tail := 2 * min(p, 1-p)
	x := mathext.InvRegIncBeta(df/2, 0.5, tail)
	t := math.Sqrt(df * (1 - x) / x)
	if p < 0.5 {
		return -t
	}
	return t
}

func normalCDF(z float64) float64 { return math.Erfc(-z/math.Sqrt2) / 2 }

func normalQuantile(p float64) float64 { return mathext.NormalQuantile(p) }

// quantileSorted interpolates linearly between order statistics (R's type 7, NumPy's default).
func quantileSorted(sorted []float64, p float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	h := p * float64(len(sorted)-1)
	i := int(h)
	if i >= len(sorted)-1 {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + (h-float64(i))*(sorted[i+1]-sorted[i])
}

// Median returns the middle of x, the mean of the two middle ones when their number is even; NaN when x is empty.
// x is left as it was.
func Median(x []float64) float64 {
	s := slices.Clone(x)
	return medianInPlace(s)
}

// medianInPlace is Median that may reorder x: quickselect, linear on average.
func medianInPlace(x []float64) float64 {
	n := len(x)
	if n == 0 {
		return math.NaN()
	}
	if n <= 12 {
		slices.Sort(x)
		return (x[(n-1)/2] + x[n/2]) / 2
	}
	k := n / 2
	selectRank(x, k)
	if n%2 == 1 {
		return x[k]
	}
	return (slices.Max(x[:k]) + x[k]) / 2
}

// selectRank reorders x so that x[k] is what sorting would put there, with nothing larger before it.
func selectRank(x []float64, k int) {
	lo, hi := 0, len(x)-1
	for lo < hi {
		a, b, c := x[lo], x[(lo+hi)/2], x[hi]
		pivot := max(min(a, b), min(max(a, b), c))
		i, j := lo, hi
		for i <= j {
			for x[i] < pivot {
				i++
			}
			for x[j] > pivot {
				j--
			}
			if i <= j {
				x[i], x[j] = x[j], x[i]
				i++
				j--
			}
		}
		switch {
		case k <= j:
			hi = j
		case k >= i:
			lo = i
		default:
			return
		}
	}
}

func mean(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v
	}
	return sum / float64(len(x))
}

// variance is the unbiased sample variance; 0 for fewer than two values.
func variance(x []float64) float64 {
	if len(x) < 2 {
		return 0
	}
	m, sum := mean(x), 0.0
	for _, v := range x {
		sum += (v - m) * (v - m)
	}
	return sum / float64(len(x)-1)
}

// searchRank returns the smallest k in [lo, hi) for which ok(k), else hi. ok must be monotone.
func searchRank(lo, hi int, ok func(int) bool) int {
	return lo + sort.Search(hi-lo, func(i int) bool { return ok(lo + i) })
}

package score

import (
	"cmp"
	"math"
	"slices"

	"gonum.org/v1/gonum/mathext"
)

func normalQuantile(p float64) float64 { return mathext.NormalQuantile(p) }

// studentQuantile returns the p-quantile of Student's t, 0.5 < p < 1.
func studentQuantile(p, df float64) float64 {
	x := mathext.InvRegIncBeta(df/2, 0.5, 2*(1-p))
	return math.Sqrt(df * (1 - x) / x)
}

// Tango returns Tango's score interval for the difference of two paired proportions, (gains - losses)/n, where gains and
// losses count the pairs in which only the second or only the first succeeded. It holds its level where these are few or
// none: 0 of n gives ± z²/(n+z²), not an interval of no width.
//
// Source: T. Tango, Equivalence test and confidence interval for the difference in proportions for the paired-sample
// design, Statistics in Medicine 17 (1998).
func Tango(gains, losses, n int, confidence float64) (low, high float64) {
	if n <= 0 {
		return -1, 1
	}
	z := normalQuantile((1 + confidence) / 2)
	estimate := float64(gains-losses) / float64(n)
	// The score falls from +∞ to -∞ as the hypothetical difference goes from -1 to 1.
	solve := func(target, lo, hi float64) float64 {
		for range 100 {
			mid := (lo + hi) / 2
			if mid == lo || mid == hi {
				break
			}
			if tangoScore(mid, gains, losses, n) > target {
				lo = mid
			} else {
				hi = mid
			}
		}
		return (lo + hi) / 2
	}
	return solve(z, -1, estimate), solve(-z, estimate, 1)
}

// tangoScore is the standardized distance of gains - losses from n·delta under the maximum-likelihood estimate of the
// nuisance parameter, the probability of a loss.
func tangoScore(delta float64, gains, losses, n int) float64 {
	b, c, m := float64(gains), float64(losses), float64(n)
	linear := -b - c + (2*m-b+c)*delta
	constant := -c * delta * (1 - delta)
	loss := (math.Sqrt(max(0, linear*linear-8*m*constant)) - linear) / (4 * m)
	d := b - c - m*delta
	v := m * (2*loss + delta*(1-delta))
	if v <= 0 {
		return math.Copysign(math.Inf(1), d)
	}
	return d / math.Sqrt(v)
}

// McNemar returns the exact two-sided p-value that gains and losses are equally likely: a binomial test of the discordant
// pairs. It is 1 when there are none.
func McNemar(gains, losses int) float64 {
	n := gains + losses
	k := min(gains, losses)
	if n == 0 || 2*k >= n {
		return 1
	}
	return min(1, 2*mathext.RegIncBeta(float64(n-k), float64(k+1), 0.5))
}

// Holm returns p-values adjusted for multiple testing by Holm's step-down procedure, in the order given.
func Holm(p []float64) []float64 {
	order := make([]int, len(p))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(p[a], p[b]) })
	adjusted := make([]float64, len(p))
	running := 0.0
	for rank, i := range order {
		running = max(running, min(1, float64(len(p)-rank)*p[i]))
		adjusted[i] = running
	}
	return adjusted
}

// ClopperPearson returns the exact interval of a proportion, k successes of n.
func ClopperPearson(k, n int, confidence float64) (low, high float64) {
	tail := (1 - confidence) / 2
	low, high = 0, 1
	if k > 0 {
		low = mathext.InvRegIncBeta(float64(k), float64(n-k+1), tail)
	}
	if k < n {
		high = mathext.InvRegIncBeta(float64(k+1), float64(n-k), 1-tail)
	}
	return low, high
}

// power factor of a one-sided test at 5 % with 80 % power.
func planFactor() float64 { return normalQuantile(0.95) + normalQuantile(0.8) }

// Required returns how many paired samples show, with 80 % power at one-sided 5 %, that an accuracy is not worse by margin,
// when the two models disagree in correctness on the share psi of samples and are in truth equally good:
// (z_0.95 + z_0.8)² psi / margin². Where hardly any disagree, it is the number from which on [Tango]'s 95 % interval of no disagreement
// at all is within the margin: z_0.975² (1/margin - 1).
func Required(psi, margin float64) int {
	if !(psi > 0) || !(margin > 0) {
		return 0
	}
	return requiredAtLeast(math.Pow(planFactor()/margin, 2)*psi, margin)
}

func requiredAtLeast(n, margin float64) int {
	z := normalQuantile(0.975)
	return int(min(math.Ceil(max(n, z*z*(1/margin-1))), math.MaxInt32))
}

// Detectable is the inverse of Required: the smallest margin that n paired samples can show.
func Detectable(psi float64, n int) float64 {
	if n <= 0 {
		return math.Inf(1)
	}
	return max(planFactor()*math.Sqrt(psi/float64(n)), unseen(n, 0.95))
}

// discordance estimates the share of discordant pairs, away from 0 where none was seen (Jeffreys' prior).
func discordance(gains, losses, n int) float64 {
	return (float64(gains+losses) + 0.5) / (float64(n) + 1)
}

// moments holds the sums and the sums of products of a few variables, one vector per cluster, for standard errors by
// linearization (delta method). Clusters, not the items within them, are taken to be independent.
type moments struct {
	n     int
	sum   []float64
	cross []float64 // row-major, len(sum) squared
}

func (m *moments) add(x ...float64) {
	if m.sum == nil {
		m.sum = make([]float64, len(x))
		m.cross = make([]float64, len(x)*len(x))
	}
	m.n++
	for i, a := range x {
		m.sum[i] += a
		for j, b := range x {
			m.cross[i*len(x)+j] += a * b
		}
	}
}

func (m *moments) at(i int) float64 {
	if m.sum == nil {
		return 0
	}
	return m.sum[i]
}

// half returns the half-width of the t interval for a function of the sums whose gradient is given; +Inf for fewer than two
// clusters.
func (m *moments) half(confidence float64, gradient ...float64) float64 {
	if m.n < 2 {
		return math.Inf(1)
	}
	n := float64(m.n)
	var square, linear float64
	for i, a := range gradient {
		linear += a * m.sum[i]
		for j, b := range gradient {
			square += a * b * m.cross[i*len(gradient)+j]
		}
	}
	v := max(0, square-linear*linear/n) * n / (n - 1)
	return studentQuantile((1+confidence)/2, n-1) * math.Sqrt(v)
}

package score

import "math"

// RatioOfProportions returns the score interval of the ratio p2/p1 of two paired proportions, of which both succeeded in both
// of n pairs, only the second in gains, and only the first in losses. Like [Tango], it keeps its level where few pairs differ:
// with none it is [b/(b+z²), (b+z²)/b]. The ends are 0 and +Inf where the first, or the second, never succeeded.
//
// Source: J. Nam and W. Blackwelder, Analysis of the ratio of marginal probabilities in a matched-pair setting, Statistics in
// Medicine 21 (2002); N. Tang, M. Tang and I. Chan, On tests of equivalence via non-unity relative risk for matched-pair
// design, Statistics in Medicine 22 (2003).
func RatioOfProportions(both, gains, losses, n int, confidence float64) (low, high float64) {
	first, second := both+losses, both+gains
	if n <= 0 || first == 0 && second == 0 {
		return 0, math.Inf(1)
	}
	z := normalQuantile((1 + confidence) / 2)
	estimate := math.Inf(1)
	if first > 0 {
		estimate = float64(second) / float64(first)
	}
	// On the scale of ratio/(1+ratio) both ends are in (0, 1), and the score falls from one to the other.
	solve := func(target, lo, hi float64) float64 {
		for range 200 {
			mid := (lo + hi) / 2
			if mid == lo || mid == hi {
				break
			}
			if ratioScore(mid/(1-mid), both, gains, losses, n) > target {
				lo = mid
			} else {
				hi = mid
			}
		}
		mid := (lo + hi) / 2
		return mid / (1 - mid)
	}
	at := 1.0
	if !math.IsInf(estimate, 1) {
		at = estimate / (1 + estimate)
	}
	low, high = 0, math.Inf(1)
	if second > 0 {
		low = solve(z, 0, at)
	}
	if first > 0 {
		high = solve(-z, at, 1)
	}
	return low, high
}

// ratioScore is the standardized distance of second - theta·first from 0, with the variance theta·(p10+p01)·n under the
// hypothesis, whose probabilities are the constrained maximum-likelihood estimates.
func ratioScore(theta float64, both, gains, losses, n int) float64 {
	d := float64(both+gains) - theta*float64(both+losses)
	discordant := constrainedDiscordance(theta, float64(both), float64(gains), float64(losses), float64(n))
	v := theta * discordant * float64(n)
	if v <= 0 {
		if d == 0 {
			return 0
		}
		return math.Copysign(math.Inf(1), d)
	}
	return d / math.Sqrt(v)
}

// constrainedDiscordance maximizes the likelihood of the four cells under p11 + p10 = theta (p11 + p01), by the multiplier mu of
// the constraint: p11 = both/(n+mu(1-theta)), p10 = gains/(n+mu), p01 = losses/(n-mu·theta). It returns p10 + p01. Where gains
// or losses are 0, their probability may still be positive, at the end of mu's range.
func constrainedDiscordance(theta, both, gains, losses, n float64) float64 {
	lo, hi := -n, n/theta // where p10 and p01 become infinite
	if theta > 1 {
		hi = min(hi, n/(theta-1))
	} else if theta < 1 {
		lo = max(lo, -n/(1-theta))
	}
	cell := func(x, denominator float64) float64 {
		if x == 0 {
			return 0
		}
		return x / denominator
	}
	excess := func(mu float64) float64 {
		return (1-theta)*cell(both, n+mu*(1-theta)) + cell(gains, n+mu) - theta*cell(losses, n-mu*theta)
	}
	a, b := lo, hi
	for range 200 {
		mid := (a + b) / 2
		if mid == a || mid == b {
			break
		}
		if excess(mid) > 0 {
			a = mid
		} else {
			b = mid
		}
	}
	mu := (a + b) / 2
	p11 := cell(both, n+mu*(1-theta))
	p10, p01 := cell(gains, n+mu), cell(losses, n-mu*theta)
	if gains == 0 {
		p10 = max(0, theta*p01-(1-theta)*p11)
	}
	if losses == 0 {
		p01 = max(0, ((1-theta)*p11+p10)/theta)
	}
	return p10 + p01
}

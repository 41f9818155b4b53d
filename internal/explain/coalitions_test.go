package explain

import (
	"math"
	"math/rand/v2"
	"testing"
)

// The sampler holds its promises for all numbers of features and of coalitions: it never fails (as for some in shap#558), gives no
// more coalitions than asked for, each once and with its complement, none empty or full, and their weights are the kernel's.
func TestCoalitionsForAllSizes(t *testing.T) {
	budgets := []int{1, 2, 3, 5, 8, 13, 14, 30, 31, 62, 64, 100, 254, 255, 256, 700, 2500}
	for m := 2; m <= 40; m++ {
		for _, n := range budgets {
			checkCoalitions(t, m, n, drawCoalitions(m, n, rand.New(rand.NewPCG(uint64(m), uint64(n)))))
		}
	}
}

func checkCoalitions(t *testing.T, m, n int, c *coalitions) {
	t.Helper()
	if len(c.list) > max(n, 2) || len(c.list) == 0 {
		t.Fatalf("%d features, %d asked for: got %d", m, n, len(c.list))
	}
	total := 0.0
	bySize := make([]float64, m)
	seen := map[string]bool{}
	for _, z := range c.list {
		size := 0
		for _, in := range z.in {
			if in {
				size++
			}
		}
		if size == 0 || size == m || seen[key(z.in)] || !(z.weight > 0) {
			t.Fatalf("%d features, %d asked for: coalition %v of weight %v", m, n, z.in, z.weight)
		}
		seen[key(z.in)] = true
		total += z.weight
		bySize[size] += z.weight
	}
	for _, z := range c.list {
		if !seen[key(complement(z.in))] {
			t.Fatalf("%d features, %d asked for: %v is without its complement", m, n, z.in)
		}
	}
	all := len(c.list) == 1<<min(m, 20)-2
	if (c.draws > 0 || all) && math.Abs(total-1) > 1e-9 {
		t.Errorf("%d features, %d asked for: weights add up to %v", m, n, total)
	}
	if float64(n) >= math.Exp2(float64(m))-2 && !all {
		t.Errorf("%d features, %d asked for: got %d, want all", m, n, len(c.list))
	}
	kernel, sum := make([]float64, m), 0.0
	for s := 1; s < m; s++ {
		kernel[s] = float64(m-1) / float64(s*(m-s))
		sum += kernel[s]
	}
	for s := 1; all && s < m; s++ {
		if math.Abs(bySize[s]-kernel[s]/sum) > 1e-9 {
			t.Errorf("%d features: size %d has weight %v, the kernel %v", m, s, bySize[s], kernel[s]/sum)
		}
	}
}

// Sizes are drawn by the kernel: over many draws each size gets its weight.
func TestCoalitionSizes(t *testing.T) {
	const m, rounds = 9, 400
	bySize := make([]float64, m)
	for seed := range uint64(rounds) {
		for _, z := range drawCoalitions(m, 40, rand.New(rand.NewPCG(seed, 1))).list {
			size := 0
			for _, in := range z.in {
				if in {
					size++
				}
			}
			bySize[size] += z.weight / rounds
		}
	}
	sum := 0.0
	for s := 1; s < m; s++ {
		sum += float64(m-1) / float64(s*(m-s))
	}
	for s := 1; s < m; s++ {
		if want := float64(m-1) / float64(s*(m-s)) / sum; math.Abs(bySize[s]-want) > 0.1*want {
			t.Errorf("size %d has weight %.4f, want %.4f", s, bySize[s], want)
		}
	}
}

// With all subsets the least squares fit is Shapley's formula.
func TestFitOfAllIsShapley(t *testing.T) {
	const m = 6
	rng := rand.New(rand.NewPCG(5, 6))
	v := make([]float64, 1<<m)
	for i := range v {
		v[i] = rng.NormFloat64()
	}
	c := drawCoalitions(m, 1<<m, rng)
	at := func(in []bool) (set int) {
		for i, b := range in {
			if b {
				set |= 1 << i
			}
		}
		return set
	}
	worth, weights := make([]float64, len(c.list)), make([]float64, len(c.list))
	for i, z := range c.list {
		worth[i], weights[i] = v[at(z.in)], z.weight
	}
	got, err := fit(c, weights, worth, v[0], v[1<<m-1])
	if err != nil {
		t.Fatal(err)
	}
	want := shapley(m, v)
	for i := range want {
		if math.Abs(got[i]-want[i]) > 1e-9 {
			t.Errorf("feature %d: got %v, want %v", i, got[i], want[i])
		}
	}
}

// shapley averages the marginal contributions over all orders of the players: the definition.
func shapley(m int, v []float64) []float64 {
	phi, orders := make([]float64, m), 0.0
	var walk func(set int)
	var path []int
	walk = func(set int) {
		if len(path) == m {
			orders++
			at := 0
			for _, i := range path {
				phi[i] += v[at|1<<i] - v[at]
				at |= 1 << i
			}
			return
		}
		for i := range m {
			if set>>i&1 == 0 {
				path = append(path, i)
				walk(set | 1<<i)
				path = path[:len(path)-1]
			}
		}
	}
	walk(0)
	for i := range phi {
		phi[i] /= orders
	}
	return phi
}

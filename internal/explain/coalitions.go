package explain

import (
	"math"
	"math/rand/v2"
)

// coalition is a proper, non-empty subset of the features with its weight in the fit.
type coalition struct {
	in     []bool
	weight float64
	draws  []int // which draws it came from; nil where all subsets of its size are there
}

// coalitions are subsets of m features that stand for all of them under the Shapley kernel.
type coalitions struct {
	list  []coalition
	draws int     // subsets drawn, in pairs of one draw number
	drawn float64 // weight that is spread over the draws
}

// drawCoalitions returns at most max(n, 2) coalitions of m ≥ 2 features. The kernel gives all subsets of a size s together the
// weight (m-1)/(s(m-s)). Sizes are enumerated from both ends inwards while all subsets of s and m-s features fit; of the sizes that
// are left, sizes are drawn by that weight, and subsets uniformly, each with its complement, which halves the variance (Covert and
// Lee, "Improving KernelSHAP", 2021). A subset that is drawn again counts again.
func drawCoalitions(m, n int, rng *rand.Rand) *coalitions {
	half := m / 2
	weights, total := make([]float64, half+1), 0.0
	for s := 1; s <= half; s++ {
		weights[s] = float64(m-1) / float64(s*(m-s))
		if s != m-s {
			weights[s] *= 2
		}
		total += weights[s]
	}
	for s := range weights {
		weights[s] /= total
	}
	c := &coalitions{}
	s := 1
	for ; s <= half; s++ {
		count := choose(m, s)
		if s != m-s {
			count *= 2
		}
		if float64(len(c.list))+count > float64(n) {
			break
		}
		c.enumerate(m, s, weights[s]/count)
	}
	if s > half || len(c.list) > 0 && n-len(c.list) < 2 {
		return c
	}
	c.draw(m, s, weights, max(n-len(c.list), 2)/2, rng)
	return c
}

// choose is the number of subsets of s among m.
func choose(m, s int) float64 {
	c := 1.0
	for i := range s {
		c = c * float64(m-i) / float64(i+1)
	}
	return math.Round(c)
}

// enumerate adds every subset of s features, and of m-s, which are their complements.
func (c *coalitions) enumerate(m, s int, weight float64) {
	at := make([]int, s)
	for i := range at {
		at[i] = i
	}
	for {
		in := make([]bool, m)
		for _, i := range at {
			in[i] = true
		}
		c.list = append(c.list, coalition{in: in, weight: weight})
		if s != m-s {
			c.list = append(c.list, coalition{in: complement(in), weight: weight})
		}
		i := s - 1
		for i >= 0 && at[i] == m-s+i {
			i--
		}
		if i < 0 {
			return
		}
		at[i]++
		for j := i + 1; j < s; j++ {
			at[j] = at[j-1] + 1
		}
	}
}

// draw adds up to pairs distinct pairs of subsets of sizes from least on.
func (c *coalitions) draw(m, least int, weights []float64, pairs int, rng *rand.Rand) {
	for _, w := range weights[least:] {
		c.drawn += w
	}
	known := map[string]int{} // by content, the place in list of the first of the pair
	order := make([]int, m)
	for i := range order {
		order[i] = i
	}
	for tries := 0; len(known) < 2*pairs && tries < 8*pairs+8; tries++ {
		u, s := rng.Float64()*c.drawn, least
		for s < len(weights)-1 && u >= weights[s] {
			u -= weights[s]
			s++
		}
		rng.Shuffle(m, func(i, j int) { order[i], order[j] = order[j], order[i] })
		in := make([]bool, m)
		for _, i := range order[:s] {
			in[i] = true
		}
		at, ok := known[key(in)]
		if !ok {
			at = len(c.list)
			known[key(in)], known[key(complement(in))] = at, at
			c.list = append(c.list, coalition{in: in}, coalition{in: complement(in)})
		}
		for k := at; k < at+2; k++ {
			c.list[k].draws = append(c.list[k].draws, c.draws)
		}
		c.draws++
	}
	for i := range c.list {
		if d := len(c.list[i].draws); d > 0 {
			c.list[i].weight = c.drawn * float64(d) / float64(2*c.draws)
		}
	}
}

// without returns the weights of the coalitions where draws of one group of many are left out.
func (c *coalitions) without(group, groups int) []float64 {
	left := c.draws - (c.draws-group+groups-1)/groups
	out := make([]float64, len(c.list))
	for i, z := range c.list {
		out[i] = z.weight
		if z.draws == nil {
			continue
		}
		kept := 0
		for _, d := range z.draws {
			if d%groups != group {
				kept++
			}
		}
		out[i] = c.drawn * float64(kept) / float64(2*left)
	}
	return out
}

func complement(in []bool) []bool {
	out := make([]bool, len(in))
	for i, b := range in {
		out[i] = !b
	}
	return out
}

func key(in []bool) string {
	b := make([]byte, len(in))
	for i, x := range in {
		if x {
			b[i] = 1
		}
	}
	return string(b)
}

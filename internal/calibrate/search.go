package calibrate

import "math"

// leastError searches the range with the least squared error: both ends shrink
// on a grid of 16 steps, then on a finer one around the best; symmetric ranges
// on 100 steps (tf_enhanced of AIMET searches the same way).
func leastError(s *Stats, c Codes) (lo, hi float64) {
	if s.Histogram == nil {
		return minMax(s, c)
	}
	full := func(c Codes) (float64, float64) {
		return within(s, float64(s.Min), float64(s.Max), c)
	}
	bottom, top := full(c)
	// A quarter of the bins is enough to tell candidates apart.
	h := s.Histogram.clone()
	h.coarsen(h.Exp + 2)
	best := math.Inf(1)
	try := func(a, b float64) {
		if b > a {
			if e, _ := h.noise(a, b, c, 1); e < best {
				best, lo, hi = e, a, b
			}
		}
	}
	if c.Symmetric {
		for i := 100; i > 0; i-- {
			try(-top*float64(i)/100, top*float64(i)/100)
		}
		return lo, hi
	}
	shrink := func(from, to float64, steps int, end float64) []float64 {
		if end == 0 {
			return []float64{0}
		}
		var out []float64
		for i := range steps + 1 {
			out = append(out, end*(to-(to-from)*float64(i)/float64(steps)))
		}
		return out
	}
	search := func(a0, a1, b0, b1 float64, steps int) {
		for _, a := range shrink(a0, a1, steps, bottom) {
			for _, b := range shrink(b0, b1, steps, top) {
				try(a, b)
			}
		}
	}
	const coarse = 1. / 16
	search(coarse, 1, coarse, 1, 15)
	share := func(x, of float64) (float64, float64) {
		if of == 0 {
			return 0, 0
		}
		return math.Max(x/of-coarse, 0.01), math.Min(x/of+coarse, 1)
	}
	a0, a1 := share(lo, bottom)
	b0, b1 := share(hi, top)
	search(a0, a1, b0, b1, 8)
	return lo, hi
}

// klLevels is the number of levels to which the distribution within a threshold
// is reduced, as in onnxruntime.quantization and TensorRT.
const klLevels = 128

// klStride is the distance of the thresholds that are tried, in bins.
const klStride = 8

// klOutside is the largest share of the elements that are not zero that the
// search by divergence may leave outside: a narrow slice of a smooth distribution looks the same at any
// resolution, so that without a floor it would win.
const klOutside = 1e-3

// entropy searches the threshold at which the distribution of magnitudes changes
// least by being cut and reduced to klLevels levels (Migacz, 8-bit inference
// with TensorRT, 2017). Exact zeros, the spike behind Relu, do not take part.
func entropy(s *Stats, c Codes) (lo, hi float64) {
	if s.Histogram == nil {
		return minMax(s, c)
	}
	h := s.Histogram.folded()
	for len(h.Counts) > 2048 {
		h.coarsen(h.Exp + 1)
	}
	h.Counts[0] -= min(h.Zeros, h.Counts[0])
	total := float64(h.total())
	n := len(h.Counts)
	for n > 0 && h.Counts[n-1] == 0 {
		n--
	}
	best, at := math.Inf(1), n
	inside := 0.
	for i := range n {
		inside += float64(h.Counts[i])
		if i+1 < klLevels || inside < (1-klOutside)*total || (n-i-1)%klStride != 0 {
			continue
		}
		if d := divergence(h.Counts[:i+1], total-inside); d < best {
			best, at = d, i+1
		}
	}
	a := float64(at) * h.Width()
	return -a, a
}

// divergence returns the Kullback-Leibler divergence of a distribution, what is
// outside added to its last bin, from its reduction to klLevels levels.
func divergence(counts []int64, outside float64) float64 {
	n := len(counts)
	q := make([]float64, n)
	for level := range klLevels {
		from, to := level*n/klLevels, (level+1)*n/klLevels
		var sum float64
		used := 0
		for _, k := range counts[from:to] {
			sum += float64(k)
			if k > 0 {
				used++
			}
		}
		for i := from; i < to; i++ {
			if counts[i] > 0 {
				q[i] = sum / float64(used)
			}
		}
	}
	p := make([]float64, n)
	for i, k := range counts {
		p[i] = float64(k)
	}
	p[n-1] += outside
	smooth(p)
	smooth(q)
	var d float64
	for i := range p {
		if p[i] > 0 && q[i] > 0 {
			d += p[i] * math.Log(p[i]/q[i])
		}
	}
	return d
}

// smooth makes a distribution of p, moving 10⁻⁴ of a count to each empty bin.
func smooth(p []float64) {
	const eps = 1e-4
	empty, total := 0, 0.
	for _, x := range p {
		if x == 0 {
			empty++
		}
		total += x
	}
	used := len(p) - empty
	if used == 0 || total == 0 {
		return
	}
	take := eps * float64(empty) / float64(used)
	for i, x := range p {
		if x == 0 {
			p[i] = eps / total
		} else {
			p[i] = math.Max(x-take, 0) / total
		}
	}
}

package quantize

import "math"

// The constants of HQQ (Badri and Shaji, 2023).
const (
	hqqNorm  = 0.7
	hqqBeta  = 10.0
	hqqKappa = 1.01
	hqqRuns  = 20
	hqqMost  = 2e4 // of the inverse of a scale
)

// hqq enters codes whose zero points are chosen for an error with few large elements.
func (t *fitTrial) hqq(real bool) error {
	b, err := hqq(t.l, real)
	if err != nil {
		return err
	}
	return t.enter("hqq", b)
}

// hqq returns l with the scales of its ranges and zero points that minimize the
// error in the norm of [hqqNorm], by half-quadratic splitting. Zero points are
// numbers where real, else the nearest codes.
func hqq(l *layer, real bool) (*blockwise, error) {
	b := &blockwise{f: l.f, op: l.op, clipped: true}
	b.f.asymmetric = true
	b.steps = newSteps(b.f, b.total())
	if real {
		b.steps.real, b.steps.zero = make([]float32, b.total()), nil
	}
	err := b.op.each(b.f.size, func(p *blockPart) error {
		for n := p.n0; n < p.n1; n++ {
			for i := p.first; i < p.last; i++ {
				s := b.f.halfQuadratic(p.block(n, i, b.f.size))
				if !real {
					s.zero = float32(math.Round(float64(min(max(s.zero, 0), b.f.top()))))
				}
				b.steps.set(b.index(p.batch, n, i), s)
			}
		}
		return nil
	})
	return b, err
}

// halfQuadratic returns the step of one block.
func (f blocks) halfQuadratic(w []float32) step {
	lo, hi := extremes(w)
	if hi == lo {
		return f.between(lo, hi)
	}
	top := float64(f.top())
	inverse := min(top/(float64(hi)-float64(lo)), hqqMost)
	zero := -float64(lo) * inverse
	best, least, beta := zero, math.Inf(1), hqqBeta
	for range hqqRuns {
		var sum, next float64
		for _, x := range w {
			q := min(max(math.RoundToEven(float64(x)*inverse+zero), 0), top)
			d := float64(x) - (q-zero)/inverse
			sum += math.Abs(d)
			next += q - (float64(x)-shrinkage(d, beta))*inverse
		}
		if sum >= least {
			break
		}
		best, least = zero, sum
		zero = next / float64(len(w))
		beta *= hqqKappa
	}
	return step{f.stored(float32(1 / inverse)), f.stored(float32(best))}
}

// shrinkage is the proximal operator of |x|^p with weight 1/beta, approximately.
func shrinkage(x, beta float64) float64 {
	a := math.Abs(x)
	if a == 0 {
		return 0
	}
	return math.Copysign(max(a-math.Pow(a, hqqNorm-1)/beta, 0), x)
}

package quantize

import "math"

// shrunk returns the step whose range, that of w or a smaller one, leaves the
// least error in the norm of [shrinkNorm].
func (f blocks) shrunk(w []float32, buf []byte) step {
	lo, hi := extremes(w)
	best, least := step{}, math.Inf(1)
	for i := range int(mostShrink * shrinkSteps) {
		p := 1 - float32(i)/shrinkSteps
		s := f.between(lo*p, hi*p)
		f.code(buf, w, s)
		sum := 0.0
		for j, x := range w {
			if d := math.Abs(float64(x - s.value(buf[j]))); d > 0 {
				sum += math.Pow(d, shrinkNorm)
			}
		}
		if sum < least {
			best, least = s, sum
		}
	}
	return best
}

package quantize

import "math"

// shrunk returns the step whose range, that of w or a smaller one, leaves the
// least error in the norm of [shrinkNorm].
func (f blocks) shrunk(w []float32, buf []byte) step {
	lo, hi := extremes(w)
	best, least := f.between(lo, hi), math.Inf(1)
	for i := range int(mostShrink * shrinkSteps) {
		p := 1 - float32(i)/shrinkSteps
		s := f.between(lo*p, hi*p)
		if s.scale == 0 {
			break
		}
		f.code(buf, w, s)
		sum, unit := 0.0, math.Pow(math.Abs(float64(s.scale)), shrinkNorm)
		inverse := 1 / abs32(s.scale)
		for j, x := range w {
			if sum += unit * powers.of(abs32(x-s.value(buf[j]))*inverse); sum >= least {
				break
			}
		}
		if sum < least {
			best, least = s, sum
		}
	}
	return best
}

// powerTable has x^[shrinkNorm] for x from 0 on, in steps of 1/tableSteps.
type powerTable [tableSteps*tableEnd + 2]float64

const (
	tableSteps = 256
	tableEnd   = 8
)

var powers = func() *powerTable {
	var t powerTable
	for i := range t {
		t[i] = math.Pow(float64(i)/tableSteps, shrinkNorm)
	}
	return &t
}()

// of returns x^[shrinkNorm] for x of at least 0: between entries of the table it
// is off by less than a thousandth of a unit.
func (t *powerTable) of(x float32) float64 {
	if !(x < tableEnd) {
		return math.Pow(float64(x), shrinkNorm)
	}
	at := x * tableSteps
	i := int(at)
	return t[i] + float64(at-float32(i))*(t[i+1]-t[i])
}

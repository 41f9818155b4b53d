package linalg

import "gonum.org/v1/gonum/mat"

// Ridge returns R [gone, keep] with which the columns that stay make up for those
// that go: W'ᵏ = Wᵏ + Wᵍ·R has the least error of all weights that read only what
// stays, for inputs whose mean products are h [k, k]. λ, [Damping] times the mean of
// the diagonal or ten times that where few is set, keeps the change small. It
// returns nil where what stays cannot be inverted.
func Ridge(h []float64, k int, keep, gone []int, few bool) []float64 {
	mean := 0.0
	for _, i := range keep {
		mean += h[i*k+i] / float64(len(keep))
	}
	damp := Damping / 10
	if few {
		damp *= 10
	}
	for ; damp < 1e3; damp *= 10 {
		a := mat.NewSymDense(len(keep), nil)
		for i, x := range keep {
			for j := i; j < len(keep); j++ {
				a.SetSym(i, j, h[x*k+keep[j]])
			}
			a.SetSym(i, i, a.At(i, i)+damp*mean)
		}
		var c mat.Cholesky
		if mean <= 0 || !c.Factorize(a) {
			if mean <= 0 {
				return nil
			}
			continue
		}
		b := mat.NewDense(len(keep), len(gone), nil)
		for i, x := range keep {
			for j, y := range gone {
				b.Set(i, j, h[min(x, y)*k+max(x, y)])
			}
		}
		var r mat.Dense
		if err := c.SolveTo(&r, b); err != nil {
			continue
		}
		out := make([]float64, len(gone)*len(keep))
		for j := range gone {
			for i := range keep {
				out[j*len(keep)+i] = r.At(i, j)
			}
		}
		return out
	}
	return nil
}

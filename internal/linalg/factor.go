package linalg

import "gonum.org/v1/gonum/mat"

// Damping is what is added to the diagonal before an inversion, as a share of its
// mean, as the authors of GPTQ (Frantar et al., 2022) set it; ten times as much
// where there is little data.
const Damping = 0.01

// InverseFactor returns the upper Cholesky factor U of the inverse of h [k, k],
// UᵀU = (PhPᵀ + λI)⁻¹, with its rows and columns in some order of which there
// are k. λ is [Damping], ten times that where few is set, and ten times more as
// often as it takes to invert; nil where it never can. h is read on and above the
// diagonal of the ordered matrix and must be symmetric where order is not 0, 1, 2, ….
func InverseFactor(h []float64, order []int, few bool) []float64 {
	k := len(order)
	mean := 0.0
	for i := range k {
		mean += h[i*k+i] / float64(k)
	}
	damp := Damping
	if few {
		damp *= 10
	}
	for ; damp < 1e3; damp *= 10 {
		a := mat.NewSymDense(k, nil)
		for i, x := range order {
			for j := i; j < k; j++ {
				a.SetSym(i, j, h[x*k+order[j]])
			}
			a.SetSym(i, i, a.At(i, i)+damp*mean)
		}
		var c mat.Cholesky
		if !c.Factorize(a) {
			continue
		}
		var inverse mat.SymDense
		if err := c.InverseTo(&inverse); err != nil {
			continue
		}
		var c2 mat.Cholesky
		if !c2.Factorize(&inverse) {
			continue
		}
		u := mat.NewTriDense(k, mat.Upper, nil)
		c2.UTo(u)
		return u.RawTriangular().Data
	}
	return nil
}

package linalg

import (
	"fmt"

	"gonum.org/v1/gonum/mat"
)

// LeastSquares returns the b [k] that minimise Σ w_i (y_i - x_i·b)² over the rows of x [n, k], by the normal equations; of several
// the shortest, to the precision of the numbers. It errs on sizes that do not fit and on numbers that are not finite.
func LeastSquares(x, y, w []float64, k int) ([]float64, error) {
	n := len(y)
	if k < 1 || n < 1 || len(x) != n*k || len(w) != n {
		return nil, fmt.Errorf("least squares of %d × %d numbers, %d values and %d weights", n, k, len(x)/max(n, 1), len(w))
	}
	a, b := mat.NewSymDense(k, nil), mat.NewVecDense(k, nil)
	for i := range n {
		row := mat.NewVecDense(k, x[i*k:(i+1)*k])
		a.SymRankOne(a, w[i], row)
		b.AddScaledVec(b, w[i]*y[i], row)
	}
	var c mat.Cholesky
	var out mat.VecDense
	if c.Factorize(a) && c.Cond() < 1e12 {
		if err := c.SolveVecTo(&out, b); err != nil {
			return nil, fmt.Errorf("least squares: %v", err)
		}
		return out.RawVector().Data, nil
	}
	var s mat.SVD
	if !s.Factorize(a, mat.SVDFull) {
		return nil, fmt.Errorf("least squares: the equations hold numbers that are not finite")
	}
	rank := s.Rank(1e-12)
	if rank == 0 {
		return make([]float64, k), nil
	}
	s.SolveVecTo(&out, b, rank)
	return out.RawVector().Data, nil
}

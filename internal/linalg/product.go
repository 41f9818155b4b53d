package linalg

import (
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
)

// General describes data as a matrix to package blas64.
func General(data []float64, rows, cols int) blas64.General {
	return blas64.General{Rows: rows, Cols: cols, Stride: cols, Data: data}
}

// Power returns tr(Dᵀ·H·D) for H [k, k] and D [k, n]: with H the mean products of
// the columns of a layer's input, what an error D of its weights adds to the square
// of its output, per row.
func Power(h []float64, k int, d []float64, n int) float64 {
	sum := 0.0
	for _, x := range Powers(h, k, d, n) {
		sum += x
	}
	return sum
}

// Powers returns the diagonal of Dᵀ·H·D: [Power] by column of D.
func Powers(h []float64, k int, d []float64, n int) []float64 {
	e := make([]float64, len(d))
	blas64.Gemm(blas.NoTrans, blas.NoTrans, 1, General(h, k, k), General(d, k, n), 0, General(e, k, n))
	out := make([]float64, n)
	for i, x := range d {
		out[i%n] += x * e[i]
	}
	return out
}

// Axpy adds a·x to y.
func Axpy(a float64, x, y []float64) {
	if a == 0 {
		return
	}
	for i, v := range x {
		y[i] += a * v
	}
}

// Scatter adds a·x[i] to y[at[i]] for every i.
func Scatter(a float64, x []float64, at []int, y []float64) {
	if a == 0 {
		return
	}
	for i, k := range at {
		y[k] += a * x[i]
	}
}

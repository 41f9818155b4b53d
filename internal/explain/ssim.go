package explain

import (
	"math"
	"slices"
)

// SSIM returns the mean structural similarity of two maps of rows × cols cells, each divided by its largest magnitude (Wang, Bovik,
// Sheikh and Simoncelli, "Image Quality Assessment: From Error Visibility to Structural Similarity", 2004): K1 = 0.01, K2 = 0.03,
// L the range of both maps together, and a Gaussian window of σ = 1.5 and 11 × 11 cells, or the largest odd size that fits, over
// all places where it lies within the maps. It is exactly 1 for equal maps.
func SSIM(a, b []float64, rows, cols int) float64 {
	if slices.Equal(a, b) {
		return 1
	}
	x, y := scaled(a), scaled(b)
	lo, hi := min(slices.Min(x), slices.Min(y)), max(slices.Max(x), slices.Max(y))
	c1, c2 := math.Pow(0.01*(hi-lo), 2), math.Pow(0.03*(hi-lo), 2)
	size := min(11, rows, cols)
	w := gaussian(size - 1 + size%2)
	sum, n := 0.0, 0
	for i := range rows - len(w) + 1 {
		for j := range cols - len(w) + 1 {
			m := momentsAt(x, y, w, i, j, cols)
			sum += (2*m.x*m.y + c1) * (2*m.xy + c2) / ((m.x*m.x + m.y*m.y + c1) * (m.xx + m.yy + c2))
			n++
		}
	}
	return sum / float64(n)
}

// scaled returns a map divided by its largest magnitude; a map of zeros stays.
func scaled(a []float64) []float64 {
	out := slices.Clone(a)
	if top := largest(a); top > 0 {
		for i := range out {
			out[i] /= top
		}
	}
	return out
}

// gaussian returns the weights of a window along one axis, σ = 1.5, of sum 1.
func gaussian(size int) []float64 {
	w, sum := make([]float64, size), 0.0
	for i := range w {
		d := float64(i - size/2)
		w[i] = math.Exp(-d * d / (2 * 1.5 * 1.5))
		sum += w[i]
	}
	for i := range w {
		w[i] /= sum
	}
	return w
}

// moments are the weighted means, variances and covariance of two maps in a window.
type moments struct{ x, y, xx, yy, xy float64 }

func momentsAt(x, y, w []float64, row, col, cols int) moments {
	var m moments
	for i, wi := range w {
		for j, wj := range w {
			at := (row+i)*cols + col + j
			m.x += wi * wj * x[at]
			m.y += wi * wj * y[at]
		}
	}
	for i, wi := range w {
		for j, wj := range w {
			at := (row+i)*cols + col + j
			dx, dy := x[at]-m.x, y[at]-m.y
			m.xx += wi * wj * dx * dx
			m.yy += wi * wj * dy * dy
			m.xy += wi * wj * dx * dy
		}
	}
	return m
}

package growth

import (
	"math"
	"slices"
)

// Point is what was measured at one size.
type Point struct {
	Size  float64 // of the model: bytes or nodes
	Value float64 // seconds or bytes
}

// Limit is the exponent above which growth is not called linear: noise and caches that no longer hold the model
// raise that of linear work above 1.
const Limit = 1.15

// Fit is how values grow with the size.
type Fit struct {
	Exponent float64 // of the power of the size that fits best; NaN where fewer than two points are above the noise
	Last     float64 // exponent between the two largest sizes; NaN as above
	Points   int     // that were fitted
}

// Known reports whether there was enough to fit.
func (f Fit) Known() bool { return !math.IsNaN(f.Exponent) }

// Linear reports whether values grow no faster than the size, as far as is known.
func (f Fit) Linear() bool { return !f.Known() || f.Exponent <= Limit }

// FitPower fits value − base = c·sizeᵏ by least squares over the logarithms. Points whose value is not more than noise
// above base say nothing of growth and are left out.
func FitPower(points []Point, base, noise float64) Fit {
	var xs, ys []float64
	sorted := slices.SortedFunc(slices.Values(points), func(a, b Point) int {
		switch {
		case a.Size < b.Size:
			return -1
		case a.Size > b.Size:
			return 1
		}
		return 0
	})
	for _, p := range sorted {
		if over := p.Value - base; p.Size > 0 && over > noise && over > 0 {
			xs, ys = append(xs, math.Log(p.Size)), append(ys, math.Log(over))
		}
	}
	f := Fit{Exponent: math.NaN(), Last: math.NaN(), Points: len(xs)}
	if n := len(xs); n >= 2 && xs[n-1] > xs[0] {
		f.Exponent = slope(xs, ys)
		f.Last = (ys[n-1] - ys[n-2]) / (xs[n-1] - xs[n-2])
	}
	return f
}

// slope is that of the line of least squares; not all xs are the same.
func slope(xs, ys []float64) float64 {
	var mx, my float64
	for i := range xs {
		mx += xs[i] / float64(len(xs))
		my += ys[i] / float64(len(ys))
	}
	var sxy, sxx float64
	for i := range xs {
		sxy += (xs[i] - mx) * (ys[i] - my)
		sxx += (xs[i] - mx) * (xs[i] - mx)
	}
	return sxy / sxx
}

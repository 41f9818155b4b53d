package growth

import (
	"math"
	"testing"
)

func TestFitPower(t *testing.T) {
	sizes := []float64{100, 1000, 10000, 20000}
	for _, c := range []struct {
		name      string
		f         func(n float64) float64
		base      float64
		want      float64
		linear    bool
		tolerance float64
	}{
		{"linear", func(n float64) float64 { return 3 * n }, 0, 1, true, 1e-9},
		{"linear beside a start", func(n float64) float64 { return 5 + 2e-4*n }, 5, 1, true, 1e-6},
		{"n log n", func(n float64) float64 { return n * math.Log(n) }, 0, 1.14, true, 0.01},
		{"square", func(n float64) float64 { return 1e-6 * n * n }, 0, 2, false, 1e-9},
		{"root", math.Sqrt, 0, 0.5, true, 1e-9},
	} {
		t.Run(c.name, func(t *testing.T) {
			var points []Point
			for _, n := range sizes {
				points = append(points, Point{n, c.f(n)})
			}
			f := FitPower(points, c.base, 0)
			if math.Abs(f.Exponent-c.want) > c.tolerance || f.Linear() != c.linear || f.Points != len(sizes) {
				t.Errorf("%+v, linear: %v", f, f.Linear())
			}
		})
	}
}

// TestFitLeavesNoiseOut: what is not above the noise says nothing, in whatever order it comes.
func TestFitLeavesNoiseOut(t *testing.T) {
	f := FitPower([]Point{{1000, 1.2}, {10, 1.001}, {100, 1.02}, {1, 0.999}}, 1, 0.01)
	if f.Points != 2 || math.Abs(f.Exponent-1) > 1e-9 || math.Abs(f.Last-1) > 1e-9 {
		t.Errorf("%+v", f)
	}
	if f := FitPower([]Point{{10, 1}, {100, 1}}, 1, 0.01); f.Known() || !f.Linear() {
		t.Errorf("nothing above the noise: %+v", f)
	}
	if f := FitPower([]Point{{10, 5}, {10, 6}}, 1, 0.01); f.Known() {
		t.Errorf("one size only: %+v", f)
	}
}

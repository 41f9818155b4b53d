package measuretest

import (
	"math"
	"testing"
)

// TestMannWhitney compares with p values computed by hand from U, its mean n1n2/2 and its variance with ties.
func TestMannWhitney(t *testing.T) {
	for _, tt := range []struct {
		a, b []float64
		want float64
	}{
		{[]float64{1, 2, 3, 4}, []float64{5, 6, 7, 8}, 0.030383},
		{[]float64{1, 2, 2, 3}, []float64{2, 3, 4, 4}, 0.134169},
		{[]float64{1, 1}, []float64{1, 1}, 1},
	} {
		if got := MannWhitney(tt.a, tt.b); math.Abs(got-tt.want) > 1e-5 {
			t.Errorf("%v against %v: p = %.6f, want %v", tt.a, tt.b, got, tt.want)
		}
	}
}

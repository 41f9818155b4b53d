package calibrate

import (
	"math"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// TestGram compares the sums over several runs with those of their definition.
func TestGram(t *testing.T) {
	const k = 5
	for _, every := range []int{0, 3} {
		var all Stats
		var want [2][k][k]float64
		var rows [2]int64
		for run := range int64(7) {
			n := int(run) + 4
			v := make([]float32, 2*n*k)
			for i := range v {
				v[i] = float32(math.Sin(float64(i)*1.7 + float64(run)))
			}
			x := onnx.FromFloats("x", []int64{2, int64(n), k}, v)
			var s Stats
			if err := s.whole(x, Want{Gram: true, Extremes: true, HoldEvery: every}, run, nil); err != nil {
				t.Fatal(err)
			}
			all.Merge(&s)
			for r := range 2 * n {
				h := 0
				if every > 0 && run%int64(every) == int64(every)-1 || every == 0 && r >= 2*n-2*n/5 {
					h = 1
				}
				rows[h]++
				for i := range k {
					for j := i; j < k; j++ {
						want[h][i][j] += float64(v[r*k+i]) * float64(v[r*k+j])
					}
				}
			}
		}
		for h, m := range []Moments{all.Gram.Fit, all.Gram.Held} {
			if m.Rows != rows[h] || m.Rows == 0 {
				t.Errorf("every %d: %d rows, want %d", every, m.Rows, rows[h])
			}
			for i := range k {
				for j := range k {
					if d := m.Sum[i*k+j] - want[h][i][j]; math.Abs(d) > 1e-9 {
						t.Errorf("every %d, part %d: [%d,%d] is off by %v", every, h, i, j, d)
					}
				}
			}
		}
	}
}

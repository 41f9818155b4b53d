package linalg

import (
	"math"
	"math/rand/v2"
	"sync/atomic"
	"testing"
)

// moments returns a positive definite matrix of seeded numbers.
func moments(k int) []float64 {
	r := rand.New(rand.NewPCG(1, uint64(k)))
	h := make([]float64, k*k)
	for range 4 * k {
		x := make([]float64, k)
		for i := range x {
			x[i] = r.NormFloat64()
		}
		for i := range k {
			for j := range k {
				h[i*k+j] += x[i] * x[j]
			}
		}
	}
	return h
}

// TestInverseFactor multiplies the factor out and with the damped matrix.
func TestInverseFactor(t *testing.T) {
	const k = 7
	h := moments(k)
	order := []int{3, 0, 6, 1, 5, 2, 4}
	u := InverseFactor(h, order, false)
	mean := 0.0
	for i := range k {
		mean += h[i*k+i] / k
	}
	for i := range k {
		for j := range k {
			sum := 0.0
			for a := range k { // (UᵀU)[i, a] · (PhPᵀ + λI)[a, j]
				inv := 0.0
				for b := range k {
					inv += u[b*k+i] * u[b*k+a]
				}
				x := h[order[a]*k+order[j]]
				if a == j {
					x += Damping * mean
				}
				sum += inv * x
			}
			want := 0.0
			if i == j {
				want = 1
			}
			if math.Abs(sum-want) > 1e-9 {
				t.Errorf("element %d,%d of the product is %g, want %g", i, j, sum, want)
			}
		}
	}
}

// TestSingular damps until a matrix of rank one can be inverted, and gives up on zeros.
func TestSingular(t *testing.T) {
	if u := InverseFactor([]float64{1, 1, 1, 1}, []int{0, 1}, true); u == nil {
		t.Error("a matrix of rank one was not damped enough")
	}
	if u := InverseFactor(make([]float64, 4), []int{0, 1}, false); u != nil {
		t.Errorf("a matrix of zeros was inverted: %v", u)
	}
}

func TestPower(t *testing.T) {
	const k, n = 5, 3
	h, d := moments(k), moments(k)[:k*n]
	want := 0.0
	for c := range n {
		for i := range k {
			for j := range k {
				want += d[i*n+c] * h[i*k+j] * d[j*n+c]
			}
		}
	}
	if got := Power(h, k, d, n); math.Abs(got-want) > 1e-9*want {
		t.Errorf("power %g, want %g", got, want)
	}
}

func TestStripes(t *testing.T) {
	for _, n := range []int{0, 1, 127, 128, 129, 1000} {
		var sum atomic.Int64
		Stripes(n, func(c0, c1 int) { sum.Add(int64(c1 - c0)) })
		if sum.Load() != int64(n) {
			t.Errorf("%d of %d columns were done", sum.Load(), n)
		}
	}
}

// TestRidge recovers what goes where it is a sum of what stays, and leaves all as
// it is where it is not related.
func TestRidge(t *testing.T) {
	// x₂ = x₀ + 2·x₁ for independent x₀ and x₁ of mean square 1.
	h := []float64{1, 0, 1, 0, 1, 2, 1, 2, 5}
	r := Ridge(h, 3, []int{0, 1}, []int{2}, false)
	if len(r) != 2 || math.Abs(r[0]-1) > 0.01 || math.Abs(r[1]-2) > 0.01 {
		t.Errorf("x₂ is %v of x₀ and x₁, want about [1 2]", r)
	}
	h = []float64{1, 0, 0, 1}
	if r := Ridge(h, 2, []int{0}, []int{1}, false); len(r) != 1 || r[0] != 0 {
		t.Errorf("unrelated inputs give %v", r)
	}
	if r := Ridge(make([]float64, 4), 2, []int{0}, []int{1}, false); r != nil {
		t.Errorf("inputs that are all zero give %v", r)
	}
}

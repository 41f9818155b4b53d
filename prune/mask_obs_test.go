package prune

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/linalg"
	"gonum.org/v1/gonum/mat"
)

// correlated returns the mean products of k inputs that share causes.
func correlated(k int, seed uint64) []float64 {
	r := rand.New(rand.NewPCG(seed, 7))
	h := make([]float64, k*k)
	mix := make([]float64, k*3)
	for i := range mix {
		mix[i] = r.NormFloat64()
	}
	for range 40 * k {
		cause := [3]float64{r.NormFloat64(), r.NormFloat64(), r.NormFloat64()}
		x := make([]float64, k)
		for i := range x {
			x[i] = (0.5*r.NormFloat64() + mix[3*i]*cause[0] + mix[3*i+1]*cause[1] + mix[3*i+2]*cause[2]) * float64(1+i%4)
		}
		for i := range k {
			for j := range k {
				h[i*k+j] += x[i] * x[j] / float64(40*k)
			}
		}
	}
	return h
}

func identity(k int) []int {
	out := make([]int, k)
	for i := range out {
		out[i] = i
	}
	return out
}

// TestFirstWeightIsExact removes the first weight: then the update is the solution
// of the least-squares problem for the others.
func TestFirstWeightIsExact(t *testing.T) {
	const k = 6
	h := correlated(k, 1)
	mean := 0.0
	for i := range k {
		mean += h[i*k+i] / k
	}
	w := []float64{1, -2, 0.5, 3, 1.5, -1}
	o := &obs{k: k, n: 1, u: linalg.InverseFactor(h, identity(k), false), dead: make([]bool, k), w: slices.Clone(w), gone: make([]bool, k), seg: k}
	o.gone[0] = true
	o.run()
	a, b := mat.NewSymDense(k-1, nil), mat.NewVecDense(k-1, nil)
	for i := 1; i < k; i++ {
		sum := 0.0
		for j := range k {
			x := h[i*k+j]
			if i == j {
				x += linalg.Damping * mean
			}
			sum += x * w[j]
			if j >= i {
				a.SetSym(i-1, j-1, x)
			}
		}
		b.SetVec(i-1, sum)
	}
	var c mat.Cholesky
	if !c.Factorize(a) {
		t.Fatal("not positive definite")
	}
	var want mat.VecDense
	if err := c.SolveVecTo(&want, b); err != nil {
		t.Fatal(err)
	}
	for i := 1; i < k; i++ {
		if d := o.w[i] - want.AtVec(i-1); math.Abs(d) > 1e-9 {
			t.Errorf("weight %d is %g, the least squares solution %g", i, o.w[i], want.AtVec(i-1))
		}
	}
	if o.w[0] != 0 {
		t.Errorf("the removed weight is %g", o.w[0])
	}
}

// TestOBSBeatsItsMask prunes by each pattern, over more than one update, and holds
// the error against that of the same mask without the update, and of magnitudes.
func TestOBSBeatsItsMask(t *testing.T) {
	const k, n = 160, 40
	h := correlated(k, 2)
	u := linalg.InverseFactor(h, identity(k), false)
	r := rand.New(rand.NewPCG(3, 3))
	w := make([]float64, k*n)
	for i := range w {
		w[i] = r.NormFloat64()
	}
	for _, p := range []maskPattern{{}, {n: 2, m: 4}, {n: 4, m: 8}, {rows: 4, cols: 2}, {rows: 140, cols: 1}} {
		seg := k
		if p.grouped() {
			seg = 20 // tails of 4 with 4:8
		}
		v := maskView{rows: n, cols: k, seg: seg, parts: 1, inner: n, row: k, col: 1, tap: seg}
		o := &obs{k: k, n: n, u: u, dead: make([]bool, k), w: slices.Clone(w), gone: make([]bool, k*n), choose: true, pattern: p, seg: seg, sparsity: 0.5}
		o.run()
		zero, masked := newMask(k*n), slices.Clone(w)
		for i, gone := range o.gone {
			if gone {
				zero.set(i%n*k + i/n)
				masked[i] = 0
			}
			if gone && o.w[i] != 0 {
				t.Fatalf("%v: a removed weight is %g", p, o.w[i])
			}
		}
		a := Audited{}
		p.audit(v, zero, &a)
		if a.Invalid > 0 {
			t.Errorf("%v: %d of %d groups are invalid", p, a.Invalid, a.Groups)
		}
		if share := float64(zero.count()) / (k * n); !p.grouped() && math.Abs(share-0.5) > 0.05 {
			t.Errorf("%v: %.3f of the weights are zero", p, share)
		}
		plain := p.choose(v, magnitudes(turn(w, k, n)), false, 0.5)
		byMagnitude := slices.Clone(w)
		for i := range byMagnitude {
			if plain.has(i%n*k + i/n) {
				byMagnitude[i] = 0
			}
		}
		e, m, worst := loss(h, w, o.w, k, n), loss(h, w, masked, k, n), loss(h, w, byMagnitude, k, n)
		if !(e < 0.9*m && e < 0.9*worst) {
			t.Errorf("%v: error %g with the update, %g without, %g by magnitude", p, e, m, worst)
		}
	}
}

func turn(w []float64, k, n int) []float64 {
	out := make([]float64, len(w))
	for i, x := range w {
		out[i%n*k+i/n] = x
	}
	return out
}

func loss(h, w, v []float64, k, n int) float64 {
	d := slices.Clone(w)
	for i, x := range v {
		d[i] -= x
	}
	return linalg.Power(h, k, d, n) / linalg.Power(h, k, w, n)
}

// TestDeadInputsGoFirst removes the weights of inputs that are always zero.
func TestDeadInputsGoFirst(t *testing.T) {
	const k = 4
	h := []float64{1, 0, .5, 0, 0, 0, 0, 0, .5, 0, 1, 0, 0, 0, 0, 0}
	e := &maskEvidence{k: k, parts: 1, factors: make([]*maskFactor, 1)}
	e.fit.Sum, e.fit.Rows = h, 100
	f := e.factor(0)
	if !f.dead[1] || !f.dead[3] || f.dead[0] {
		t.Fatalf("dead inputs %v", f.dead)
	}
	o := &obs{k: k, n: 1, u: f.u, dead: f.dead, w: []float64{1, 100, 1, 100}, gone: make([]bool, k), choose: true, seg: k, sparsity: 0.5}
	o.run()
	if !slices.Equal(o.w, []float64{1, 0, 1, 0}) {
		t.Errorf("weights %v", o.w)
	}
}

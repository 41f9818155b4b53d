package quantize

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/calibrate"
)

// correlated returns sums of products of rows whose elements have much in common.
func correlated(r *rand.Rand, k, rows int) *calibrate.Moments {
	m := &calibrate.Moments{Rows: int64(rows), Sum: make([]float64, k*k), Abs: make([]float64, k)}
	x := make([]float64, k)
	for range rows {
		common := r.NormFloat64()
		for i := range x {
			x[i] = 1 + common + 0.3*r.NormFloat64()
		}
		for i := range x {
			for j := i; j < k; j++ {
				m.Sum[i*k+j] += x[i] * x[j]
			}
		}
	}
	return m
}

// TestDescend: the error of the output falls, to where no code that is turned over
// lowers it, near to the least of all choices; codes stay next to the weights.
func TestDescend(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	const k, scale = 10, 0.1
	var nearest, found, least float64
	for range 50 {
		h := newQuadratic(k, 0, correlated(r, k, 100), 0)
		c := &channelCodes{w: make([]float64, k), q: make([]float64, k), scale: scale, lo: -127, hi: 127}
		for i := range c.w {
			c.w[i] = r.NormFloat64()
		}
		c.w[3], c.w[4] = 20, 5*float64(float32(scale)) // beyond all codes, and a code
		c.nearest()
		before := h.of(c.errors())
		c.descend(h)
		after := h.of(c.errors())
		if after > before {
			t.Fatalf("the error rose from %v to %v", before, after)
		}
		if c.q[3] != 127 || c.q[4] != 5 {
			t.Errorf("codes that have no other became %v and %v", c.q[3], c.q[4])
		}
		for i := range c.q {
			if i != 3 && math.Abs(c.q[i]-c.w[i]/float64(c.scale)) > 1 {
				t.Errorf("%v has code %v", c.w[i], c.q[i])
			}
			if q, ok := c.other(i); ok {
				old := c.q[i]
				c.q[i] = q
				if e := h.of(c.errors()); e < after*(1-1e-6) {
					t.Errorf("turning %d over lowers the error from %v to %v", i, after, e)
				}
				c.q[i] = old
			}
		}
		best := before
		for mask := range 1 << k {
			d := *c
			d.q = append([]float64(nil), c.q...)
			for i := range d.q {
				if q, ok := d.other(i); ok && mask>>i&1 == 1 {
					d.q[i] = q
				}
			}
			best = min(best, h.of(d.errors()))
		}
		// What is beyond all codes costs the same whatever the others are.
		nearest, found, least = nearest+before-best, found+after-best, least+best
	}
	if found > nearest/4 {
		t.Errorf("above the least error, the nearest codes are %v and those found %v", nearest, found)
	}
}

// TestColumns: the weights of an output channel in the order of the rows of data.
func TestColumns(t *testing.T) {
	for _, c := range []struct {
		text  string
		start []int // of each channel
		at    []int
	}{
		{`main (float[1,3] x) => (float[1,2] y) <float[3,2] w = {1, 2, 3, 4, 5, 6}> { y = MatMul (x, w) }`, []int{0, 1}, []int{0, 2, 4}},
		{`main (float[1,3] x) => (float[1,2] y) <float[2,3] w = {1, 2, 3, 4, 5, 6}> { y = Gemm <transB = 1> (x, w) }`, []int{0, 3}, []int{0, 1, 2}},
		{`main (float[1,2,3] x) => (float[1,2,1] y) <float[2,1,3] w = {1, 2, 3, 4, 5, 6}> { y = Conv <group = 2> (x, w) }`, []int{0, 3}, []int{0, 1, 2}},
		{`main (float[1,2,3] x) => (float[1,1,1] y) <float[1,2,3] w = {1, 2, 3, 4, 5, 6}> { y = Conv (x, w) }`, []int{0}, []int{0, 3, 1, 4, 2, 5}},
	} {
		l := linears(parsed(t, `<ir_version: 8, opset_import: ["" : 17]>`+"\n"+c.text))[0]
		got := make([]int, l.out)
		l.eachChannel(func(o, start int) { got[o] = start })
		if !slices.Equal(got, c.start) || !slices.Equal(l.columns(), c.at) {
			t.Errorf("%s: channels begin at %v with weights at %v, want %v and %v", c.text, got, l.columns(), c.start, c.at)
		}
	}
}

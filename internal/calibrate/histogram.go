package calibrate

import (
	"encoding/binary"
	"math"
	"slices"
	"sync"
)

// mostBins bounds the bins of a histogram.
const mostBins = 4096

// Histogram counts elements on a grid whose bins are all 2^Exp wide and begin at
// multiples of that. Where a range does not fit [mostBins] bins, pairs of
// neighbours become one, which loses nothing but resolution: so the histogram of
// some data depends on the data only, not on the order or the parts in which
// they came. Values all above zero, such as those behind Relu, take bins above
// zero only.
type Histogram struct {
	Exp    int     `json:"exp"`
	First  int64   `json:"first"` // the first bin is [First·2^Exp, (First+1)·2^Exp)
	Counts []int64 `json:"counts"`
	Zeros  int64   `json:"zeros"` // elements that are exactly 0, which are in Counts too
}

// Width returns the width of a bin.
func (h *Histogram) Width() float64 { return math.Ldexp(1, h.Exp) }

// gridFor returns the exponent of the finest grid on which [lo, hi] takes at
// most mostBins bins and no index is large. It never falls when the range grows.
func gridFor(lo, hi float32) int {
	far := math.Max(math.Abs(float64(lo)), math.Abs(float64(hi)))
	if far == 0 {
		return -149
	}
	_, exp := math.Frexp(far)
	k := max(exp-40, -149)
	for indexOf(hi, k)-indexOf(lo, k) >= mostBins {
		k++
	}
	return k
}

// indexOf returns the bin of x on the grid of exponent k.
func indexOf(x float32, k int) int64 { return int64(math.Floor(math.Ldexp(float64(x), -k))) }

// newGrid returns an empty histogram for elements in [lo, hi] on the grid of exponent k.
func newGrid(lo, hi float32, k int) *Histogram {
	h := &Histogram{Exp: k, First: indexOf(lo, k)}
	h.Counts = make([]int64, indexOf(hi, k)-h.First+1)
	return h
}

// newHistogram counts the float32 elements of b, which lie in [lo, hi] where
// they are finite; the others are left out.
func newHistogram(b []byte, lo, hi float32) *Histogram {
	h := newGrid(lo, hi, gridFor(lo, hi))
	for part := range slices.Chunk(b, mostCounted) {
		c := newCounter(h)
		c.count(part)
		c.addTo(h)
	}
	return h
}

// counter counts elements on the grid of a histogram. Four tables in turn keep one
// bin's increments, as of the zeros behind Relu, from waiting for each other.
type counter struct {
	scale, first float64
	table        [4][mostBins]uint32
	zeros        uint64
}

// mostCounted is how many bytes a counter takes before it may overflow.
const mostCounted = 4 << 30

func newCounter(h *Histogram) *counter {
	return &counter{scale: math.Ldexp(1, -h.Exp), first: float64(h.First)}
}

// bin returns the bin of an element, or any for one that is on none. Exact: a
// power of two scales, and floor(y−n) is floor(y)−n for the differences that
// occur, all below 2^53.
func (c *counter) bin(x float32) int { return int(float64(x)*c.scale-c.first) & (mostBins - 1) }

// zero returns 1 for zeros.
func zero(bits uint32) uint64 { return (uint64(bits&0x7fffffff) - 1) >> 63 }

// count enters at most mostCounted bytes.
func (c *counter) count(b []byte) {
	b = c.countFast(b)
	for ; len(b) >= 16; b = b[16:] {
		b0, b1, b2, b3 := lanes(b)
		c.zeros += zero(b0) + zero(b1) + zero(b2) + zero(b3)
		c.table[0][c.bin(math.Float32frombits(b0))]++
		c.table[1][c.bin(math.Float32frombits(b1))]++
		c.table[2][c.bin(math.Float32frombits(b2))]++
		c.table[3][c.bin(math.Float32frombits(b3))]++
	}
	for ; len(b) >= 4; b = b[4:] {
		bits := binary.LittleEndian.Uint32(b)
		c.zeros += zero(bits)
		c.table[0][c.bin(math.Float32frombits(bits))]++
	}
}

// addTo adds what was counted to h, whose grid it has.
func (c *counter) addTo(h *Histogram) {
	for i := range h.Counts {
		for k := range c.table {
			h.Counts[i] += int64(c.table[k][i])
		}
	}
	h.Zeros += int64(c.zeros)
}

// trim leaves only the bins of [lo, hi], outside of which there are no elements.
func (h *Histogram) trim(lo, hi float32) {
	first, last := indexOf(lo, h.Exp), indexOf(hi, h.Exp)
	h.Counts = h.Counts[first-h.First : last-h.First+1]
	h.First = first
}

// reach is the range that a tensor had in the runs that were summed up so far. One
// that keeps to it is counted while its extremes are sought; any other is read twice.
type reach struct {
	mu     sync.Mutex
	some   bool
	lo, hi float32
}

// get returns the range and an empty histogram for it; nil before the first run.
func (r *reach) get() (h *Histogram, lo, hi float32) {
	if r == nil {
		return nil, 0, 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.some {
		return nil, 0, 0
	}
	return newGrid(r.lo, r.hi, gridFor(r.lo, r.hi)), r.lo, r.hi
}

// add enters the range of a run whose statistics count.
func (r *reach) add(lo, hi float32) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.some {
		r.some, r.lo, r.hi = true, lo, hi
	}
	r.lo, r.hi = min(r.lo, lo), max(r.hi, hi)
}

// coarsen doubles the width of the bins until the exponent is k.
func (h *Histogram) coarsen(k int) {
	for h.Exp < k {
		first := h.First >> 1
		last := (h.First + int64(len(h.Counts)) - 1) >> 1
		out := make([]int64, last-first+1)
		for i, n := range h.Counts {
			out[(h.First+int64(i))>>1-first] += n
		}
		h.Counts, h.First, h.Exp = out, first, h.Exp+1
	}
}

// merge adds what g counts; [lo, hi] is the range of both.
func (h *Histogram) merge(g *Histogram, lo, hi float32) {
	k := max(gridFor(lo, hi), h.Exp, g.Exp)
	c := Histogram{Exp: g.Exp, First: g.First, Counts: g.Counts}
	h.coarsen(k)
	c.coarsen(k)
	first := min(h.First, c.First)
	last := max(h.First+int64(len(h.Counts)), c.First+int64(len(c.Counts)))
	out := make([]int64, last-first)
	copy(out[h.First-first:], h.Counts)
	for i, n := range c.Counts {
		out[c.First-first+int64(i)] += n
	}
	h.First, h.Counts = first, out
	h.Zeros += g.Zeros
}

// each calls f with the bounds and the count of every bin that has any.
func (h *Histogram) each(f func(lo, hi float64, n int64)) {
	w := h.Width()
	for i, n := range h.Counts {
		if n > 0 {
			at := float64(h.First+int64(i)) * w
			f(at, at+w, n)
		}
	}
}

// total is the number of elements.
func (h *Histogram) total() int64 {
	var n int64
	for _, c := range h.Counts {
		n += c
	}
	return n
}

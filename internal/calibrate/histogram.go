package calibrate

import (
	"encoding/binary"
	"math"
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

// newHistogram counts the float32 elements of b, which lie in [lo, hi] where
// they are finite; the others are left out.
func newHistogram(b []byte, lo, hi float32) *Histogram {
	k := gridFor(lo, hi)
	h := &Histogram{Exp: k, First: indexOf(lo, k)}
	h.Counts = make([]int64, indexOf(hi, k)-h.First+1)
	h.count(b)
	return h
}

// count enters elements. Four tables in turn keep one bin's increments, as of
// the zeros behind Relu, from waiting for each other.
func (h *Histogram) count(b []byte) {
	scale, first := math.Ldexp(1, -h.Exp), float64(h.First)
	var table [4][mostBins]uint32
	var zeros uint64
	// Exact: a power of two scales, and floor(y−n) is floor(y)−n for the
	// differences that occur, all below 2^53.
	bin := func(bits uint32) int {
		zeros += uint64(bits&0x7fffffff-1) >> 63
		return int(float64(math.Float32frombits(bits))*scale-first) & (mostBins - 1)
	}
	for len(b) > 0 {
		part := b[:min(len(b), 4<<30)] // no counter overflows
		b = b[len(part):]
		for ; len(part) >= 16; part = part[16:] {
			table[0][bin(binary.LittleEndian.Uint32(part))]++
			table[1][bin(binary.LittleEndian.Uint32(part[4:]))]++
			table[2][bin(binary.LittleEndian.Uint32(part[8:]))]++
			table[3][bin(binary.LittleEndian.Uint32(part[12:]))]++
		}
		for ; len(part) >= 4; part = part[4:] {
			table[0][bin(binary.LittleEndian.Uint32(part))]++
		}
		for i := range h.Counts {
			for k := range table {
				h.Counts[i] += int64(table[k][i])
				table[k][i] = 0
			}
		}
	}
	h.Zeros += int64(zeros)
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
	k := gridFor(lo, hi)
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

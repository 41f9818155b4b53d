package calibrate

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

var haveAVX2 = cpu.X86.HasAVX2 && cpu.X86.HasPOPCNT

// scanAVX2 is scanGo for n elements at p, a positive multiple of eight.
//
//go:noescape
func scanAVX2(p *byte, n int, t *totals)

// binsAVX2 writes the bins of n elements at p, a positive multiple of eight, and
// returns how many of these are zero.
//
//go:noescape
func binsAVX2(p *byte, n int, scale, first float64, bins *uint32) (zeros int)

// scanFast enters as much of b as it can at once and returns the rest.
func scanFast(b []byte, t *totals) []byte {
	n := len(b) / 4 &^ 7
	if !haveAVX2 || n == 0 {
		return b
	}
	scanAVX2(unsafe.SliceData(b), n, t)
	return b[4*n:]
}

// countFast counts as much of b as it can at once and returns the rest.
func (c *counter) countFast(b []byte) []byte {
	if !haveAVX2 {
		return b
	}
	var bins [1 << 10]uint32
	for {
		n := min(len(b)/4, len(bins)) &^ 7
		if n == 0 {
			return b
		}
		c.zeros += uint64(binsAVX2(unsafe.SliceData(b), n, c.scale, c.first, &bins[0]))
		for at := bins[:n]; len(at) >= 4; at = at[4:] {
			c.table[0][at[0]&(mostBins-1)]++
			c.table[1][at[1]&(mostBins-1)]++
			c.table[2][at[2]&(mostBins-1)]++
			c.table[3][at[3]&(mostBins-1)]++
		}
		b = b[4*n:]
	}
}

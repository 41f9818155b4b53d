package calibrate

import (
	"encoding/binary"
	"math"
	"slices"
)

// totals are what is known of some float32 elements, in lanes that add up in the end.
// They are the same to the last bit wherever and however they are taken; only the sign
// of a zero is not.
type totals struct {
	lo, hi       [8]float32
	sum, squares [4]float64
}

// scanBlock is how many bytes are read, and read again, while they are in the nearest cache.
const scanBlock = 8 << 10

// scan returns the extremes and sums of float32 elements, and counts them by c if that
// is not nil; the sum is not finite where an element is not.
func scan(b []byte, c *counter) (lo, hi float32, sum, squares float64) {
	var t totals
	for i := range t.lo {
		t.lo[i], t.hi[i] = float32(math.Inf(1)), float32(math.Inf(-1))
	}
	for part := range slices.Chunk(b, scanBlock) {
		scanGo(scanFast(part, &t), &t)
		if c != nil {
			c.count(part)
		}
	}
	return slices.Min(t.lo[:]) + 0, slices.Max(t.hi[:]) + 0, t.sum[0] + t.sum[1] + t.sum[2] + t.sum[3], t.squares[0] + t.squares[1] + t.squares[2] + t.squares[3]
}

// scanGo enters b. Variables are single ones, since arrays would not stay in registers;
// products are converted, which keeps them from being fused with sums.
func scanGo(b []byte, t *totals) {
	least, most := ordered(math.Float32bits(t.lo[0])), ordered(math.Float32bits(t.hi[0]))
	s0, s1, s2, s3 := t.sum[0], t.sum[1], t.sum[2], t.sum[3]
	q0, q1, q2, q3 := t.squares[0], t.squares[1], t.squares[2], t.squares[3]
	for ; len(b) >= 32; b = b[32:] {
		b0, b1, b2, b3 := lanes(b)
		b4, b5, b6, b7 := lanes(b[16:])
		least = min(least, ordered(b0), ordered(b1), ordered(b2), ordered(b3), ordered(b4), ordered(b5), ordered(b6), ordered(b7))
		most = max(most, ordered(b0), ordered(b1), ordered(b2), ordered(b3), ordered(b4), ordered(b5), ordered(b6), ordered(b7))
		x, y := number(b0), number(b4)
		s0, q0 = s0+(x+y), q0+(float64(x*x)+float64(y*y))
		x, y = number(b1), number(b5)
		s1, q1 = s1+(x+y), q1+(float64(x*x)+float64(y*y))
		x, y = number(b2), number(b6)
		s2, q2 = s2+(x+y), q2+(float64(x*x)+float64(y*y))
		x, y = number(b3), number(b7)
		s3, q3 = s3+(x+y), q3+(float64(x*x)+float64(y*y))
	}
	for ; len(b) >= 4; b = b[4:] {
		bits := binary.LittleEndian.Uint32(b)
		least, most = min(least, ordered(bits)), max(most, ordered(bits))
		x := number(bits)
		s0, q0 = s0+x, q0+float64(x*x)
	}
	t.lo[0], t.hi[0] = fromOrdered(least), fromOrdered(most)
	t.sum, t.squares = [4]float64{s0, s1, s2, s3}, [4]float64{q0, q1, q2, q3}
}

// lanes returns the next four elements.
func lanes(b []byte) (b0, b1, b2, b3 uint32) {
	b = b[:16]
	x, y := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
	return uint32(x), uint32(x >> 32), uint32(y), uint32(y >> 32)
}

func number(bits uint32) float64 { return float64(math.Float32frombits(bits)) }

// ordered turns the bits of a float32 into a number that is the larger, the larger the
// float32 is; NaN are beyond the infinities, and −0 is below 0.
func ordered(bits uint32) int32 {
	k := int32(bits)
	return k ^ int32(uint32(k>>31)>>1)
}

func fromOrdered(k int32) float32 { return math.Float32frombits(uint32(ordered(uint32(k)))) }

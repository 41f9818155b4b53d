package quantize

import (
	"encoding/binary"
	"math"
	"slices"
	"unsafe"
)

// inVectors returns how many of n elements the vector functions take.
func inVectors(n int) int {
	if !vectors {
		return 0
	}
	return n &^ 7
}

// magnitude are all bits of a float32 but its sign.
const magnitude = 1<<31 - 1

// extent is what part of a weight reaches, in the bits of float32: numbers above
// zero have the order of their bits, and so have magnitudes.
type extent struct {
	peak []uint32 // largest magnitudes, by channel
	hi   int32    // of the largest number, 0 if none is above zero
	lo   uint32   // of the least number, at most 1<<31 if none is below zero
}

// same enters elements of channel c.
func (e *extent) same(b []byte, c int) {
	var hi int32
	var lo uint32
	if k := inVectors(len(b) / 4); k > 0 {
		var h [8]int32
		var l [8]uint32
		extentSame8(&b[0], k, &h, &l)
		hi, lo, b = slices.Max(h[:]), slices.Max(l[:]), b[4*k:]
	}
	for ; len(b) >= 4; b = b[4:] {
		x := binary.LittleEndian.Uint32(b)
		hi, lo = max(hi, int32(x)), max(lo, x)
	}
	e.hi, e.lo = max(e.hi, hi), max(e.lo, lo)
	// The largest bits are those of a number below zero, or of none.
	e.peak[c] = max(e.peak[c], uint32(hi), lo&magnitude)
}

// each enters one element of channel c and of each that follows.
func (e *extent) each(b []byte, c int) {
	peak := e.peak[c : c+len(b)/4]
	hi, lo := e.hi, e.lo
	k := inVectors(len(peak))
	if k > 0 {
		var h [8]int32
		var l [8]uint32
		extentEach8(&b[0], k, &peak[0], &h, &l)
		hi, lo = max(hi, slices.Max(h[:])), max(lo, slices.Max(l[:]))
	}
	for i := k; i < len(peak); i++ {
		x := binary.LittleEndian.Uint32(b[4*i:])
		hi, lo, peak[i] = max(hi, int32(x)), max(lo, x), max(peak[i], x&magnitude)
	}
	e.hi, e.lo = hi, lo
}

// ends returns the least number, or 0 if that is less, and the largest, or 0 if that is
// more. One of them is not finite where a number is not.
func ends(w []float32) (lo, hi float32) {
	k := inVectors(len(w))
	var top [8]int32
	var bottom [8]uint32
	if k > 0 {
		extentSame8((*byte)(unsafe.Pointer(&w[0])), k, &top, &bottom)
	}
	h, l := slices.Max(top[:]), slices.Max(bottom[:])
	for _, x := range w[k:] {
		bits := math.Float32bits(x)
		h, l = max(h, int32(bits)), max(l, bits)
	}
	if l > 1<<31 { // else there is none below zero
		lo = math.Float32frombits(l)
	}
	return lo, math.Float32frombits(uint32(h))
}

// nearest writes code after code: x·inverse + zero, from 0 to top, a half rounded up.
func nearest(out []byte, w []float32, inverse, zero, top float32) {
	k := inVectors(len(w))
	if k > 0 {
		nearest8(&out[0], &w[0], k, inverse, zero, top)
	}
	for i, x := range w[k:] {
		v := float32(x*inverse) + zero // not in one operation, which rounds once
		switch {
		case !(v > 0):
			v = 0
		case v > top:
			v = top
		}
		out[k+i] = byte(float64(v) + 0.5) // v is not negative
	}
}

// codesSame codes len(out) numbers by one scale: x/scale in float32, rounded half
// to even, within the limit.
func codesSame(out, src []byte, scale, limit float32) {
	k := inVectors(len(out))
	if k > 0 {
		codesSame8(&out[0], &src[0], k, scale, limit)
	}
	for i := k; i < len(out); i++ {
		out[i] = code8(floatAt(src, i)/scale, limit)
	}
}

// codesEach codes numbers by a scale each.
func codesEach(out, src []byte, scales []float32, limit float32) {
	k := inVectors(len(out))
	if k > 0 {
		codesEach8(&out[0], &src[0], k, &scales[0], limit)
	}
	for i := k; i < len(out); i++ {
		out[i] = code8(floatAt(src, i)/scales[i], limit)
	}
}

// code8 is the code of a quotient.
func code8(v, limit float32) byte {
	if v > limit {
		v = limit
	} else if v < -limit {
		v = -limit
	}
	return byte(int8(math.RoundToEven(float64(v))))
}

package quantize

import (
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// blocks says how a row of weights is coded: block after block of size weights,
// each with a scale of its own, in codes of some bits:
//
//	w ≈ scale·(code − zero)
//
// Scales, zero points and codes are those of onnxruntime's MatMulNBits tool to
// the last bit.
type blocks struct {
	bits, size int
	asymmetric bool       // a zero point per block; else it is half of the codes
	dtype      onnx.DType // of the scales: that of the activations
}

// top is the largest code, mid the zero point of a symmetric block.
func (f blocks) top() float32 { return float32(int(1)<<f.bits - 1) }
func (f blocks) mid() float32 { return float32(int(1) << (f.bits - 1)) }

// count returns how many blocks k weights have.
func (f blocks) count(k int) int { return (k + f.size - 1) / f.size }

// bytes returns how many bytes one block of codes has.
func (f blocks) bytes() int { return f.size * f.bits / 8 }

// zeroBytes returns how many bytes the packed zero points of count blocks have.
func (f blocks) zeroBytes(count int) int { return (count*f.bits + 7) / 8 }

// step is how one block is coded.
type step struct{ scale, zero float32 }

// fit returns the step for the weights of one block. A symmetric block maps the
// weight of the largest magnitude, with its sign, to code 0; an asymmetric one
// maps its range, widened to hold zero, to all codes.
func (f blocks) fit(w []float32) step {
	lo, hi := extremes(w)
	return f.between(lo, hi)
}

func extremes(w []float32) (lo, hi float32) {
	if len(w) == 0 {
		return 0, 0
	}
	lo, hi = w[0], w[0]
	for _, x := range w[1:] {
		if x < lo {
			lo = x
		}
		if x > hi {
			hi = x
		}
	}
	return lo, hi
}

// between returns the step for weights from lo to hi.
func (f blocks) between(lo, hi float32) step {
	if !f.asymmetric {
		if abs32(hi) <= abs32(lo) {
			hi = lo
		}
		return step{f.stored(hi / -f.mid()), f.mid()}
	}
	lo, hi = min(lo, 0), max(hi, 0)
	scale := (hi - lo) / f.top()
	zero := lo
	if scale != 0 {
		zero = 0 - lo/scale
	}
	return step{f.stored(scale), float32(math.Round(float64(min(max(zero, 0), f.top()))))}
}

func abs32(x float32) float32 { return float32(math.Abs(float64(x))) }

// stored returns a scale as it is kept.
func (f blocks) stored(s float32) float32 {
	switch f.dtype {
	case onnx.Float16:
		return onnx.Float16ToFloat(onnx.FloatToFloat16(float64(s)))
	case onnx.BFloat16:
		return onnx.BFloat16ToFloat(onnx.FloatToBFloat16(s))
	}
	return s
}

// code writes the codes of w into out: the nearest, a half away from zero.
func (f blocks) code(out []byte, w []float32, s step) {
	inverse := float32(0)
	if s.scale != 0 {
		inverse = 1 / s.scale
	}
	nearest(out[:len(w)], w, inverse, s.zero, f.top())
}

// value returns the weight that a code stands for.
func (s step) value(code byte) float32 { return s.scale * (float32(code) - s.zero) }

// pack puts codes into packed, the first into the lowest bits; packed is zero
// before.
func (f blocks) pack(packed, codes []byte) {
	switch f.bits {
	case 8:
		copy(packed, codes)
	case 4:
		for i := 0; i+1 < len(codes); i += 2 {
			packed[i/2] = codes[i] | codes[i+1]<<4
		}
		if n := len(codes); n%2 == 1 {
			packed[n/2] = codes[n-1]
		}
	default:
		for i, c := range codes {
			at := i * f.bits
			packed[at/8] |= c << (at % 8)
			if at%8+f.bits > 8 {
				packed[at/8+1] |= c >> (8 - at%8)
			}
		}
	}
}

// unpack returns element i of packed.
func unpack(packed []byte, i, bits int) byte {
	at := i * bits
	v := uint16(packed[at/8]) >> (at % 8)
	if at%8+bits > 8 {
		v |= uint16(packed[at/8+1]) << (8 - at%8)
	}
	return byte(v & (1<<bits - 1))
}

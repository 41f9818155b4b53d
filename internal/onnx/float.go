package onnx

import "math"

// Float16ToFloat converts an IEEE 754 binary16 value.
func Float16ToFloat(h uint16) float32 {
	sign := uint32(h>>15) << 31
	exp, frac := uint32(h>>10)&0x1f, uint32(h)&0x3ff
	switch {
	case exp == 0x1f:
		return math.Float32frombits(sign | 0xff<<23 | frac<<13)
	case exp != 0:
		return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
	case frac == 0:
		return math.Float32frombits(sign)
	}
	f := float32(frac) / (1 << 24) // subnormal: frac · 2^-24, exact in float32
	return math.Float32frombits(sign | math.Float32bits(f))
}

// FloatToFloat16 rounds x to the nearest binary16 value, ties to even;
// magnitudes from 65520 on become infinite.
func FloatToFloat16(x float64) uint16 {
	var sign uint16
	if math.Signbit(x) {
		sign = 1 << 15
	}
	a := math.Abs(x)
	switch {
	case math.IsNaN(x):
		return sign | 0x7e00
	case a >= 65520:
		return sign | 0x7c00
	case a < 0x1p-14: // subnormal or zero: a multiple of 2^-24
		return sign | uint16(math.RoundToEven(a*0x1p24))
	}
	frac, exp := math.Frexp(a) // a = frac·2^exp, frac in [0.5, 1)
	m := uint16(math.RoundToEven(frac * 2048))
	return sign | (uint16(exp+13)<<10 + m) // m's leading bit carries into the exponent
}

// BFloat16ToFloat converts a bfloat16 value.
func BFloat16ToFloat(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }

// FloatToBFloat16 rounds x to the nearest bfloat16 value, ties to even.
func FloatToBFloat16(x float32) uint16 {
	b := math.Float32bits(x)
	if x != x {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// miniFloat describes a small float: an exponent of expBits with the given
// bias, manBits of mantissa, and what its special codes mean.
type miniFloat struct {
	expBits, manBits, bias int
	max                    float64 // largest finite magnitude
	inf                    bool    // all-ones exponent is Inf/NaN, as in IEEE 754
	fn                     bool    // only the all-ones code is NaN ("FN")
	uz                     bool    // only 0x80 is NaN and there is no −0 ("FNUZ")
}

var (
	e4m3fn   = miniFloat{expBits: 4, manBits: 3, bias: 7, max: 448, fn: true}
	e4m3fnuz = miniFloat{expBits: 4, manBits: 3, bias: 8, max: 240, uz: true}
	e5m2     = miniFloat{expBits: 5, manBits: 2, bias: 15, max: 57344, inf: true}
	e5m2fnuz = miniFloat{expBits: 5, manBits: 2, bias: 16, max: 57344, uz: true}
	e2m1     = miniFloat{expBits: 2, manBits: 1, bias: 1, max: 6}
)

func miniOf(d DType) miniFloat {
	switch d {
	case Float8E4M3FN:
		return e4m3fn
	case Float8E4M3FNUZ:
		return e4m3fnuz
	case Float8E5M2:
		return e5m2
	}
	return e5m2fnuz
}

// decodeFloat8 converts one 8-bit float (ONNX specification, "Float stored in 8 bits").
func decodeFloat8(c byte, d DType) float64 {
	if d == Float8E8M0 { // a power of two, 0xff is NaN
		if c == 0xff {
			return math.NaN()
		}
		return math.Ldexp(1, int(c)-127)
	}
	return decodeMini(c, miniOf(d))
}

func decodeMini(c byte, f miniFloat) float64 {
	sign := c >> (f.expBits + f.manBits) & 1
	exp := int(c>>f.manBits) & (1<<f.expBits - 1)
	man := int(c) & (1<<f.manBits - 1)
	top := exp == 1<<f.expBits-1
	switch {
	case f.uz && c == 0x80, f.fn && top && man == 1<<f.manBits-1, f.inf && top && man != 0:
		return math.NaN()
	case f.inf && top:
		return math.Inf(1 - 2*int(sign))
	}
	v := math.Ldexp(float64(man), 1-f.bias-f.manBits)
	if exp > 0 {
		v = math.Ldexp(float64(man+1<<f.manBits), exp-f.bias-f.manBits)
	}
	if sign == 1 {
		v = -v
	}
	return v
}

// encodeFloat8 rounds to nearest even and saturates, as Cast with saturate=1.
func encodeFloat8(x float64, d DType) byte {
	if d == Float8E8M0 {
		if math.IsNaN(x) {
			return 0xff
		}
		e := math.Round(math.Log2(math.Abs(x)))
		return byte(min(max(e+127, 0), 254))
	}
	return encodeMini(x, miniOf(d))
}

func encodeMini(x float64, f miniFloat) byte {
	signBit := byte(1) << (f.expBits + f.manBits)
	var sign byte
	if math.Signbit(x) {
		sign = signBit
	}
	if math.IsNaN(x) {
		switch {
		case f.uz:
			return 0x80
		case f.fn, f.inf:
			return sign | (signBit - 1)
		}
		return 0
	}
	a := math.Abs(x)
	if f.inf && math.IsInf(x, 0) {
		a = f.max
	}
	c := roundMini(min(a, f.max), f)
	if f.uz && c == 0 {
		return 0
	}
	return sign | c
}

// roundMini returns the code of the nearest value to a in [0, f.max], ties to even.
func roundMini(a float64, f miniFloat) byte {
	if a == 0 {
		return 0
	}
	_, e := math.Frexp(a)
	exp := max(e-1, 1-f.bias) // exponent of the result's binade, subnormals share the least
	m := math.RoundToEven(math.Ldexp(a, f.manBits-exp))
	return byte(int(m) + (exp+f.bias-1)<<f.manBits)
}

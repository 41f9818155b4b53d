package quantize

import (
	"encoding/binary"
	"math"

	"github.com/lapidary-ml/lapidary/internal/calibrate"
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// codeType are the integers that numbers are coded as.
type codeType struct {
	dtype     onnx.DType // 8 or 16 bits
	min, max  int        // codes in use
	symmetric bool       // ranges are ±a, and zero has the code in the middle
}

// activationTypes are the codes of activations, by what [CodeOptions] call them.
var activationTypes = map[string]codeType{
	"uint8":  {dtype: onnx.Uint8, min: 0, max: math.MaxUint8},
	"int8":   {dtype: onnx.Int8, min: math.MinInt8, max: math.MaxInt8},
	"uint16": {dtype: onnx.Uint16, min: 0, max: math.MaxUint16},
	"int16":  {dtype: onnx.Int16, min: math.MinInt16, max: math.MaxInt16},
}

// around are the codes of int8 with as many above zero as below.
var around = codeType{dtype: onnx.Int8, min: -fullRange, max: fullRange, symmetric: true}

func (t codeType) String() string { return t.dtype.String() }

// size is the number of bytes of a code.
func (t codeType) size() int { return t.dtype.Bits() / 8 }

func (t codeType) wide() bool { return t.size() > 1 }

// codes describes t to the calibration methods.
func (t codeType) codes() calibrate.Codes {
	return calibrate.Codes{Levels: t.max - t.min + 1, Symmetric: t.symmetric}
}

// middle is the zero point of symmetric codes.
func (t codeType) middle() int { return int(math.RoundToEven(float64(t.min+t.max) / 2)) }

// params returns scale and zero point for the range [lo, hi], which is widened
// to hold zero (onnxruntime.quantization, compute_scale_zp: the ends of the range
// are subtracted in float32).
func (t codeType) params(lo, hi float32) (scale float32, zero int) {
	lo, hi = min(lo, 0), max(hi, 0)
	if t.symmetric {
		hi = max(-lo, hi)
		lo = -hi
	}
	s := float64(hi-lo) / float64(t.max-t.min)
	if math.IsInf(s, 1) {
		s = (float64(hi) - float64(lo)) / float64(t.max-t.min)
	}
	switch {
	case s < minNormal && t.symmetric: // the runtime wants the same zero point in each channel
		return 1, t.middle()
	case s < minNormal:
		return 1, 0
	case t.symmetric:
		return float32(s), t.middle()
	}
	return float32(s), t.zeroPoint(lo, s)
}

// zeroPoint returns the code of zero where lo has the least one.
func (t codeType) zeroPoint(lo float32, scale float64) int {
	z := math.RoundToEven(float64(t.min) - float64(lo)/scale)
	return int(min(max(z, float64(t.min)), float64(t.max)))
}

// put writes one code.
func (t codeType) put(out []byte, code int) {
	if t.wide() {
		binary.LittleEndian.PutUint16(out, uint16(code))
		return
	}
	out[0] = byte(code)
}

// zeros returns zero points, all the same.
func (t codeType) zeros(name string, shape []int64, zero int) *onnx.Tensor {
	count := 1
	for _, d := range shape {
		count *= int(d)
	}
	out := make(onnx.Raw, count*t.size())
	for i := range count {
		t.put(out[i*t.size():], zero)
	}
	return &onnx.Tensor{Name: name, DType: t.dtype, Shape: shape, Data: out}
}

// quantized returns the codes of t, a constant that is coded like an activation.
func (t codeType) quantized(name string, x *onnx.Tensor, scale float32, zero int) *onnx.Tensor {
	lo, hi := float64(t.min), float64(t.max)
	return &onnx.Tensor{Name: name, DType: t.dtype, Shape: x.Shape, Data: &coded{src: x.Data, size: t.size(),
		fill: each(t.size(), func(out []byte, x float32) {
			t.put(out, int(min(max(code(x, scale)+float64(zero), lo), hi)))
		})}}
}

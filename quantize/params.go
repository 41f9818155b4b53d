package quantize

import (
	"fmt"
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// minNormal is the least normal float32. A scale below it is of a tensor that
// is zero for all purposes, and would divide to infinity.
const minNormal = 0x1p-126

// asymmetric returns scale and zero point of uint8 codes for the range [lo, hi],
// which is widened to hold zero (onnxruntime.quantization, compute_scale_zp).
func asymmetric(lo, hi float32) (scale float32, zero uint8) {
	lo, hi = min(lo, 0), max(hi, 0)
	s := (float64(hi) - float64(lo)) / 255
	if s < minNormal {
		return 1, 0
	}
	scale = float32(s)
	z := math.RoundToEven(0 - float64(lo)/s)
	return scale, uint8(min(max(z, 0), 255))
}

// symmetric returns the scale of int8 codes in [-limit, limit] for magnitudes up to a.
func symmetric(a float32, limit int) float32 {
	s := 2 * float64(a) / float64(2*limit)
	if s < minNormal {
		return 1
	}
	return float32(s)
}

// code rounds x/scale half to even; the division is in float32, as in the runtime.
func code(x, scale float32) float64 { return math.RoundToEven(float64(x / scale)) }

// limits of symmetric int8 codes.
const (
	fullRange    = 127
	reducedRange = 64
)

func (o *Options) codeLimit() int {
	if o.ReduceRange {
		return reducedRange
	}
	return fullRange
}

// matrix is a weight tensor seen as channels along one axis.
type matrix struct {
	t        *onnx.Tensor
	channels int // 1: one scale for all
	inner    int // elements from one index of the axis to the next
}

// channelsOf returns w cut along axis; axis < 0 means one scale for all.
func channelsOf(t *onnx.Tensor, axis int) matrix {
	m := matrix{t: t, channels: 1, inner: 1}
	if axis < 0 {
		return m
	}
	m.channels = int(t.Shape[axis])
	for _, d := range t.Shape[axis+1:] {
		m.inner *= int(d)
	}
	return m
}

func (m matrix) channel(i int) int { return i / m.inner % m.channels }

// magnitudes returns the largest magnitude of each channel, and the extremes of
// all. It fails on weights that are not finite.
func (m matrix) magnitudes() (peak []float32, lo, hi float32, err error) {
	b, err := m.t.Bytes()
	if err != nil {
		return nil, 0, 0, err
	}
	peak = make([]float32, m.channels)
	for i := range len(b) / 4 {
		x := floatAt(b, i)
		a := float32(math.Abs(float64(x)))
		if !(a <= math.MaxFloat32) {
			return nil, 0, 0, fmt.Errorf("weight %q has an element %v", m.t.Name, x)
		}
		c := m.channel(i)
		peak[c], lo, hi = max(peak[c], a), min(lo, x), max(hi, x)
	}
	return peak, lo, hi, nil
}

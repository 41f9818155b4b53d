package quantize

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// HalfOptions are the options of the types of 16 bits, [Float16] and [BFloat16].
// The zero value is the default.
type HalfOptions struct {
	HalfIO     bool    // inputs and outputs of the model too
	HalfError  float64 // with Calibration: the most error of an output, over its largest magnitude; 0: 1e-2 for fp16, 5e-2 for bf16
	HalfMargin float64 // with Calibration: by how much values may outgrow those that were seen; 0: 4
}

// rangeMargin is the default of HalfOptions.HalfMargin.
const rangeMargin = 4

// halfType is what has to be known of a floating-point type of 16 bits.
type halfType struct {
	target Target
	dtype  onnx.DType
	max    float64 // toLargest finite
	least  float64 // least normal
	exact  int64   // up to which every integer has a code
	sum    int64   // most elements that are summed in it
	error  float64 // default of HalfOptions.HalfError
	opset  int64   // the first with Cast to it in the form that is written
	up     int64   // the opset in which most operators take it
}

// halfTypes are the types that there are. A sum of n equal terms stops growing in
// float16 from 2048 on, in bfloat16 from 256; half of that is the limit.
var halfTypes = map[Target]*halfType{
	Float16:  {Float16, onnx.Float16, maxHalf, minHalf, 2048, 1024, 1e-2, 7, 7},
	BFloat16: {BFloat16, onnx.BFloat16, 0x1.FEp127, 0x1p-126, 256, 128, 5e-2, 13, 22},
}

const (
	maxHalf = 65504   // the largest finite float16
	minHalf = 0x1p-14 // the least normal float16
)

// String returns the name as reports have it.
func (t *halfType) String() string { return t.dtype.String() }

// standIn says what finite constants beyond the range become.
type standIn int

const (
	toLargest standIn = iota // the largest finite number
	half32k                  // half of it: to this something is added
	infinite                 // infinity: a bound that nothing reaches
)

// code returns the bits of x. What is finite and beyond the range becomes s.
func (t *halfType) code(x float32, s standIn) uint16 {
	if a := float64(x); math.Abs(a) > t.max && finite32(x) {
		limit := t.max
		switch s {
		case half32k:
			limit /= 2
		case infinite:
			limit = math.Inf(1)
		}
		x = float32(math.Copysign(limit, a))
	}
	if t.dtype == onnx.BFloat16 {
		return onnx.FloatToBFloat16(x)
	}
	return onnx.FloatToFloat16(float64(x))
}

// round returns the number that x's code stands for.
func (t *halfType) round(x float32, s standIn) float32 {
	if t.dtype == onnx.BFloat16 {
		return onnx.BFloat16ToFloat(t.code(x, s))
	}
	return onnx.Float16ToFloat(t.code(x, s))
}

// coded returns x in t.
func (t *halfType) coded(x *onnx.Tensor, s standIn) *onnx.Tensor {
	h := *x
	h.DType, h.External, h.Unknown = t.dtype, nil, nil
	h.Data = &coded{src: x.Data, size: 2, fill: each(2, func(out []byte, v float32) {
		binary.LittleEndian.PutUint16(out, t.code(v, s))
	})}
	return &h
}

// rounded returns x with its elements rounded to t, in float32.
func (t *halfType) rounded(x *onnx.Tensor, s standIn) *onnx.Tensor {
	r := *x
	r.External, r.Unknown = nil, nil
	r.Data = &coded{src: x.Data, size: 4, fill: each(4, func(out []byte, v float32) {
		binary.LittleEndian.PutUint32(out, math.Float32bits(t.round(v, s)))
	})}
	return &r
}

// fitness is how the elements of a float32 constant fit into a type.
type fitness struct {
	count    int
	peak     float64 // toLargest finite magnitude
	squares  float64 // sum of the squares of the finite elements
	over     int     // finite elements beyond the range
	worst    float32 // the first of them
	positive bool    // one of them is positive
	tiny     float32 // an element that is not zero below the least normal number, 0 for none
	gone     int     // elements that are not zero and become zero
}

// fit reads t's content.
func (h *halfType) fit(t *onnx.Tensor) (*fitness, error) {
	b, err := t.Bytes()
	if err != nil {
		return nil, err
	}
	f := &fitness{count: len(b) / 4}
	for i := range f.count {
		x := floatAt(b, i)
		a := math.Abs(float64(x))
		if !finite32(x) {
			continue
		}
		f.peak, f.squares = max(f.peak, a), f.squares+a*a
		switch {
		case a == 0:
		case a > h.max:
			if f.over == 0 {
				f.worst = x
			}
			f.over++
			f.positive = f.positive || x > 0
		case a < h.least:
			f.tiny = x
			if h.round(x, toLargest) == 0 {
				f.gone++
			}
		}
	}
	return f, nil
}

// small is the most elements of a constant each of which must survive.
const small = 16

// unfit says why a constant called name of that fitness stays in float32; "" if it
// may be of type h. A small constant such as an epsilon must not vanish, and no
// weight overflow. allowed: what is beyond the range has a stand-in.
func (f *fitness) unfit(h *halfType, name string, allowed bool) string {
	switch {
	case f.count <= small && f.tiny != 0:
		return fmt.Sprintf("its constant %q of %v would vanish in %v", name, f.tiny, h)
	case f.over > 0 && !allowed:
		return fmt.Sprintf("its constant %q has an element %v, beyond the range of %v", name, f.worst, h)
	case f.peak > 0 && f.peak < h.least:
		return fmt.Sprintf("its constant %q has no element above %.2g, below which %v has fewer bits", name, f.peak, h)
	}
	return ""
}

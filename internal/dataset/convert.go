package dataset

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// convert returns t with element type d. Every element must keep its value,
// save that floats may be rounded to a narrower float: what is stored as
// double for want of a choice, or float32 data for a float16 model.
func convert(t *onnx.Tensor, d onnx.DType) (*onnx.Tensor, error) {
	from := t.DType
	if from == d || d == onnx.Undefined {
		return t, nil
	}
	switch {
	case isComplex(from) || isComplex(d) || from == onnx.String || d == onnx.String:
		return nil, fmt.Errorf("%v data cannot become %v", from, d)
	case from.IsFloat() && !d.IsFloat():
		return nil, fmt.Errorf("%v data cannot become %v without loss; store it as integers", from, d)
	case from.IsFloat():
		return convertFloat(t, d)
	}
	return convertInt(t, d)
}

func isComplex(d onnx.DType) bool { return d == onnx.Complex64 || d == onnx.Complex128 }

// convertFloat rounds to nearest even and refuses numbers beyond d's range.
func convertFloat(t *onnx.Tensor, d onnx.DType) (*onnx.Tensor, error) {
	v, err := t.Float64s()
	if err != nil {
		return nil, err
	}
	out, err := onnx.FromFloat64s(t.Name, d, t.Shape, v)
	if err != nil || d == onnx.Double || d == onnx.Float && t.DType != onnx.Double {
		return out, err
	}
	back, err := out.Floats()
	if err != nil {
		return nil, err
	}
	for i, x := range v {
		if math.IsInf(float64(back[i]), 0) && !math.IsInf(x, 0) {
			return nil, fmt.Errorf("element %d is %g, beyond the range of %v", i, x, d)
		}
	}
	return out, nil
}

// convertInt converts integers and booleans, refusing a value that d cannot hold.
func convertInt(t *onnx.Tensor, d onnx.DType) (*onnx.Tensor, error) {
	if t.DType == onnx.Uint8 && d == onnx.Float {
		return bytesToFloat(t)
	}
	v, err := t.Ints()
	if err != nil {
		return nil, err
	}
	lo, hi := exactRange(d)
	if t.DType == onnx.Uint64 {
		lo = max(lo, 0) // a negative value is a wrapped one above the int64 range
	}
	for i, x := range v {
		if x < lo || x > hi {
			return nil, fmt.Errorf("element %d is %d, which %v cannot hold", i, x, d)
		}
	}
	if d.Bits() < 64 || d == onnx.Double {
		f := make([]float64, len(v))
		for i, x := range v {
			f[i] = float64(x)
		}
		return onnx.FromFloat64s(t.Name, d, t.Shape, f)
	}
	b := make([]byte, 8*len(v))
	for i, x := range v {
		binary.LittleEndian.PutUint64(b[8*i:], uint64(x))
	}
	return onnx.NewTensor(t.Name, d, t.Shape, b)
}

// exactRange returns the range of integers that d holds exactly, without gaps.
func exactRange(d onnx.DType) (lo, hi int64) {
	switch d {
	case onnx.Bool:
		return 0, 1
	case onnx.Double:
		return -1 << 53, 1 << 53
	case onnx.Float:
		return -1 << 24, 1 << 24
	case onnx.Float16:
		return -1 << 11, 1 << 11
	case onnx.BFloat16:
		return -1 << 8, 1 << 8
	case onnx.Float8E4M3FN, onnx.Float8E4M3FNUZ:
		return -1 << 4, 1 << 4
	case onnx.Float8E5M2, onnx.Float8E5M2FNUZ:
		return -1 << 3, 1 << 3
	case onnx.Float8E8M0:
		return 1, 2
	case onnx.Float4E2M1:
		return -4, 4
	}
	return onnx.IntRange(d)
}

func bytesToFloat(t *onnx.Tensor) (*onnx.Tensor, error) {
	b, err := t.Bytes()
	if err != nil {
		return nil, err
	}
	out := make([]byte, 4*len(b))
	for i, x := range b {
		binary.LittleEndian.PutUint32(out[4*i:], math.Float32bits(float32(x)))
	}
	return onnx.NewTensor(t.Name, onnx.Float, t.Shape, out)
}

// reshaped returns t with another shape of as many elements, sharing its content.
func reshaped(t *onnx.Tensor, name string, shape []int64) *onnx.Tensor {
	c := *t
	c.Name, c.Shape = name, shape
	return &c
}

package compare

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// window is how many elements are converted at a time: a multiple of 4, so that windows of 2-bit elements start at a byte.
const window = 4096

// reader converts a tensor's packed bytes window by window. A complex tensor is read as twice as many real elements.
type reader struct {
	name   string
	dtype  onnx.DType
	n      int64
	data   []byte
	buffer []float64
}

func newReader(t *onnx.Tensor) (*reader, error) {
	b, err := t.Bytes()
	if err != nil {
		return nil, err
	}
	r := &reader{name: t.Name, dtype: t.DType, data: b, buffer: make([]float64, 0, window)}
	r.n, _ = t.Elements()
	switch t.DType {
	case onnx.Complex64:
		r.dtype, r.n = onnx.Float, 2*r.n
	case onnx.Complex128:
		r.dtype, r.n = onnx.Double, 2*r.n
	}
	if !r.dtype.IsFloat() && !r.dtype.IsInt() && r.dtype != onnx.Bool {
		return nil, fmt.Errorf("tensor %q: elements of type %v cannot be compared", t.Name, t.DType)
	}
	return r, nil
}

// span returns the bytes of n elements from at on; at must be a multiple of 4.
func (r *reader) span(at, n int64) []byte {
	bits := int64(r.dtype.Bits())
	return r.data[at*bits/8 : (at*bits+n*bits+7)/8]
}

// read returns n elements from at on, in a buffer that the next call overwrites.
func (r *reader) read(at, n int64) []float64 {
	b, out := r.span(at, n), r.buffer[:n]
	switch r.dtype {
	case onnx.Float:
		for i := range out {
			out[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:])))
		}
	case onnx.Double:
		for i := range out {
			out[i] = math.Float64frombits(binary.LittleEndian.Uint64(b[8*i:]))
		}
	case onnx.Bool:
		for i := range out {
			out[i] = 0
			if b[i] != 0 {
				out[i] = 1
			}
		}
	default:
		t, err := onnx.NewTensor(r.name, r.dtype, []int64{n}, b)
		if err != nil {
			panic("compare: " + err.Error()) // span cut the bytes for exactly this type and count
		}
		if out, err = t.Float64s(); err != nil {
			panic("compare: " + err.Error()) // newReader let real types through only
		}
	}
	return out
}

func (r *reader) maxMagnitude() float64 {
	m := 0.0
	for at := int64(0); at < r.n; at += window {
		for _, v := range r.read(at, min(window, r.n-at)) {
			if a := math.Abs(v); a > m && !math.IsInf(a, 0) {
				m = a
			}
		}
	}
	return m
}

// sameBytes says whether element i of both is stored alike: 64-bit integers may differ where their float64 values agree.
func (r *reader) sameBytes(o *reader, i int64) bool {
	if r.dtype.Bits() < 64 {
		return true
	}
	return bytes.Equal(r.data[8*i:8*i+8], o.data[8*i:8*i+8])
}

// ulps returns how many representable values lie between element i of both, where the type has such a measure.
func (r *reader) ulps(o *reader, i int64, sameType bool) uint64 {
	if !sameType {
		return 0
	}
	var a, b uint64
	bits := r.dtype.Bits()
	switch r.dtype {
	case onnx.Float:
		a, b = uint64(binary.LittleEndian.Uint32(r.data[4*i:])), uint64(binary.LittleEndian.Uint32(o.data[4*i:]))
	case onnx.Double:
		a, b = binary.LittleEndian.Uint64(r.data[8*i:]), binary.LittleEndian.Uint64(o.data[8*i:])
	case onnx.Float16, onnx.BFloat16:
		a, b = uint64(binary.LittleEndian.Uint16(r.data[2*i:])), uint64(binary.LittleEndian.Uint16(o.data[2*i:]))
	default:
		return 0
	}
	x, y := ordered(a, bits), ordered(b, bits)
	if x < y {
		x, y = y, x
	}
	return x - y
}

// ordered maps the bits of a sign-magnitude float to an integer that grows with its value; both zeros map to one.
func ordered(v uint64, bits int) uint64 {
	sign := uint64(1) << (bits - 1)
	if v&sign != 0 {
		return sign - (v &^ sign)
	}
	return sign + v
}

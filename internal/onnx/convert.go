package onnx

import (
	"encoding/binary"
	"fmt"
	"math"
)

// NewTensor returns a tensor over packed little-endian bytes, which it keeps.
// It fails if the length of data does not fit dtype and shape.
func NewTensor(name string, d DType, shape []int64, data []byte) (*Tensor, error) {
	t := &Tensor{Name: name, DType: d, Shape: shape, Data: Raw(data)}
	if err := t.check(); err != nil {
		return nil, err
	}
	return t, nil
}

// FromFloats returns a Float tensor; len(v) must be the product of shape.
func FromFloats(name string, shape []int64, v []float32) *Tensor {
	b := make([]byte, 4*len(v))
	for i, x := range v {
		binary.LittleEndian.PutUint32(b[4*i:], math.Float32bits(x))
	}
	return must(NewTensor(name, Float, shape, b))
}

// FromInts returns an Int64 tensor; len(v) must be the product of shape.
func FromInts(name string, shape []int64, v []int64) *Tensor {
	b := make([]byte, 8*len(v))
	for i, x := range v {
		binary.LittleEndian.PutUint64(b[8*i:], uint64(x))
	}
	return must(NewTensor(name, Int64, shape, b))
}

// FromStrings returns a String tensor; len(v) must be the product of shape.
func FromStrings(name string, shape []int64, v []string) *Tensor {
	t := &Tensor{Name: name, DType: String, Shape: shape}
	for _, s := range v {
		t.Str = append(t.Str, []byte(s))
	}
	return must(t, t.check())
}

// FromFloat64s returns a tensor of type d, a number type of any width or Bool,
// converting each element: floats round to nearest even, integers truncate
// toward zero and saturate, Bool is v != 0.
func FromFloat64s(name string, d DType, shape []int64, v []float64) (*Tensor, error) {
	size, ok := d.ByteSize(int64(len(v)))
	if !ok || d == Complex64 || d == Complex128 {
		return nil, fmt.Errorf("tensor %q: cannot make %v from numbers", name, d)
	}
	b := make([]byte, size)
	for i, x := range v {
		putElement(b, i, d, x)
	}
	return NewTensor(name, d, shape, b)
}

func must(t *Tensor, err error) *Tensor {
	if err != nil {
		panic("onnx: " + err.Error())
	}
	return t
}

// Floats returns the elements as float32, converting from any real type.
func (t *Tensor) Floats() ([]float32, error) {
	b, err := t.Bytes()
	if err != nil {
		return nil, err
	}
	n, _ := t.Elements()
	out := make([]float32, n)
	if t.DType == Float {
		for i := range out {
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
		}
		return out, nil
	}
	if err := t.numeric(); err != nil {
		return nil, err
	}
	for i := range out {
		out[i] = float32(element(b, i, t.DType))
	}
	return out, nil
}

// Float64s returns the elements as float64, converting from any real type.
// 64-bit integers beyond 2^53 lose their low bits.
func (t *Tensor) Float64s() ([]float64, error) {
	b, err := t.Bytes()
	if err != nil {
		return nil, err
	}
	if err := t.numeric(); err != nil {
		return nil, err
	}
	n, _ := t.Elements()
	out := make([]float64, n)
	for i := range out {
		out[i] = element(b, i, t.DType)
	}
	return out, nil
}

// Ints returns the elements of an integer or Bool tensor as int64; Uint64
// values above the int64 range wrap.
func (t *Tensor) Ints() ([]int64, error) {
	if !t.DType.IsInt() && t.DType != Bool {
		return nil, fmt.Errorf("tensor %q: %v elements are not integers", t.Name, t.DType)
	}
	b, err := t.Bytes()
	if err != nil {
		return nil, err
	}
	n, _ := t.Elements()
	out := make([]int64, n)
	for i := range out {
		out[i] = intElement(b, i, t.DType)
	}
	return out, nil
}

// Strings returns the elements of a String tensor.
func (t *Tensor) Strings() ([]string, error) {
	if t.DType != String {
		return nil, fmt.Errorf("tensor %q: %v elements are not strings", t.Name, t.DType)
	}
	out := make([]string, len(t.Str))
	for i, s := range t.Str {
		out[i] = string(s)
	}
	return out, nil
}

func (t *Tensor) numeric() error {
	if t.DType == String || t.DType == Complex64 || t.DType == Complex128 || !t.DType.Valid() {
		return fmt.Errorf("tensor %q: %v elements are not real numbers", t.Name, t.DType)
	}
	return nil
}

// intElement returns element i of packed bytes b of an integer type or Bool.
func intElement(b []byte, i int, d DType) int64 {
	le := binary.LittleEndian
	switch d {
	case Uint8, Bool:
		return int64(b[i])
	case Int8:
		return int64(int8(b[i]))
	case Uint16:
		return int64(le.Uint16(b[2*i:]))
	case Int16:
		return int64(int16(le.Uint16(b[2*i:])))
	case Int32:
		return int64(int32(le.Uint32(b[4*i:])))
	case Uint32:
		return int64(le.Uint32(b[4*i:]))
	case Int64, Uint64:
		return int64(le.Uint64(b[8*i:]))
	case Uint4:
		return int64(b[i/2] >> (4 * (i % 2)) & 0xf)
	case Int4:
		return int64(int8(b[i/2]>>(4*(i%2))<<4) >> 4)
	case Uint2:
		return int64(b[i/4] >> (2 * (i % 4)) & 0x3)
	case Int2:
		return int64(int8(b[i/4]>>(2*(i%4))<<6) >> 6)
	}
	return 0
}

// element returns element i of packed bytes b of a real type.
func element(b []byte, i int, d DType) float64 {
	le := binary.LittleEndian
	switch d {
	case Float:
		return float64(math.Float32frombits(le.Uint32(b[4*i:])))
	case Double:
		return math.Float64frombits(le.Uint64(b[8*i:]))
	case Float16:
		return float64(Float16ToFloat(le.Uint16(b[2*i:])))
	case BFloat16:
		return float64(BFloat16ToFloat(le.Uint16(b[2*i:])))
	case Uint64:
		return float64(le.Uint64(b[8*i:]))
	case Float4E2M1:
		return decodeMini(b[i/2]>>(4*(i%2))&0xf, e2m1)
	case Float8E4M3FN, Float8E4M3FNUZ, Float8E5M2, Float8E5M2FNUZ, Float8E8M0:
		return decodeFloat8(b[i], d)
	}
	return float64(intElement(b, i, d))
}

// putElement stores x as element i of packed bytes b, which start as zeros.
func putElement(b []byte, i int, d DType, x float64) {
	le := binary.LittleEndian
	switch d {
	case Float:
		le.PutUint32(b[4*i:], math.Float32bits(float32(x)))
	case Double:
		le.PutUint64(b[8*i:], math.Float64bits(x))
	case Float16:
		le.PutUint16(b[2*i:], FloatToFloat16(x))
	case BFloat16:
		le.PutUint16(b[2*i:], FloatToBFloat16(float32(x)))
	case Bool:
		if x != 0 {
			b[i] = 1
		}
	case Uint64:
		le.PutUint64(b[8*i:], saturateUint64(x))
	case Float4E2M1:
		b[i/2] |= encodeMini(x, e2m1) << (4 * (i % 2))
	case Float8E4M3FN, Float8E4M3FNUZ, Float8E5M2, Float8E5M2FNUZ, Float8E8M0:
		b[i] = encodeFloat8(x, d)
	default:
		putInt(b, i, d, saturate(x, d))
	}
}

func putInt(b []byte, i int, d DType, v int64) {
	le := binary.LittleEndian
	switch d.Bits() {
	case 2:
		b[i/4] |= byte(v&0x3) << (2 * (i % 4))
	case 4:
		b[i/2] |= byte(v&0xf) << (4 * (i % 2))
	case 8:
		b[i] = byte(v)
	case 16:
		le.PutUint16(b[2*i:], uint16(v))
	case 32:
		le.PutUint32(b[4*i:], uint32(v))
	case 64:
		le.PutUint64(b[8*i:], uint64(v))
	}
}

// saturate truncates x toward zero into the range of integer type d; NaN gives 0.
func saturate(x float64, d DType) int64 {
	if math.IsNaN(x) {
		return 0
	}
	lo, hi := IntRange(d)
	switch x = math.Trunc(x); {
	case x <= float64(lo):
		return lo
	case x >= float64(hi):
		return hi
	}
	return int64(x)
}

func saturateUint64(x float64) uint64 {
	switch {
	case !(x > 0):
		return 0
	case x >= math.MaxUint64:
		return math.MaxUint64
	}
	return uint64(x)
}

// IntRange returns the least and greatest value of an integer type; the
// greatest of Uint64 is given as MaxInt64.
func IntRange(d DType) (lo, hi int64) {
	bits := d.Bits()
	if d.IsSigned() {
		return -1 << (bits - 1), 1<<(bits-1) - 1
	}
	if bits >= 64 {
		return 0, math.MaxInt64
	}
	return 0, 1<<bits - 1
}

package eval

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// array is a tensor being computed. Exactly one of raw, str and wide holds its
// content, row-major. Arrays are never modified once they are made.
//
// It may also be a sequence of arrays, or an optional value without an element;
// [call.input] gives neither to operators on tensors.
type array struct {
	dt    onnx.DType
	shape []int64
	raw   []byte    // little-endian elements; types below 8 bits take a byte each
	str   [][]byte  // content of String arrays
	wide  []float64 // content of floats under Options.Wide

	seq    []*array // elements of a sequence; nil: it is none
	absent bool     // an optional value without an element
}

// bytes returns the memory that a takes.
func (a *array) bytes() int64 {
	n := int64(len(a.raw)) + 8*int64(len(a.wide))
	for _, s := range a.str {
		n += int64(len(s)) + 24
	}
	for _, e := range a.seq {
		n += e.bytes()
	}
	return n
}

func (a *array) len() int {
	n, _ := onnx.ElementCount(a.shape)
	return int(n)
}

func (a *array) rank() int { return len(a.shape) }

// width returns the bytes of one element in raw.
func width(dt onnx.DType) int { return max(dt.Bits(), 8) / 8 }

// elemBytes returns the memory of one element of an array.
func elemBytes(dt onnx.DType, wide bool) int64 {
	switch {
	case dt == onnx.String:
		return 24
	case wide && dt.IsFloat():
		return 8
	}
	return int64(width(dt))
}

// fromTensor returns t's content as an array, sharing it where the layout allows.
func fromTensor(t *onnx.Tensor, wide bool) (*array, error) {
	a := &array{dt: t.DType, shape: t.Shape}
	if t.DType == onnx.String {
		a.str = t.Str
		_, err := t.Strings()
		return a, err
	}
	b, err := t.Bytes()
	if err != nil {
		return nil, err
	}
	if wide && t.DType.IsFloat() {
		a.wide, err = t.Float64s()
		return a, err
	}
	a.raw = b
	if bits := t.DType.Bits(); bits < 8 {
		a.raw = unpack(b, bits, t.DType.IsSigned(), a.len())
	}
	return a, nil
}

// unpack gives each element of a type of fewer than 8 bits a byte of its own,
// sign-extended where the type is signed.
func unpack(b []byte, bits int, signed bool, n int) []byte {
	out := make([]byte, n)
	per := 8 / bits
	for i := range out {
		x := b[i/per] >> (bits * (i % per)) << (8 - bits)
		if signed {
			out[i] = byte(int8(x) >> (8 - bits))
		} else {
			out[i] = x >> (8 - bits)
		}
	}
	return out
}

// tensor returns a's content as a tensor called name.
func (a *array) tensor(name string) (*onnx.Tensor, error) {
	if a.seq != nil || a.absent {
		return nil, &UnsupportedError{"a result", "it is a sequence or an optional value"}
	}
	if a.dt == onnx.String {
		return &onnx.Tensor{Name: name, DType: a.dt, Shape: a.shape, Str: a.str}, nil
	}
	if a.wide != nil {
		return onnx.FromFloat64s(name, a.dt, a.shape, a.wide)
	}
	raw := a.raw
	if bits := a.dt.Bits(); bits < 8 {
		per := 8 / bits
		raw = make([]byte, (len(a.raw)+per-1)/per)
		for i, x := range a.raw {
			raw[i/per] |= x & (1<<bits - 1) << (bits * (i % per))
		}
	}
	return onnx.NewTensor(name, a.dt, a.shape, raw)
}

// reshaped returns a's content under another shape of as many elements.
func (a *array) reshaped(shape []int64) *array {
	b := *a
	b.shape = shape
	return &b
}

// number is a type that elements are computed in: float32 for floats of up to
// 32 bits, float64, int64 for Bool and integers, uint64 for Uint64.
type number interface {
	float32 | float64 | int64 | uint64
}

// kind says in which type the elements of an array are computed.
type kind int

const (
	kindNone kind = iota // strings, complex numbers
	kindF32
	kindF64
	kindI64
	kindU64
)

func kindOf(a *array) kind {
	switch dt := a.dt; {
	case a.wide != nil || dt == onnx.Double:
		return kindF64
	case dt.IsFloat():
		return kindF32
	case dt == onnx.Uint64:
		return kindU64
	case dt.IsInt() || dt == onnx.Bool:
		return kindI64
	}
	return kindNone
}

// load returns the elements of a number or Bool array as T, converted as Go
// converts; callers choose T by [kindOf] or know that the values fit. Elements
// that are no numbers end the computation of the node with an error.
func load[T number](a *array) []T {
	if a.wide != nil {
		return convert[T](a.wide)
	}
	if kindOf(a) == kindNone {
		panic(failure{fmt.Errorf("want numbers, have %v elements", a.dt)})
	}
	out := make([]T, a.len())
	le := binary.LittleEndian
	switch a.dt {
	case onnx.Float:
		for i := range out {
			out[i] = T(math.Float32frombits(le.Uint32(a.raw[4*i:])))
		}
	case onnx.Double:
		for i := range out {
			out[i] = T(math.Float64frombits(le.Uint64(a.raw[8*i:])))
		}
	case onnx.Int64:
		for i := range out {
			out[i] = T(int64(le.Uint64(a.raw[8*i:])))
		}
	case onnx.Uint64:
		for i := range out {
			out[i] = T(le.Uint64(a.raw[8*i:]))
		}
	case onnx.Float16:
		for i := range out {
			out[i] = T(onnx.Float16ToFloat(le.Uint16(a.raw[2*i:])))
		}
	case onnx.BFloat16:
		for i := range out {
			out[i] = T(onnx.BFloat16ToFloat(le.Uint16(a.raw[2*i:])))
		}
	default:
		loadSmall(a, out)
	}
	return out
}

// loadSmall decodes Bool, integers of up to 32 bits and floats of up to 8.
func loadSmall[T number](a *array, out []T) {
	if a.dt.IsFloat() {
		var table [256]T
		for i := range table {
			table[i] = T(miniFloat(a.dt, byte(i)))
		}
		for i := range out {
			out[i] = table[a.raw[i]]
		}
		return
	}
	le := binary.LittleEndian
	for i := range out {
		switch a.dt {
		case onnx.Int8, onnx.Int4, onnx.Int2:
			out[i] = T(int8(a.raw[i]))
		case onnx.Uint16:
			out[i] = T(le.Uint16(a.raw[2*i:]))
		case onnx.Int16:
			out[i] = T(int16(le.Uint16(a.raw[2*i:])))
		case onnx.Int32:
			out[i] = T(int32(le.Uint32(a.raw[4*i:])))
		case onnx.Uint32:
			out[i] = T(le.Uint32(a.raw[4*i:]))
		default:
			out[i] = T(a.raw[i])
		}
	}
}

// miniFloat decodes one float of 4 or 8 bits.
func miniFloat(dt onnx.DType, code byte) float64 {
	t, err := onnx.NewTensor("", dt, []int64{}, []byte{code & (1<<dt.Bits() - 1)})
	if err != nil {
		panic("eval: " + err.Error())
	}
	v, err := t.Float64s()
	if err != nil {
		panic("eval: " + err.Error())
	}
	return v[0]
}

func convert[T, S number](in []S) []T {
	if same, ok := any(in).([]T); ok {
		return same
	}
	out := make([]T, len(in))
	for i, x := range in {
		out[i] = T(x)
	}
	return out
}

// store makes an array of type dt from computed elements: floats round to
// nearest even, integers wrap around, Bool is v != 0.
func store[T number](c *call, dt onnx.DType, shape []int64, v []T) *array {
	a := &array{dt: dt, shape: slices.Clone(shape)}
	if a.shape == nil {
		a.shape = []int64{}
	}
	if c.r.wide && dt.IsFloat() {
		a.wide = convert[float64](v)
		if a.wide == nil {
			a.wide = []float64{}
		}
		return a
	}
	if n := a.len(); n != len(v) {
		panic(failure{fmt.Errorf("%d elements for shape %v", len(v), shape)})
	}
	if dt.IsFloat() {
		a.raw = storeFloats(dt, v)
		return a
	}
	w := width(dt)
	a.raw = make([]byte, w*len(v))
	le := binary.LittleEndian
	for i, x := range v {
		switch {
		case dt == onnx.Bool:
			if x != 0 {
				a.raw[i] = 1
			}
		case w == 1:
			a.raw[i] = wrapByte(dt, int64(x))
		case w == 2:
			le.PutUint16(a.raw[2*i:], uint16(int64(x)))
		case w == 4:
			le.PutUint32(a.raw[4*i:], uint32(int64(x)))
		case dt == onnx.Uint64:
			le.PutUint64(a.raw[8*i:], uint64(x))
		default:
			le.PutUint64(a.raw[8*i:], uint64(int64(x)))
		}
	}
	return a
}

// wrapByte reduces x to a type of up to 8 bits, as it lies in an array.
func wrapByte(dt onnx.DType, x int64) byte {
	shift := 8 - dt.Bits()
	if dt.IsSigned() {
		return byte(int8(byte(x)<<shift) >> shift)
	}
	return byte(x) << shift >> shift
}

func storeFloats[T number](dt onnx.DType, v []T) []byte {
	le := binary.LittleEndian
	b := make([]byte, width(dt)*len(v))
	switch dt {
	case onnx.Float:
		for i, x := range v {
			le.PutUint32(b[4*i:], math.Float32bits(float32(x)))
		}
	case onnx.Double:
		for i, x := range v {
			le.PutUint64(b[8*i:], math.Float64bits(float64(x)))
		}
	case onnx.Float16:
		for i, x := range v {
			le.PutUint16(b[2*i:], onnx.FloatToFloat16(float64(x)))
		}
	case onnx.BFloat16:
		for i, x := range v {
			le.PutUint16(b[2*i:], onnx.FloatToBFloat16(float32(x)))
		}
	default:
		t, err := onnx.FromFloat64s("", dt, []int64{int64(len(v))}, convert[float64](v))
		if err != nil {
			panic("eval: " + err.Error())
		}
		packed, err := t.Bytes()
		if err != nil {
			panic("eval: " + err.Error())
		}
		if dt.Bits() < 8 {
			return unpack(packed, dt.Bits(), false, len(v))
		}
		return packed
	}
	return b
}

// blank returns an array of zeros (empty strings) to be filled by [copyElems].
func (c *call) blank(like *array, shape []int64) *array {
	n := c.count(like.dt, shape)
	a := &array{dt: like.dt, shape: shape}
	switch {
	case like.wide != nil:
		a.wide = make([]float64, n)
	case like.dt == onnx.String:
		a.str = make([][]byte, n)
	default:
		a.raw = make([]byte, n*width(like.dt))
	}
	return a
}

// copyElems copies n elements of src from index si to index di of dst, which
// has the same type.
func copyElems(dst *array, di int, src *array, si, n int) {
	switch {
	case src.wide != nil:
		copy(dst.wide[di:di+n], src.wide[si:si+n])
	case src.dt == onnx.String:
		copy(dst.str[di:di+n], src.str[si:si+n])
	default:
		w := width(src.dt)
		copy(dst.raw[di*w:(di+n)*w], src.raw[si*w:(si+n)*w])
	}
}

// strides returns the distance between neighbours along each axis.
func strides(shape []int64) []int {
	s := make([]int, len(shape))
	d := 1
	for i := len(shape) - 1; i >= 0; i-- {
		s[i] = d
		d *= int(shape[i])
	}
	return s
}

// product multiplies sizes, of which [onnx.ElementCount] has been checked before.
func product(dims []int64) int {
	n := 1
	for _, d := range dims {
		n *= int(d)
	}
	return n
}

package onnxfile

import (
	"encoding/binary"
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"google.golang.org/protobuf/encoding/protowire"
)

// typedData is tensor content in one of TensorProto's typed repeated fields,
// in packed encoding. Fixed-width fields are already laid out as raw_data;
// varint fields are converted when asked for, and written back as they were.
type typedData struct {
	num   protowire.Number
	dtype onnx.DType
	parts [][]byte // packed runs; a window of the file where there is only one
	size  int64    // bytes after conversion
}

// typedField adds one occurrence of a typed field.
func (d *decoder) typedField(t *typedData, f field) error {
	if len(t.parts) > 0 && t.num != f.num {
		return d.errf(f.raw, "tensor: content in fields %d and %d", t.num, f.num)
	}
	t.num = f.num
	if f.isBytes() {
		t.parts = append(t.parts, f.val)
		return nil
	}
	if fixedWidth(f.num) == 0 && !f.isVarint() || fixedWidth(f.num) == 4 && !f.isFixed32() ||
		fixedWidth(f.num) == 8 && f.typ != protowire.Fixed64Type {
		return d.errf(f.raw, "tensor: field %d has wire type %d", f.num, f.typ)
	}
	_, _, n := protowire.ConsumeTag(f.raw)
	one := f.raw[n:] // an unpacked element is encoded like a packed one
	if k := len(t.parts) - 1; k >= 0 && len(t.parts[k]) < 1<<16 {
		t.parts[k] = append(t.parts[k][:len(t.parts[k]):len(t.parts[k])], one...)
		return nil
	}
	t.parts = append(t.parts, append(make([]byte, 0, 64), one...))
	return nil
}

// fixedWidth returns the bytes of an element of float_data or double_data, 0 for varint fields.
func fixedWidth(num protowire.Number) int {
	switch num {
	case 4:
		return 4
	case 10:
		return 8
	}
	return 0
}

// fieldBits returns how many bits of content one element of a typed field
// holds for dtype, following the comments in onnx.proto; 0 if the field cannot
// hold that type.
func fieldBits(num protowire.Number, dtype onnx.DType) int {
	bits := dtype.Bits()
	switch {
	case num == 4 && (dtype == onnx.Float || dtype == onnx.Complex64):
		return 32
	case num == 10 && (dtype == onnx.Double || dtype == onnx.Complex128):
		return 64
	case num == 7 && dtype == onnx.Int64, num == 11 && dtype == onnx.Uint64:
		return 64
	case num == 11 && dtype == onnx.Uint32:
		return 32
	case num == 5 && bits > 0 && bits <= 32 && dtype != onnx.Float && dtype != onnx.Uint32:
		return max(bits, 8) // types below 8 bits come packed into bytes
	}
	return 0
}

// measure computes the converted size, so that it is known without converting.
func (t *typedData) measure() error {
	bits := fieldBits(t.num, t.dtype)
	if bits == 0 {
		return fmt.Errorf("%v content in typed field %d", t.dtype, t.num)
	}
	var count int64
	for _, p := range t.parts {
		if w := fixedWidth(t.num); w > 0 {
			if len(p)%w != 0 {
				return fmt.Errorf("typed field %d has %d bytes, not a multiple of %d", t.num, len(p), w)
			}
			count += int64(len(p) / w)
			continue
		}
		for _, c := range p {
			if c < 0x80 {
				count++
			}
		}
		if len(p) > 0 && p[len(p)-1] >= 0x80 {
			return fmt.Errorf("typed field %d ends within a number", t.num)
		}
	}
	t.size = count * int64(bits) / 8
	return nil
}

// Len returns the number of bytes after conversion.
func (t *typedData) Len() int64 { return t.size }

// Bytes converts to the layout of raw_data.
func (t *typedData) Bytes() ([]byte, error) {
	if fixedWidth(t.num) > 0 {
		if len(t.parts) == 1 {
			return t.parts[0], nil
		}
		out := make([]byte, 0, t.size)
		for _, p := range t.parts {
			out = append(out, p...)
		}
		return out, nil
	}
	bits := fieldBits(t.num, t.dtype)
	out := make([]byte, 0, t.size)
	for _, p := range t.parts {
		for len(p) > 0 {
			x, n := protowire.ConsumeVarint(p)
			if n < 0 {
				return nil, fmt.Errorf("malformed number in typed field %d", t.num)
			}
			out = appendLow(out, x, bits)
			p = p[n:]
		}
	}
	return out, nil
}

func appendLow(out []byte, x uint64, bits int) []byte {
	switch bits {
	case 8:
		return append(out, byte(x))
	case 16:
		return binary.LittleEndian.AppendUint16(out, uint16(x))
	case 32:
		return binary.LittleEndian.AppendUint32(out, uint32(x))
	}
	return binary.LittleEndian.AppendUint64(out, x)
}

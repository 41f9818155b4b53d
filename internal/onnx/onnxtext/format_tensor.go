package onnxtext

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// tensor writes a tensor: type, name and content. A declaration has "=" between
// the latter two.
func (p *printer) tensor(t *onnx.Tensor, declaration bool) {
	p.put(t.DType.String())
	if len(t.Shape) > 0 {
		p.put(onnx.ShapeOf(t.Shape...).String())
	}
	switch {
	case declaration:
		p.put(" ", name(t.Name), " = ")
	case t.Name != "":
		p.put(" ", name(t.Name), " ")
	default:
		p.put(" ")
	}
	p.content(t)
	p.note(p.textEntry("doc_string", t.Doc), p.pairsEntry("metadata_props", t.Meta),
		p.externalEntry(t.External), p.bytesEntry("unknown", t.Unknown))
}

func (p *printer) externalEntry(x *onnx.ExternalData) entry {
	if x == nil {
		return entry{}
	}
	list := []onnx.Entry{{Key: "location", Value: x.Location}, {Key: "offset", Value: strconv.FormatInt(x.Offset, 10)},
		{Key: "length", Value: strconv.FormatInt(x.Length, 10)}}
	return p.pairsEntry("external", append(list, x.Extra...))
}

// sparse writes a sparse constant.
func (p *printer) sparse(s *onnx.SparseTensor) {
	p.put("sparse_tensor")
	p.list("[", "] (", len(s.Dims), func(i int) { p.put(strconv.FormatInt(s.Dims[i], 10)) })
	for i, t := range []*onnx.Tensor{s.Values, s.Indices} {
		if i > 0 {
			p.put(", ")
		}
		if t == nil {
			p.put("none")
			continue
		}
		p.tensor(t, false)
	}
	p.put(")")
	p.note(p.bytesEntry("unknown", s.Unknown))
}

// content writes the elements of t, or a digest of them.
func (p *printer) content(t *onnx.Tensor) {
	n, ok := t.Elements()
	if !ok || !t.DType.Valid() {
		p.fail(fmt.Errorf("tensor %q: %v elements in shape %v cannot be written as text", t.Name, t.DType, t.Shape))
		return
	}
	if t.DType == onnx.String {
		p.strings(t, n)
		return
	}
	b, err := t.Bytes()
	if err != nil {
		p.fail(err)
		return
	}
	if p.max > 0 && n > int64(p.max) {
		sum := sha256.Sum256(b)
		p.digest(sum[:])
		return
	}
	if t.DType == onnx.Complex64 || t.DType == onnx.Complex128 {
		n *= 2
	}
	write := elementWriter(t.DType)
	p.put("{")
	var scratch []byte
	for i := range int(n) {
		if i > 0 {
			p.put(", ")
		}
		scratch = write(scratch[:0], b, i)
		p.w.Write(scratch)
	}
	p.put("}")
}

// digest stands for content that is left out.
func (p *printer) digest(sum []byte) { p.put(fmt.Sprintf("{ sha256 %x }", sum[:8])) }

func (p *printer) fail(err error) {
	if p.err == nil {
		p.err = err
	}
}

func (p *printer) strings(t *onnx.Tensor, n int64) {
	if _, err := t.Strings(); err != nil || int64(len(t.Str)) != n {
		p.fail(fmt.Errorf("tensor %q: %d strings, want %d for shape %v", t.Name, len(t.Str), n, t.Shape))
		return
	}
	if p.max > 0 && n > int64(p.max) {
		h := sha256.New()
		for _, s := range t.Str {
			fmt.Fprintf(h, "%d:%s", len(s), s)
		}
		p.digest(h.Sum(nil))
		return
	}
	p.list("{", "}", len(t.Str), func(i int) { p.put(quote(string(t.Str[i]))) })
}

// elementWriter returns a function that appends element i of packed bytes as
// text; for complex types, real and imaginary parts count as elements.
func elementWriter(dt onnx.DType) func(out, b []byte, i int) []byte {
	le := binary.LittleEndian
	switch dt {
	case onnx.Float, onnx.Complex64:
		return func(out, b []byte, i int) []byte {
			bits := le.Uint32(b[4*i:])
			return appendFloat(out, float64(math.Float32frombits(bits)), 32, uint64(bits), nan32)
		}
	case onnx.Double, onnx.Complex128:
		return func(out, b []byte, i int) []byte {
			bits := le.Uint64(b[8*i:])
			return appendFloat(out, math.Float64frombits(bits), 64, bits, math.Float64bits(math.NaN()))
		}
	case onnx.Float16:
		return func(out, b []byte, i int) []byte {
			bits := le.Uint16(b[2*i:])
			return appendFloat(out, float64(onnx.Float16ToFloat(bits)), 32, uint64(bits), 0x7e00)
		}
	case onnx.BFloat16:
		return func(out, b []byte, i int) []byte {
			bits := le.Uint16(b[2*i:])
			return appendFloat(out, float64(onnx.BFloat16ToFloat(bits)), 32, uint64(bits), 0x7fc0)
		}
	}
	if dt.IsFloat() {
		table := miniTable(dt)
		return func(out, b []byte, i int) []byte { return append(out, table[codeAt(b, i, dt.Bits())]...) }
	}
	bits, signed := dt.Bits(), dt.IsSigned()
	return func(out, b []byte, i int) []byte {
		x := codeAt(b, i, bits)
		if signed {
			return strconv.AppendInt(out, int64(x)<<(64-bits)>>(64-bits), 10)
		}
		return strconv.AppendUint(out, x, 10)
	}
}

// appendFloat appends x, whose bits are code; a NaN other than plain by its bits.
func appendFloat(out []byte, x float64, width int, code, plain uint64) []byte {
	if math.IsNaN(x) && code != plain {
		return fmt.Appendf(out, "%#x", code)
	}
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return append(out, number(x, width)...)
	}
	return append(out, decimal(x, width)...)
}

// codeAt returns the bits of element i of packed elements.
func codeAt(b []byte, i, bits int) uint64 {
	le := binary.LittleEndian
	switch bits {
	case 2, 4:
		per := 8 / bits
		return uint64(b[i/per] >> (bits * (i % per)) & (1<<bits - 1))
	case 8:
		return uint64(b[i])
	case 16:
		return uint64(le.Uint16(b[2*i:]))
	case 32:
		return uint64(le.Uint32(b[4*i:]))
	}
	return le.Uint64(b[8*i:])
}

// miniTable returns the text of every code of a float type of up to 8 bits: its
// value where that reads back as this code, else its bits.
func miniTable(dt onnx.DType) []string {
	out := make([]string, 1<<dt.Bits())
	for code := range out {
		out[code] = fmt.Sprintf("%#x", code)
		x, err := miniValue(dt, byte(code))
		if err != nil {
			continue
		}
		if back, err := miniCode(dt, x); err == nil && int(back) == code {
			out[code] = decimal(x, 32)
		}
	}
	return out
}

// miniValue decodes a float of up to 8 bits.
func miniValue(dt onnx.DType, code byte) (float64, error) {
	t, err := onnx.NewTensor("", dt, []int64{}, []byte{code})
	if err != nil {
		return 0, err
	}
	v, err := t.Float64s()
	if err != nil {
		return 0, err
	}
	return v[0], nil
}

// miniCode encodes a float of up to 8 bits.
func miniCode(dt onnx.DType, x float64) (byte, error) {
	t, err := onnx.FromFloat64s("", dt, []int64{}, []float64{x})
	if err != nil {
		return 0, err
	}
	b, err := t.Bytes()
	if err != nil {
		return 0, err
	}
	return b[0], nil
}

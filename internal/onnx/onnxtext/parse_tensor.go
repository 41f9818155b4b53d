package onnxtext

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// tensor reads a tensor of an attribute: type, perhaps a name, and content.
func (p *parser) tensor() *onnx.Tensor {
	at := p.tok.pos
	t := p.typ()
	name := ""
	if p.tok.kind == tokString || p.tok.kind == tokIdent {
		name = p.next().text
	}
	p.accept("=")
	return p.content(name, t, at)
}

// content reads what follows the type and name of a tensor.
func (p *parser) content(name string, typ *onnx.Type, at int) *onnx.Tensor {
	if p.err != nil {
		return nil
	}
	if !typ.IsTensor() {
		p.errorAt(at, "constant %q has no tensor type", name)
		return nil
	}
	dims, ok := typ.Shape.Static()
	if !ok {
		p.errorAt(at, "constant %q: its shape %v is not fixed", name, typ.Shape)
		return nil
	}
	t := &onnx.Tensor{Name: name, DType: typ.Elem, Shape: dims}
	n, ok := t.Elements()
	if !ok || !t.DType.Valid() {
		p.errorAt(at, "constant %q: there are no tensors of %v%v", name, t.DType, dims)
		return nil
	}
	if p.is("[") {
		p.external(t, p.pairs(), at)
		if x := t.External; x != nil {
			t.Data = elsewhere{x.Location, t.Size()}
		}
	} else {
		p.elements(t, n, at)
	}
	notes := p.annotation("doc_string metadata_props external unknown")
	t.Doc, t.Meta, t.Unknown = notes.doc, notes.meta, notes.unknown
	if notes.external != nil {
		p.external(t, notes.external, at)
	}
	return t
}

// elsewhere is content that a text only refers to.
type elsewhere struct {
	location string
	size     int64
}

func (e elsewhere) Len() int64 { return e.size }

func (e elsewhere) Bytes() ([]byte, error) {
	return nil, fmt.Errorf("its content is in file %q, which a text only refers to", e.location)
}

// external records where t's content is stored outside the model.
func (p *parser) external(t *onnx.Tensor, list []onnx.Entry, at int) {
	x := &onnx.ExternalData{Length: t.Size()}
	for _, e := range list {
		var err error
		switch e.Key {
		case "location":
			x.Location = e.Value
		case "offset":
			x.Offset, err = strconv.ParseInt(e.Value, 10, 64)
		case "length":
			x.Length, err = strconv.ParseInt(e.Value, 10, 64)
		default:
			x.Extra = append(x.Extra, e)
		}
		if err != nil || x.Offset < 0 || x.Length < 0 {
			p.errorAt(at, "tensor %q: external data has %s %q, want a number of bytes", t.Name, e.Key, e.Value)
			return
		}
	}
	t.External = x
}

// elements reads {…}, n elements of t's type.
func (p *parser) elements(t *onnx.Tensor, n int64, at int) {
	var codes []byte
	got, parts := int64(0), int64(1)
	if t.DType == onnx.Complex64 || t.DType == onnx.Complex128 {
		parts = 2
	}
	p.list("{", "}", func() {
		switch {
		case p.tok.kind == tokIdent && p.tok.text == "sha256":
			p.errorf("the content of tensor %q is left out of this text", t.Name)
		case got == n*parts:
			p.errorf("tensor %q has more than the %d elements of its shape", t.Name, n)
		case t.DType == onnx.String:
			t.Str = append(t.Str, []byte(p.text()))
		default:
			codes = p.element(codes, t.DType, int(got))
		}
		got++
	})
	if p.err != nil {
		return
	}
	if got != n*parts {
		p.errorAt(at, "tensor %q has %d elements, want %d for its shape", t.Name, got/parts, n)
		return
	}
	if t.DType != onnx.String {
		t.Data = onnx.Raw(codes)
	}
}

// element reads element i of type dt and appends its bits to the packed bytes.
func (p *parser) element(out []byte, dt onnx.DType, i int) []byte {
	var code uint64
	bits := dt.Bits()
	switch {
	case dt == onnx.Complex64:
		code, _ = p.floatCode(onnx.Float)
		bits = 32
	case dt == onnx.Complex128:
		code, _ = p.floatCode(onnx.Double)
		bits = 64
	case dt.IsFloat():
		code, _ = p.floatCode(dt)
	default:
		code = p.intCode(dt)
	}
	switch bits {
	case 2, 4:
		per := 8 / bits
		if i%per == 0 {
			out = append(out, 0)
		}
		out[len(out)-1] |= byte(code&(1<<bits-1)) << (bits * (i % per))
		return out
	case 8:
		return append(out, byte(code))
	case 16:
		return binary.LittleEndian.AppendUint16(out, uint16(code))
	case 32:
		return binary.LittleEndian.AppendUint32(out, uint32(code))
	}
	return binary.LittleEndian.AppendUint64(out, code)
}

// intCode reads an integer, or true or false for Bool, as the bits of type dt.
func (p *parser) intCode(dt onnx.DType) uint64 {
	if dt == onnx.Bool {
		if p.tok.kind == tokIdent && (p.tok.text == "true" || p.tok.text == "false") {
			if p.next().text == "true" {
				return 1
			}
			return 0
		}
		dt = onnx.Uint8
	}
	if p.tok.kind != tokInt {
		p.errorf("want an integer, have %s", p.tok.describe())
		return 0
	}
	s := strings.TrimPrefix(p.tok.text, "+")
	if dt == onnx.Uint64 {
		v, err := strconv.ParseUint(s, 0, 64)
		if err != nil {
			p.errorf("%s is not a value of uint64", s)
		}
		p.next()
		return v
	}
	v, err := strconv.ParseInt(s, 0, 64)
	if lo, hi := onnx.IntRange(dt); err != nil || v < lo || v > hi {
		p.errorf("%s is not a value of %v", s, dt)
	}
	p.next()
	return uint64(v)
}

// floatCode reads a float, or its bits in hexadecimal, as the bits of type dt.
func (p *parser) floatCode(dt onnx.DType) (uint64, bool) {
	at := p.tok.pos
	s := p.numberText()
	if p.err != nil {
		return 0, false
	}
	if isBits(s) {
		v, ok := parseBits(s, dt.Bits())
		if !ok {
			p.errorAt(at, "%s are not the %d bits of a %v", s, dt.Bits(), dt)
		}
		return v, ok
	}
	width := 64
	if dt == onnx.Float {
		width = 32
	}
	x, err := strconv.ParseFloat(s, width)
	if err != nil && !math.IsInf(x, 0) { // a number out of range is infinite
		p.errorAt(at, "%s is not a number", s)
		return 0, false
	}
	code, err := encodeFloat(dt, x)
	if err != nil {
		p.errorAt(at, "%v", err)
	}
	return code, err == nil
}

// encodeFloat returns the bits of x rounded to type dt.
func encodeFloat(dt onnx.DType, x float64) (uint64, error) {
	switch dt {
	case onnx.Float:
		if math.IsNaN(x) {
			return nan32, nil
		}
		return uint64(math.Float32bits(float32(x))), nil
	case onnx.Double:
		return math.Float64bits(x), nil
	case onnx.Float16:
		if math.IsNaN(x) {
			return 0x7e00, nil
		}
		return uint64(onnx.FloatToFloat16(x)), nil
	case onnx.BFloat16:
		if math.IsNaN(x) {
			return 0x7fc0, nil
		}
		return uint64(onnx.FloatToBFloat16(float32(x))), nil
	}
	code, err := miniCode(dt, x)
	return uint64(code), err
}

func bitsFloat(code uint64) float32 { return math.Float32frombits(uint32(code)) }

// sparseConstant reads a sparse constant from its keyword on.
func (p *parser) sparseConstant() *onnx.SparseTensor {
	if p.tok.kind != tokIdent || p.tok.text != "sparse_tensor" {
		p.errorf("want a sparse tensor, have %s", p.tok.describe())
		return nil
	}
	p.next()
	return p.sparse()
}

// sparse reads the dimensions, values and indices of a sparse constant.
func (p *parser) sparse() *onnx.SparseTensor {
	s := &onnx.SparseTensor{}
	p.list("[", "]", func() { s.Dims = append(s.Dims, p.int()) })
	p.expect("(")
	s.Values = p.maybeTensor()
	p.expect(",")
	s.Indices = p.maybeTensor()
	p.expect(")")
	s.Unknown = p.annotation("unknown").unknown
	return s
}

func (p *parser) maybeTensor() *onnx.Tensor {
	if p.tok.kind == tokIdent && p.tok.text == "none" {
		p.next()
		return nil
	}
	return p.tensor()
}

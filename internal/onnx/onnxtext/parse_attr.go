package onnxtext

import (
	"strconv"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// typedAttr is an attribute and whether its type was written.
type typedAttr struct {
	attrTree
	typed bool
}

// attr reads "name", "name: type", "name = value" or "name: type = value".
func (p *parser) attr() (t typedAttr) {
	a := &onnx.Attr{Name: p.identifier("the name of an attribute")}
	t.attr = a
	if p.accept(":") {
		a.Type = p.attrType()
		t.typed = true
	}
	if p.accept("=") {
		if p.accept("@") {
			a.Ref = p.identifier("the name of an attribute")
		} else {
			if !t.typed {
				a.Type = p.guessType()
			}
			p.attrValue(&t.attrTree)
		}
	}
	n := p.annotation("doc_string unknown")
	a.Doc, a.Unknown = n.doc, n.unknown
	return t
}

// attrType reads the name of an attribute's type.
func (p *parser) attrType() onnx.AttrType {
	at := p.tok.pos
	s := p.identifier("the type of an attribute")
	if s == "attr" && p.is("(") {
		p.next()
		v := p.int()
		p.expect(")")
		if v != int64(int32(v)) {
			p.errorAt(at, "there is no attribute type %d", v)
		}
		return onnx.AttrType(v)
	}
	for t := onnx.AttrUndefined; t <= onnx.AttrTypeProtos; t++ {
		if t.String() == s {
			return t
		}
	}
	p.errorAt(at, "%q is not a type of attributes", s)
	return onnx.AttrUndefined
}

// guessType returns the type that the value which is next shows; a list's
// elements are looked at one token ahead.
func (p *parser) guessType() onnx.AttrType {
	if !p.is("[") {
		return p.scalarType()
	}
	saved := p.lexer
	p.next()
	t := p.scalarType()
	p.lexer = saved
	switch t {
	case onnx.AttrInt:
		return onnx.AttrInts
	case onnx.AttrFloat:
		return onnx.AttrFloats
	case onnx.AttrString:
		return onnx.AttrStrings
	case onnx.AttrTensor:
		return onnx.AttrTensors
	case onnx.AttrGraph:
		return onnx.AttrGraphs
	}
	p.errorf("the type of an empty list must be written, as in axes: ints = []")
	return onnx.AttrUndefined
}

func (p *parser) scalarType() onnx.AttrType {
	switch {
	case p.tok.kind == tokInt:
		return onnx.AttrInt
	case p.tok.kind == tokFloat, p.nonFinite():
		return onnx.AttrFloat
	case p.typeNext():
		return onnx.AttrTensor
	case p.tok.kind == tokString:
		saved := p.lexer
		p.next()
		graph := p.is("(")
		p.lexer = saved
		if !graph {
			return onnx.AttrString
		}
		return onnx.AttrGraph
	case p.tok.kind == tokIdent:
		return onnx.AttrGraph
	}
	return onnx.AttrUndefined
}

// nonFinite reports whether inf, nan or a sign before them is next.
func (p *parser) nonFinite() bool {
	return p.is("-") || p.is("+") || p.tok.kind == tokIdent && (p.tok.text == "inf" || p.tok.text == "nan")
}

func (p *parser) attrValue(t *attrTree) {
	a := t.attr
	switch a.Type {
	case onnx.AttrFloat:
		a.F = p.float32()
	case onnx.AttrInt:
		a.I = p.int()
	case onnx.AttrString:
		a.S = []byte(p.text())
	case onnx.AttrTensor:
		a.T = p.tensor()
	case onnx.AttrGraph:
		t.graphs = append(t.graphs, p.graph())
	case onnx.AttrFloats:
		p.list("[", "]", func() { a.Floats = append(a.Floats, p.float32()) })
	case onnx.AttrInts:
		p.list("[", "]", func() { a.Ints = append(a.Ints, p.int()) })
	case onnx.AttrStrings:
		p.list("[", "]", func() { a.Strings = append(a.Strings, []byte(p.text())) })
	case onnx.AttrTensors:
		p.list("[", "]", func() { a.Tensors = append(a.Tensors, p.tensor()) })
	case onnx.AttrGraphs:
		p.list("[", "]", func() { t.graphs = append(t.graphs, p.graph()) })
	case onnx.AttrSparse:
		a.Sparse = p.sparseConstant()
	case onnx.AttrSparses:
		p.list("[", "]", func() { a.Sparses = append(a.Sparses, p.sparseConstant()) })
	case onnx.AttrTypeProto:
		a.TP = p.typ()
	case onnx.AttrTypeProtos:
		p.list("[", "]", func() { a.Types = append(a.Types, p.typ()) })
	default:
		p.errorf("an attribute of type %v has no value", a.Type)
	}
}

// float32 reads a float of an attribute, or its bits in hexadecimal.
func (p *parser) float32() float32 {
	code, ok := p.floatCode(onnx.Float)
	if !ok {
		return 0
	}
	return bitsFloat(code)
}

// numberText reads a number, perhaps inf or nan, and returns its text.
func (p *parser) numberText() string {
	sign := ""
	if p.is("-") || p.is("+") {
		sign = p.next().text
		if !p.nonFinite() {
			p.errorf("want a number, have %s", p.tok.describe())
		}
	}
	if p.tok.kind != tokInt && p.tok.kind != tokFloat && !p.nonFinite() {
		p.errorf("want a number, have %s", p.tok.describe())
		return "0"
	}
	return sign + p.next().text
}

// isBits reports whether s gives the bits of a float.
func isBits(s string) bool { return len(s) > 2 && s[:2] == "0x" }

func parseBits(s string, bits int) (uint64, bool) {
	v, err := strconv.ParseUint(s[2:], 16, 64)
	return v, err == nil && (bits == 64 || v < 1<<bits)
}

package onnxtext

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// typeNext reports whether the next token begins a type.
func (p *parser) typeNext() bool {
	if p.tok.kind != tokIdent {
		return false
	}
	switch p.tok.text {
	case "seq", "map", "optional", "sparse_tensor", "opaque", "notype", "undefined", "dtype":
		return true
	}
	_, ok := onnx.ParseDType(p.tok.text)
	return ok
}

// typ reads a type; "?" is an absent one.
func (p *parser) typ() *onnx.Type {
	defer p.leave()
	if !p.enter() {
		return nil
	}
	if p.accept("?") {
		return nil
	}
	if !p.typeNext() {
		p.errorf("want a type, have %s", p.tok.describe())
		return nil
	}
	t := p.bareType()
	n := p.annotation("denotation unknown")
	t.Denotation, t.Unknown = n.denotation, n.unknown
	return t
}

func (p *parser) bareType() *onnx.Type {
	t := &onnx.Type{}
	switch p.tok.text {
	case "seq":
		t.Kind = onnx.KindSequence
	case "optional":
		t.Kind = onnx.KindOptional
	case "map":
		t.Kind = onnx.KindMap
	case "opaque":
		p.next()
		p.expect("(")
		t.Kind, t.Opaque = onnx.KindOpaque, []byte(p.text())
		p.expect(")")
		return t
	case "notype":
		p.next()
		return t
	case "sparse_tensor":
		p.next()
		return p.wrappedSparse()
	default:
		t.Kind = onnx.KindTensor
		t.Elem = p.elemType()
		t.Shape = p.shape()
		return t
	}
	p.next()
	p.expect("(")
	if t.Kind == onnx.KindMap {
		t.Key = p.elemType()
		p.expect(",")
	}
	t.Of = p.typ()
	p.expect(")")
	return t
}

// wrappedSparse reads the rest of a sparse tensor's type.
func (p *parser) wrappedSparse() *onnx.Type {
	p.expect("(")
	t := &onnx.Type{Kind: onnx.KindSparseTensor, Elem: p.elemType()}
	t.Shape = p.shape()
	p.expect(")")
	return t
}

// sparseType is wrappedSparse with the annotation behind it.
func (p *parser) sparseType() *onnx.Type {
	t := p.wrappedSparse()
	n := p.annotation("denotation unknown")
	t.Denotation, t.Unknown = n.denotation, n.unknown
	return t
}

// elemType reads the name of an element type.
func (p *parser) elemType() onnx.DType {
	at := p.tok.pos
	s := p.identifier("an element type")
	switch d, ok := onnx.ParseDType(s); {
	case ok:
		return d
	case s == "undefined":
		return onnx.Undefined
	case s == "dtype":
		p.expect("(")
		v := p.int()
		p.expect(")")
		if v == int64(int32(v)) {
			return onnx.DType(v)
		}
	}
	p.errorAt(at, "%q is not an element type", s)
	return onnx.Undefined
}

// shape reads the dimensions behind an element type: none for a scalar, [] where
// the rank is unknown.
func (p *parser) shape() onnx.Shape {
	s := onnx.Shape{}
	if !p.is("[") {
		return s
	}
	p.list("[", "]", func() {
		var d onnx.Dim
		switch {
		case p.tok.kind == tokInt:
			if d = onnx.Fixed(p.int()); d.Value < 0 {
				p.errorf("a dimension is negative")
			}
		case p.accept("?"):
			d = onnx.Symbol("")
		default:
			d = onnx.Symbol(p.identifier("a dimension"))
		}
		if p.tok.kind == tokString {
			d.Denotation = p.text()
		}
		s = append(s, d)
	})
	if len(s) == 0 {
		return nil
	}
	return s
}

package onnxtext

import (
	"strconv"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// attr writes an attribute. Its type is left out where the value shows it.
func (p *printer) attr(a *onnx.Attr) {
	if isIdentifier(a.Name) { // no type can stand here, so that none is mistaken for one
		p.put(a.Name)
	} else {
		p.put(quote(a.Name))
	}
	switch {
	case a.Ref != "":
		p.put(": ", a.Type.String(), " = @", name(a.Ref))
	case !hasValue(a):
		p.put(": ", a.Type.String())
	default:
		if !shows(a) {
			p.put(": ", a.Type.String())
		}
		p.put(" = ")
		p.attrValue(a)
	}
	p.note(p.textEntry("doc_string", a.Doc), p.bytesEntry("unknown", a.Unknown))
}

// hasValue reports whether a holds a value of its type.
func hasValue(a *onnx.Attr) bool {
	switch a.Type {
	case onnx.AttrTensor:
		return a.T != nil
	case onnx.AttrGraph:
		return a.G != nil
	case onnx.AttrSparse:
		return a.Sparse != nil
	case onnx.AttrTypeProto:
		return a.TP != nil
	}
	return a.Type > onnx.AttrUndefined && a.Type <= onnx.AttrTypeProtos
}

// shows reports whether the text of a's value gives away its type.
func shows(a *onnx.Attr) bool {
	switch a.Type {
	case onnx.AttrFloat:
		return finite(a.F)
	case onnx.AttrInt, onnx.AttrString, onnx.AttrTensor, onnx.AttrGraph:
		return true
	case onnx.AttrFloats:
		return len(a.Floats) > 0 && finite(a.Floats[0])
	case onnx.AttrInts:
		return len(a.Ints) > 0
	case onnx.AttrStrings:
		return len(a.Strings) > 0
	}
	return false
}

func finite(x float32) bool { return x-x == 0 }

func (p *printer) attrValue(a *onnx.Attr) {
	switch a.Type {
	case onnx.AttrFloat:
		p.put(float(a.F))
	case onnx.AttrInt:
		p.put(strconv.FormatInt(a.I, 10))
	case onnx.AttrString:
		p.put(quote(string(a.S)))
	case onnx.AttrTensor:
		p.tensor(a.T, false)
	case onnx.AttrGraph:
		p.subgraph(a.G)
	case onnx.AttrFloats:
		p.list("[", "]", len(a.Floats), func(i int) { p.put(float(a.Floats[i])) })
	case onnx.AttrInts:
		p.list("[", "]", len(a.Ints), func(i int) { p.put(strconv.FormatInt(a.Ints[i], 10)) })
	case onnx.AttrStrings:
		p.list("[", "]", len(a.Strings), func(i int) { p.put(quote(string(a.Strings[i]))) })
	case onnx.AttrTensors:
		p.list("[", "]", len(a.Tensors), func(i int) { p.tensor(a.Tensors[i], false) })
	case onnx.AttrGraphs:
		p.list("[", "]", len(a.Graphs), func(i int) { p.subgraph(a.Graphs[i]) })
	case onnx.AttrSparse:
		p.sparse(a.Sparse)
	case onnx.AttrSparses:
		p.list("[", "]", len(a.Sparses), func(i int) { p.sparse(a.Sparses[i]) })
	case onnx.AttrTypeProto:
		p.typ(a.TP)
	case onnx.AttrTypeProtos:
		p.list("[", "]", len(a.Types), func(i int) { p.typ(a.Types[i]) })
	}
}

// subgraph writes a graph one level deeper than the node that holds it.
func (p *printer) subgraph(g *onnx.Graph) {
	if p.heads != nil {
		p.put(name(g.Name), " {", p.heads.digest(g), "}")
		return
	}
	p.depth += 2
	p.graph(g)
	p.depth -= 2
}

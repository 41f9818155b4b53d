// Package onnxtext writes a model in the textual syntax of ONNX (Syntax.md of
// the ONNX project), for people and for comparing models line by line.
package onnxtext

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Options changes what is written; the zero value writes everything.
type Options struct {
	// MaxElements is how many elements of a constant are written; larger ones
	// are given by the digest of their content. 0: all.
	MaxElements int
}

// Format writes m.
func Format(w io.Writer, m *onnx.Model, o Options) error {
	p := &printer{w: bufio.NewWriter(w), o: o}
	p.model(m)
	if p.err != nil {
		return p.err
	}
	return p.w.Flush()
}

// FormatNode returns the text of one node.
func FormatNode(n *onnx.Node) string {
	var b strings.Builder
	p := &printer{w: bufio.NewWriter(&b), o: Options{MaxElements: 8}}
	p.node(n, 0)
	p.w.Flush()
	return strings.TrimSpace(b.String())
}

// printer writes text and keeps the first error.
type printer struct {
	w   *bufio.Writer
	o   Options
	err error
}

func (p *printer) f(format string, args ...any) { fmt.Fprintf(p.w, format, args...) }

func indent(depth int) string { return strings.Repeat("  ", depth) }

func (p *printer) model(m *onnx.Model) {
	p.f("<\n  ir_version: %d,\n  opset_import: [%s]", m.IRVersion, opsets(m.Opsets))
	for _, e := range []struct{ key, value string }{
		{"producer_name", m.ProducerName}, {"producer_version", m.ProducerVersion}, {"domain", m.Domain}, {"doc_string", m.Doc},
	} {
		if e.value != "" {
			p.f(",\n  %s: %s", e.key, strconv.Quote(e.value))
		}
	}
	if len(m.Meta) > 0 {
		var list []string
		for _, e := range m.Meta {
			list = append(list, strconv.Quote(e.Key)+": "+strconv.Quote(e.Value))
		}
		p.f(",\n  metadata_props: [%s]", strings.Join(list, ", "))
	}
	p.f("\n>\n")
	p.graph(m.Graph, 0)
	p.f("\n")
	for _, f := range m.Functions {
		p.function(f)
	}
}

func opsets(list []onnx.Opset) string {
	var out []string
	for _, o := range list {
		out = append(out, fmt.Sprintf("%s : %d", strconv.Quote(o.Domain), o.Version))
	}
	return strings.Join(out, ", ")
}

func (p *printer) function(f *onnx.Function) {
	p.f("<domain: %s, opset_import: [%s]>\n%s ", strconv.Quote(f.Domain), opsets(f.Opsets), name(f.Name))
	attrs := append([]string(nil), f.Attrs...)
	for _, a := range f.AttrDefaults {
		attrs = append(attrs, name(a.Name))
	}
	if len(attrs) > 0 {
		p.f("<%s> ", strings.Join(attrs, ", "))
	}
	p.f("(%s) => (%s) {\n", names(f.Body.Inputs()), names(f.Body.Outputs()))
	for n := range f.Body.Nodes() {
		p.node(n, 1)
	}
	p.f("}\n")
}

func (p *printer) graph(g *onnx.Graph, depth int) {
	p.f("%s (%s) => (%s)", name(g.Name), typed(g.Inputs()), typed(g.Outputs()))
	for i, v := range g.Initializers() {
		if i == 0 {
			p.f("\n%s<\n", indent(depth))
		} else {
			p.f(",\n")
		}
		p.f("%s%v %s = ", indent(depth+1), v.Const.Type(), name(v.Name()))
		p.content(v.Const)
	}
	if len(g.Initializers()) > 0 {
		p.f("\n%s>", indent(depth))
	}
	p.f(" {\n")
	for n := range g.Nodes() {
		p.node(n, depth+1)
	}
	p.f("%s}", indent(depth))
}

func typed(list []*onnx.Value) string {
	var out []string
	for _, v := range list {
		out = append(out, strings.TrimPrefix(v.Type.String()+" ", "? ")+name(v.Name()))
	}
	return strings.Join(out, ", ")
}

func names(list []*onnx.Value) string {
	var out []string
	for _, v := range list {
		if v == nil {
			out = append(out, "")
			continue
		}
		out = append(out, name(v.Name()))
	}
	return strings.Join(out, ", ")
}

// name quotes names that are no identifiers.
func name(s string) string {
	for i, c := range s {
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return strconv.Quote(s)
		}
	}
	if s == "" {
		return `""`
	}
	return s
}

func (p *printer) node(n *onnx.Node, depth int) {
	p.f("%s", indent(depth))
	if n.Name != "" {
		p.f("[%s] ", name(n.Name))
	}
	op := n.Op
	if n.Domain != "" {
		op = n.Domain + "." + op
	}
	p.f("%s = %s ", names(n.Outputs()), op)
	for i, a := range n.Attrs {
		p.f("%s", map[bool]string{true: "<", false: ", "}[i == 0])
		p.attr(a, depth)
	}
	if len(n.Attrs) > 0 {
		p.f("> ")
	}
	p.f("(%s)\n", names(n.Inputs()))
}

func (p *printer) attr(a *onnx.Attr, depth int) {
	if a.Ref != "" {
		p.f("%s: %v = @%s", name(a.Name), a.Type, a.Ref)
		return
	}
	p.f("%s = ", name(a.Name))
	switch a.Type {
	case onnx.AttrFloat:
		p.f("%s", float(float64(a.F), 32))
	case onnx.AttrInt:
		p.f("%d", a.I)
	case onnx.AttrString:
		p.f("%s", strconv.Quote(string(a.S)))
	case onnx.AttrInts:
		p.list(len(a.Ints), func(i int) string { return strconv.FormatInt(a.Ints[i], 10) })
	case onnx.AttrFloats:
		p.list(len(a.Floats), func(i int) string { return float(float64(a.Floats[i]), 32) })
	case onnx.AttrStrings:
		p.list(len(a.Strings), func(i int) string { return strconv.Quote(string(a.Strings[i])) })
	case onnx.AttrTensor:
		p.f("%v ", a.T.Type())
		p.content(a.T)
	case onnx.AttrTypeProto:
		p.f("%v", a.TP)
	default:
		for i, g := range a.Subgraphs() {
			if i > 0 {
				p.f(", ")
			}
			p.graph(g, depth+1)
		}
		if len(a.Subgraphs()) == 0 {
			p.f("%v", a.Type)
		}
	}
}

func (p *printer) list(n int, item func(int) string) {
	p.f("[")
	for i := range n {
		if i > 0 {
			p.f(", ")
		}
		p.f("%s", item(i))
	}
	p.f("]")
}

// float writes the shortest text that reads back to the same number.
func float(x float64, bits int) string {
	switch {
	case math.IsNaN(x):
		return "nan"
	case math.IsInf(x, 1):
		return "inf"
	case math.IsInf(x, -1):
		return "-inf"
	}
	s := strconv.FormatFloat(x, 'g', -1, bits)
	if !strings.ContainsAny(s, ".e") {
		s += ".0"
	}
	return s
}

// content writes the elements of t, or the digest of a large one.
func (p *printer) content(t *onnx.Tensor) {
	n, _ := t.Elements()
	if p.o.MaxElements > 0 && n > int64(p.o.MaxElements) {
		p.digest(t)
		return
	}
	var items []string
	switch {
	case t.DType == onnx.String:
		for _, s := range t.Str {
			items = append(items, strconv.Quote(string(s)))
		}
	case t.DType.IsInt() || t.DType == onnx.Bool:
		v, err := t.Ints()
		p.fail(err)
		for _, x := range v {
			items = append(items, strconv.FormatInt(x, 10))
		}
	default:
		v, err := t.Float64s()
		p.fail(err)
		bits := 64
		if t.DType != onnx.Double {
			bits = 32
		}
		for _, x := range v {
			items = append(items, float(x, bits))
		}
	}
	p.f("{%s}", strings.Join(items, ", "))
}

func (p *printer) digest(t *onnx.Tensor) {
	h := sha256.New()
	if t.DType == onnx.String {
		for _, s := range t.Str {
			fmt.Fprintf(h, "%d:%s", len(s), s)
		}
	} else {
		b, err := t.Bytes()
		p.fail(err)
		h.Write(b)
	}
	p.f("{ sha256 %s }", hex.EncodeToString(h.Sum(nil)[:8]))
}

func (p *printer) fail(err error) {
	if p.err == nil {
		p.err = err
	}
}

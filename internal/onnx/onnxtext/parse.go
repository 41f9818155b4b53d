package onnxtext

import (
	"strconv"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// maxDepth bounds the nesting of graphs and of types.
const maxDepth = 100

// Parse reads a model from text; name stands for the text in errors, which are
// [*SyntaxError]s. The model's structure is not checked; see [onnx.Model.Check].
func Parse(name string, src []byte) (*onnx.Model, error) {
	p := &parser{lexer: lexer{file: name, src: src}}
	p.next()
	m, g, functions := p.model()
	if p.err != nil {
		return nil, p.err
	}
	m.SetGraph(g.build(nil))
	for _, f := range functions {
		f.fn.Body = f.body.build(nil)
		m.AddFunction(f.fn)
	}
	return m, nil
}

// parser reads the text into trees, in which names are not yet resolved.
type parser struct {
	lexer
	depth int
}

// graphTree is a graph as written.
type graphTree struct {
	name            string
	inputs, outputs []valueTree
	decls           []valueTree
	nodes           []nodeTree
	notes           notes
	function        bool // a function's body
}

// valueTree is a declaration: an input, output, constant, or a value's type.
type valueTree struct {
	name   string
	typ    *onnx.Type
	tensor *onnx.Tensor
	sparse *onnx.SparseTensor
	notes  notes
}

type nodeTree struct {
	node    *onnx.Node // all but inputs, outputs and attributes
	inputs  []string
	outputs []string
	attrs   []attrTree
}

// attrTree is an attribute; the graphs that it holds are in graphs.
type attrTree struct {
	attr   *onnx.Attr
	graphs []*graphTree
}

type functionTree struct {
	fn   *onnx.Function
	body *graphTree
}

// notes are the entries of a header or an annotation.
type notes struct {
	doc, denotation, domain, overload string
	producer, producerVersion         string
	irVersion, modelVersion           int64
	opsets                            []onnx.Opset
	meta, external                    []onnx.Entry
	devices, quant                    [][]byte
	training, configuration           [][]byte
	unknown                           []byte
}

func (p *parser) model() (*onnx.Model, *graphTree, []functionTree) {
	h := p.header("ir_version opset_import producer_name producer_version domain model_version doc_string metadata_props " +
		"training_info configuration unknown")
	m := &onnx.Model{IRVersion: h.irVersion, Opsets: h.opsets, ProducerName: h.producer, ProducerVersion: h.producerVersion,
		Domain: h.domain, ModelVersion: h.modelVersion, Doc: h.doc, Meta: h.meta, Training: h.training,
		Configuration: h.configuration, Unknown: h.unknown}
	g := p.graph()
	var functions []functionTree
	for p.err == nil && p.tok.kind != tokEOF {
		functions = append(functions, p.function())
	}
	return m, g, functions
}

func (p *parser) header(keys string) (h notes) {
	p.list("<", ">", func() { p.entry(&h, keys) })
	return h
}

// annotation reads @{…} where it is next.
func (p *parser) annotation(keys string) (n notes) {
	if p.accept("@") {
		p.list("{", "}", func() { p.entry(&n, keys) })
	}
	return n
}

// entry reads one "key: value" whose key is among keys.
func (p *parser) entry(n *notes, keys string) {
	at := p.tok.pos
	key := p.identifier("a key")
	if p.err != nil {
		return
	}
	if !strings.Contains(" "+keys+" ", " "+key+" ") {
		p.errorAt(at, "%q is not among the keys %s", key, keys)
		return
	}
	p.expect(":")
	switch key {
	case "ir_version":
		n.irVersion = p.int()
	case "model_version":
		n.modelVersion = p.int()
	case "opset_import":
		p.list("[", "]", func() { n.opsets = append(n.opsets, p.opset()) })
	case "metadata_props":
		n.meta = p.pairs()
	case "external":
		n.external = p.pairs()
	case "producer_name":
		n.producer = p.text()
	case "producer_version":
		n.producerVersion = p.text()
	case "domain":
		n.domain = p.text()
	case "overload":
		n.overload = p.text()
	case "doc_string":
		n.doc = p.text()
	case "denotation":
		n.denotation = p.text()
	case "unknown":
		n.unknown = []byte(p.text())
	default:
		p.list("[", "]", func() { n.addRaw(key, []byte(p.text())) })
	}
}

func (n *notes) addRaw(key string, b []byte) {
	switch key {
	case "devices":
		n.devices = append(n.devices, b)
	case "quantization":
		n.quant = append(n.quant, b)
	case "training_info":
		n.training = append(n.training, b)
	case "configuration":
		n.configuration = append(n.configuration, b)
	}
}

func (p *parser) opset() (o onnx.Opset) {
	o.Domain = p.text()
	p.expect(":")
	o.Version = p.int()
	o.Unknown = p.annotation("unknown").unknown
	return o
}

// pairs reads ["key": "value", …].
func (p *parser) pairs() []onnx.Entry {
	var out []onnx.Entry
	p.list("[", "]", func() {
		e := onnx.Entry{Key: p.text()}
		p.expect(":")
		e.Value = p.text()
		out = append(out, e)
	})
	return out
}

// text reads a string literal.
func (p *parser) text() string {
	if p.tok.kind != tokString {
		p.errorf("want a string, have %s", p.tok.describe())
		return ""
	}
	return p.next().text
}

func (p *parser) int() int64 {
	if p.tok.kind != tokInt {
		p.errorf("want an integer, have %s", p.tok.describe())
		return 0
	}
	v, err := strconv.ParseInt(p.tok.text, 0, 64)
	if err != nil {
		p.errorf("%s is not a 64-bit integer", p.tok.text)
	}
	p.next()
	return v
}

// identifier reads a bare or quoted name.
func (p *parser) identifier(what string) string {
	if p.tok.kind != tokIdent && p.tok.kind != tokString {
		p.errorf("want %s, have %s", what, p.tok.describe())
		return ""
	}
	return p.next().text
}

// enter counts a level of nesting and reports whether there may be one more;
// leave ends it.
func (p *parser) enter() bool {
	if p.depth++; p.depth > maxDepth {
		p.errorf("graphs or types are nested more than %d deep", maxDepth)
		return false
	}
	return true
}

func (p *parser) leave() { p.depth-- }

func (p *parser) function() functionTree {
	h := p.header("domain opset_import overload doc_string metadata_props unknown")
	f := &onnx.Function{Domain: h.domain, Opsets: h.opsets, Overload: h.overload, Doc: h.doc, Meta: h.meta, Unknown: h.unknown}
	f.Name = p.identifier("the name of a function")
	if p.is("<") {
		p.list("<", ">", func() {
			a := p.attr()
			switch {
			case len(a.graphs) > 0:
				p.errorf("the default of attribute %q is a graph", a.attr.Name)
			case a.attr.Type == onnx.AttrUndefined && a.attr.Ref == "" && !a.typed:
				f.Attrs = append(f.Attrs, a.attr.Name)
			default:
				f.AttrDefaults = append(f.AttrDefaults, a.attr)
			}
		})
	}
	body := &graphTree{name: f.Name, function: true}
	p.signature(body)
	p.nodes(body)
	return functionTree{f, body}
}

// graph reads a graph from its name on.
func (p *parser) graph() *graphTree {
	g := &graphTree{}
	defer p.leave()
	if !p.enter() {
		return g
	}
	g.name = p.identifier("the name of a graph")
	p.signature(g)
	g.notes = p.annotation("doc_string metadata_props quantization unknown")
	p.nodes(g)
	return g
}

// signature reads inputs, outputs and declarations.
func (p *parser) signature(g *graphTree) {
	p.list("(", ")", func() { g.inputs = append(g.inputs, p.value()) })
	p.expect("=>")
	p.list("(", ")", func() { g.outputs = append(g.outputs, p.value()) })
	if p.is("<") {
		p.list("<", ">", func() { g.decls = append(g.decls, p.value()) })
	}
}

// value reads a declaration.
func (p *parser) value() (v valueTree) {
	if p.tok.kind == tokIdent && p.tok.text == "sparse_tensor" {
		p.next()
		if p.is("[") {
			v.sparse = p.sparse()
			return v
		}
		v.typ = p.sparseType()
	} else if p.typeNext() {
		v.typ = p.typ()
	}
	at := p.tok.pos
	v.name = p.identifier("the name of a value")
	if p.accept("=") {
		v.tensor = p.content(v.name, v.typ, at)
		return v
	}
	v.notes = p.annotation("doc_string metadata_props unknown")
	return v
}

func (p *parser) nodes(g *graphTree) {
	p.expect("{")
	for p.err == nil && !p.accept("}") {
		g.nodes = append(g.nodes, p.node())
	}
}

func (p *parser) node() nodeTree {
	t := nodeTree{node: &onnx.Node{}}
	if p.accept("[") {
		t.node.Name = p.identifier("the name of a node")
		p.expect("]")
	}
	for p.err == nil && !p.accept("=") {
		t.outputs = append(t.outputs, p.slot())
		if !p.accept(",") && !p.is("=") {
			p.errorf("want \",\" or \"=\", have %s", p.tok.describe())
		}
	}
	t.node.Domain, t.node.Op = p.operator()
	if p.accept(":") {
		t.node.Overload = p.identifier("an overload")
	}
	if p.is("<") {
		t.attrs = p.attrs()
	}
	t.inputs = p.inputs()
	if p.is("<") && t.attrs == nil {
		t.attrs = p.attrs()
	}
	n := p.annotation("doc_string metadata_props devices unknown")
	t.node.Doc, t.node.Meta, t.node.Devices, t.node.Unknown = n.doc, n.meta, n.devices, n.unknown
	return t
}

// inputs reads the inputs of a node, where nothing between commas omits one.
func (p *parser) inputs() []string {
	p.expect("(")
	if p.accept(")") {
		return nil
	}
	out := []string{p.slot()}
	for p.accept(",") {
		out = append(out, p.slot())
	}
	p.expect(")")
	return out
}

// slot reads the name of an input or output; nothing before a comma or
// parenthesis omits it.
func (p *parser) slot() string {
	if p.is(",") || p.is(")") {
		return ""
	}
	return p.identifier("the name of a value")
}

// operator reads an operator's name with its domain: parts joined by points.
func (p *parser) operator() (domain, op string) {
	parts := []string{p.identifier("an operator")}
	for p.accept(".") {
		parts = append(parts, p.identifier("an operator"))
	}
	last := len(parts) - 1
	return strings.Join(parts[:last], "."), parts[last]
}

func (p *parser) attrs() []attrTree {
	out := []attrTree{}
	p.list("<", ">", func() { out = append(out, p.attr().attrTree) })
	return out
}

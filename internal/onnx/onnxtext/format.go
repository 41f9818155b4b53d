package onnxtext

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Options tune [Format]. The zero value writes everything.
type Options struct {
	// MaxElements is the most elements of a tensor that are written; of a larger
	// one only their number and a digest, which [Parse] refuses. 0: no limit.
	MaxElements int
}

// Format writes m as text. It fails where w does or a tensor cannot be read.
func Format(w io.Writer, m *onnx.Model, o Options) error {
	b := bufio.NewWriterSize(w, 1<<16)
	p := &printer{w: b, max: o.MaxElements}
	p.model(m)
	if p.err != nil {
		return p.err
	}
	return b.Flush()
}

// FormatNode returns n as text, tensors of more than 8 elements as digests.
func FormatNode(n *onnx.Node) string {
	var s strings.Builder
	b := bufio.NewWriter(&s)
	p := &printer{w: b, max: 8}
	p.node(n)
	if p.err != nil || b.Flush() != nil {
		return n.String()
	}
	return s.String()
}

// printer writes text until the first error.
type printer struct {
	w     *bufio.Writer
	max   int
	depth int // of the graph being written
	err   error
	heads *Heads // for digests of bodies in their place; nil: they are written out
}

// put writes strings; the buffered writer keeps its first error for Flush.
func (p *printer) put(parts ...string) {
	for _, s := range parts {
		p.w.WriteString(s)
	}
}

// line begins a line, extra levels deeper than the graph.
func (p *printer) line(extra int) { p.put("\n", strings.Repeat("  ", p.depth+extra)) }

// list writes n items with commas between them.
func (p *printer) list(open, shut string, n int, item func(i int)) {
	p.put(open)
	for i := range n {
		if i > 0 {
			p.put(", ")
		}
		item(i)
	}
	p.put(shut)
}

// entry is one "key: value" of a header or an annotation; write is nil where
// the entry is left out.
type entry struct {
	key   string
	write func()
}

// entries writes those entries that there are; nothing where there are none.
func (p *printer) entries(open, separator, shut string, list []entry) {
	first := true
	for _, e := range list {
		if e.write == nil {
			continue
		}
		if first {
			p.put(open)
		} else {
			p.put(separator)
		}
		first = false
		p.put(e.key, ": ")
		e.write()
	}
	if !first {
		p.put(shut)
	}
}

func (p *printer) textEntry(key, s string) entry {
	if s == "" {
		return entry{}
	}
	return entry{key, func() { p.put(quote(s)) }}
}

func (p *printer) bytesEntry(key string, b []byte) entry { return p.textEntry(key, string(b)) }

func (p *printer) rawsEntry(key string, list [][]byte) entry {
	if len(list) == 0 {
		return entry{}
	}
	return entry{key, func() { p.list("[", "]", len(list), func(i int) { p.put(quote(string(list[i]))) }) }}
}

func (p *printer) pairsEntry(key string, list []onnx.Entry) entry {
	if len(list) == 0 {
		return entry{}
	}
	return entry{key, func() {
		p.list("[", "]", len(list), func(i int) { p.put(quote(list[i].Key), ": ", quote(list[i].Value)) })
	}}
}

func (p *printer) opsetsEntry(list []onnx.Opset) entry {
	return entry{"opset_import", func() {
		p.list("[", "]", len(list), func(i int) {
			p.put(quote(list[i].Domain), " : ", strconv.FormatInt(list[i].Version, 10))
			p.note(p.bytesEntry("unknown", list[i].Unknown))
		})
	}}
}

// note writes an annotation behind an item.
func (p *printer) note(list ...entry) { p.entries(" @{", ", ", "}", list) }

func (p *printer) model(m *onnx.Model) {
	number := func(key string, v int64) entry {
		return entry{key, func() { p.put(strconv.FormatInt(v, 10)) }}
	}
	list := []entry{number("ir_version", m.IRVersion), p.opsetsEntry(m.Opsets),
		p.textEntry("producer_name", m.ProducerName), p.textEntry("producer_version", m.ProducerVersion),
		p.textEntry("domain", m.Domain), p.textEntry("doc_string", m.Doc), p.pairsEntry("metadata_props", m.Meta),
		p.rawsEntry("training_info", m.Training), p.rawsEntry("configuration", m.Configuration),
		p.bytesEntry("unknown", m.Unknown)}
	if m.ModelVersion != 0 {
		list = append(list, number("model_version", m.ModelVersion))
	}
	p.entries("<\n  ", ",\n  ", "\n>\n", list)
	if m.Graph != nil {
		p.graph(m.Graph)
	}
	p.put("\n")
	for _, f := range m.Functions {
		p.function(f)
	}
}

func (p *printer) function(f *onnx.Function) {
	p.entries("<", ", ", ">\n", []entry{{"domain", func() { p.put(quote(f.Domain)) }}, p.opsetsEntry(f.Opsets),
		p.textEntry("overload", f.Overload), p.textEntry("doc_string", f.Doc), p.pairsEntry("metadata_props", f.Meta),
		p.bytesEntry("unknown", f.Unknown)})
	p.put(name(f.Name), " ")
	if n := len(f.Attrs); n+len(f.AttrDefaults) > 0 {
		p.list("<", "> ", n+len(f.AttrDefaults), func(i int) {
			if i < n {
				p.put(name(f.Attrs[i]))
				return
			}
			p.attr(f.AttrDefaults[i-n])
		})
	}
	if f.Body == nil {
		p.put("() => () {\n}\n") // a function without a body, which Check refuses
		return
	}
	names := func(list []*onnx.Value) { p.list("(", ")", len(list), func(i int) { p.put(name(list[i].Name())) }) }
	names(f.Body.Inputs())
	p.put(" => ")
	names(f.Body.Outputs())
	var infos []*onnx.Value
	for v := range f.Body.Values() {
		if v.Type != nil {
			infos = append(infos, v)
		}
	}
	p.declarations(len(infos), func(i int) { p.value(infos[i]) })
	p.nodes(f.Body)
	p.put("\n")
}

func (p *printer) graph(g *onnx.Graph) {
	p.put(name(g.Name), " ")
	values := func(list []*onnx.Value) { p.list("(", ")", len(list), func(i int) { p.value(list[i]) }) }
	values(g.Inputs())
	p.put(" => ")
	values(g.Outputs())
	inits, sparse, infos := g.Initializers(), g.SparseInitializers(), described(g)
	p.declarations(len(inits)+len(sparse)+len(infos), func(i int) {
		switch k := i - len(inits); {
		case k < 0:
			p.tensor(inits[i].Const, true)
		case k < len(sparse):
			p.sparse(sparse[k].Sparse)
		default:
			p.value(infos[k-len(sparse)])
		}
	})
	p.note(p.textEntry("doc_string", g.Doc), p.pairsEntry("metadata_props", g.Meta),
		p.rawsEntry("quantization", g.Quant), p.bytesEntry("unknown", g.Unknown))
	p.nodes(g)
}

// described returns the values whose type or documentation is stated though
// they are neither inputs, outputs nor constants.
func described(g *onnx.Graph) []*onnx.Value {
	listed := map[*onnx.Value]bool{}
	for _, v := range g.Outputs() {
		listed[v] = true
	}
	var out []*onnx.Value
	for n := g.First(); n != nil; n = n.Next() {
		for _, v := range n.Outputs() {
			if v != nil && !listed[v] && (v.Type != nil || v.Doc != "" || v.Meta != nil) {
				out = append(out, v)
			}
		}
	}
	return append(out, g.Orphans()...)
}

// declarations writes n items, one per line, between angle brackets.
func (p *printer) declarations(n int, item func(i int)) {
	if n == 0 {
		return
	}
	p.line(0)
	p.put("<")
	for i := range n {
		if i > 0 {
			p.put(",")
		}
		p.line(1)
		item(i)
	}
	p.line(0)
	p.put(">")
}

func (p *printer) nodes(g *onnx.Graph) {
	p.put(" {")
	for n := g.First(); n != nil; n = n.Next() {
		p.line(1)
		p.node(n)
	}
	p.line(0)
	p.put("}")
}

// value writes a declaration: type, where known, and name.
func (p *printer) value(v *onnx.Value) {
	if v.Type != nil {
		p.typ(v.Type)
		p.put(" ")
	}
	p.put(name(v.Name()))
	p.note(p.textEntry("doc_string", v.Doc), p.pairsEntry("metadata_props", v.Meta), p.bytesEntry("unknown", v.Unknown))
}

func (p *printer) node(n *onnx.Node) {
	if n.Name != "" {
		p.put("[", name(n.Name), "] ")
	}
	p.list("", " = ", len(n.Outputs()), func(i int) { p.slot(n.Outputs()[i], `""`) })
	p.put(operator(n))
	if n.Overload != "" {
		p.put(":", name(n.Overload))
	}
	if len(n.Attrs) > 0 {
		p.list(" <", ">", len(n.Attrs), func(i int) { p.attr(n.Attrs[i]) })
	}
	omitted := ""
	if len(n.Inputs()) == 1 {
		omitted = `""` // since () is no input at all
	}
	p.list(" (", ")", len(n.Inputs()), func(i int) { p.slot(n.Inputs()[i], omitted) })
	p.note(p.textEntry("doc_string", n.Doc), p.pairsEntry("metadata_props", n.Meta),
		p.rawsEntry("devices", n.Devices), p.bytesEntry("unknown", n.Unknown))
}

// slot writes an input or output of a node.
func (p *printer) slot(v *onnx.Value, omitted string) {
	if v == nil {
		p.put(omitted)
		return
	}
	p.put(name(v.Name()))
}

// operator returns n's operator with its domain.
func operator(n *onnx.Node) string {
	if n.Domain == "" {
		return name(n.Op)
	}
	for part := range strings.SplitSeq(n.Domain, ".") {
		if !isIdentifier(part) {
			return quote(n.Domain) + "." + quote(n.Op)
		}
	}
	if !isIdentifier(n.Op) {
		return quote(n.Domain) + "." + quote(n.Op)
	}
	return n.Domain + "." + n.Op
}

// typ writes a type.
func (p *printer) typ(t *onnx.Type) {
	if t == nil {
		p.put("?")
		return
	}
	switch t.Kind {
	case onnx.KindTensor:
		p.tensorType(t.Elem, t.Shape)
	case onnx.KindSparseTensor:
		p.put("sparse_tensor(")
		p.tensorType(t.Elem, t.Shape)
		p.put(")")
	case onnx.KindSequence:
		p.wrapped("seq(", t.Of)
	case onnx.KindOptional:
		p.wrapped("optional(", t.Of)
	case onnx.KindMap:
		p.wrapped("map("+t.Key.String()+", ", t.Of)
	case onnx.KindOpaque:
		p.put("opaque(", quote(string(t.Opaque)), ")")
	default:
		p.put("notype")
	}
	p.note(p.textEntry("denotation", t.Denotation), p.bytesEntry("unknown", t.Unknown))
}

func (p *printer) wrapped(open string, of *onnx.Type) {
	p.put(open)
	p.typ(of)
	p.put(")")
}

func (p *printer) tensorType(elem onnx.DType, s onnx.Shape) {
	p.put(elem.String())
	switch {
	case s == nil:
		p.put("[]")
		return
	case len(s) == 0:
		return
	}
	p.put("[")
	for i, d := range s {
		if i > 0 {
			p.put(",")
		}
		switch {
		case d.Known():
			p.put(strconv.FormatInt(d.Value, 10))
		case d.Param != "":
			p.put(name(d.Param))
		default:
			p.put("?")
		}
		if d.Denotation != "" {
			p.put(" ", quote(d.Denotation))
		}
	}
	p.put("]")
}

// name returns s as an identifier, or quoted where it is none.
func name(s string) string {
	if isIdentifier(s) && !isReserved(s) {
		return s
	}
	return quote(s)
}

func isIdentifier(s string) bool {
	if s == "" || s[0] >= '0' && s[0] <= '9' {
		return false
	}
	for i := range len(s) {
		if !identByte(s[i]) {
			return false
		}
	}
	return true
}

func identByte(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// isReserved reports whether s, bare, would be read as a type or a number.
func isReserved(s string) bool {
	switch s {
	case "seq", "map", "optional", "sparse_tensor", "opaque", "notype", "undefined", "dtype", "inf", "nan", "none":
		return true
	}
	_, ok := onnx.ParseDType(s)
	return ok
}

// quote returns s as a string literal.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\r':
			b.WriteString(`\r`)
		case c == '\t':
			b.WriteString(`\t`)
		case c < 0x20 || c == 0x7f || r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	b.WriteByte('"')
	return b.String()
}

// float returns x so that it reads back bit for bit, and as a float where its
// type is not stated.
func float(x float32) string {
	bits := math.Float32bits(x)
	if x != x && bits != nan32 {
		return fmt.Sprintf("0x%08x", bits)
	}
	return decimal(float64(x), 32)
}

// decimal is number with a point or an exponent, so that it reads as a float.
func decimal(x float64, bits int) string {
	s := number(x, bits)
	if !strings.ContainsAny(s, ".en") {
		s += ".0"
	}
	return s
}

// nan32 is the NaN that the literal nan stands for.
const nan32 = 0x7fc00000

// number returns x, a float of the given width, in the fewest digits.
func number(x float64, bits int) string {
	switch {
	case math.IsNaN(x):
		return "nan"
	case math.IsInf(x, 1):
		return "inf"
	case math.IsInf(x, -1):
		return "-inf"
	}
	return strconv.FormatFloat(x, 'g', -1, bits)
}

package opset

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Liveness tells how much memory the inputs and computed values of a model take
// at once, were each kept exactly as long as it is needed.
type Liveness struct {
	// Visit is told what is alive while each node runs, within its bodies
	// included; may be nil.
	Visit func(n *onnx.Node, bytes int64)
	// Through says of a value which other it is in disguise, nil if none: it takes
	// no memory, and the other lives as long as either. May be nil.
	Through func(*onnx.Value) *onnx.Value
	// InPlace lets an elementwise result take the place of an input of its size
	// that is not needed afterwards.
	InPlace bool
	// Unknown counts the values of unknown size met so far, which count as 0 bytes.
	Unknown int64

	facts     *Facts
	fixed     func(*onnx.Value) bool
	functions map[*onnx.Function]Peak // of bodies seen
	depth     int
}

// Peak is the most that a graph keeps alive, and while which node.
type Peak struct {
	Bytes  int64
	Node   *onnx.Node // where, possibly within a body
	At     *onnx.Node // the node of the graph itself that is or holds Node
	Inside int64      // of Bytes, within bodies of At
}

// Span is a value's life.
type Span struct {
	Value *onnx.Value
	Bytes int64
	Last  int // position of the last reader
}

// maxBytes is where sums of bytes saturate: what every JSON reader holds exactly.
const maxBytes = 1<<53 - 1

// Liveness returns the liveness of the model of f. Values that fixed holds to be
// constants take no part; nil means constants, sparse ones too.
func (f *Facts) Liveness(fixed func(*onnx.Value) bool) *Liveness {
	if fixed == nil {
		fixed = func(v *onnx.Value) bool {
			return v.Const != nil || v.Sparse != nil || v.Producer().Is("Constant")
		}
	}
	return &Liveness{facts: f, fixed: fixed, functions: map[*onnx.Function]Peak{}}
}

// Spans returns the values of g that take memory, by the position at which they
// are made: 0 for inputs, i+1 for outputs of node i. A graph's outputs live to
// the end. inputs and outputs say whether those of g count.
func (l *Liveness) Spans(g *onnx.Graph, inputs, outputs bool) [][]Span {
	pos := make(map[*onnx.Node]int, g.Len())
	for n := range g.Nodes() {
		pos[n] = len(pos)
	}
	end := len(pos)
	escapes := escaping(g, pos)
	result := map[*onnx.Value]bool{}
	for _, v := range g.Outputs() {
		result[v] = true
	}
	last := func(v *onnx.Value) int {
		at := escapes[v]
		for _, u := range v.Uses() {
			at = max(at, position(u.Node, g, pos))
		}
		if result[v] {
			at = end
		}
		return at
	}
	also := l.disguised(g, last)
	life := func(v *onnx.Value, made int) (Span, bool) {
		if l.fixed(v) || result[v] && !outputs && !v.IsInput() || l.source(v, g) != v {
			return Span{}, false
		}
		return Span{Value: v, Last: max(made, last(v), also[v]), Bytes: l.bytes(v)}, true
	}
	out := make([][]Span, end+1)
	if inputs {
		for _, v := range g.Inputs() {
			if s, ok := life(v, 0); ok {
				out[0] = append(out[0], s)
			}
		}
	}
	for n := range g.Nodes() {
		i := pos[n]
		for k, v := range n.Outputs() {
			if v == nil || v.Dead() && k > 0 {
				continue
			}
			if s, ok := life(v, i); ok {
				out[i+1] = append(out[i+1], s)
			}
		}
	}
	return out
}

// source returns the value of g whose memory v is: v itself, or the one that it
// is in disguise.
func (l *Liveness) source(v *onnx.Value, g *onnx.Graph) *onnx.Value {
	for range maxNesting {
		if l.Through == nil {
			break
		}
		w := l.Through(v)
		if w == nil || w.Graph() != g && (w.Producer() == nil || w.Producer().Graph() != g) {
			break
		}
		v = w
	}
	return v
}

// disguised returns, for values of g that others are in disguise, the position
// of the last reader of these.
func (l *Liveness) disguised(g *onnx.Graph, last func(*onnx.Value) int) map[*onnx.Value]int {
	also := map[*onnx.Value]int{}
	if l.Through == nil {
		return also
	}
	for n := range g.Nodes() {
		for _, v := range n.Outputs() {
			if v == nil {
				continue
			}
			if w := l.source(v, g); w != v {
				also[w] = max(also[w], last(v))
			}
		}
	}
	return also
}

// position returns where in g the reader n stands: its own position, or that of
// the node of g whose body it is in; -1 if it is not within g.
func position(n *onnx.Node, g *onnx.Graph, pos map[*onnx.Node]int) int {
	for n != nil && n.Graph() != nil {
		if n.Graph() == g {
			return pos[n]
		}
		n = n.Graph().Owner()
	}
	return -1
}

// escaping returns the values of g that bodies below it hand out as their own
// outputs, with the last position at which one does.
func escaping(g *onnx.Graph, pos map[*onnx.Node]int) map[*onnx.Value]int {
	out := map[*onnx.Value]int{}
	var visit func(h *onnx.Graph, at, depth int)
	visit = func(h *onnx.Graph, at, depth int) {
		for _, v := range h.Outputs() {
			if v.Graph() == g || v.Producer() != nil && v.Producer().Graph() == g {
				out[v] = max(out[v], at)
			}
		}
		if depth >= maxNesting {
			return
		}
		for n := range h.Nodes() {
			for _, sub := range n.Subgraphs() {
				visit(sub, at, depth+1)
			}
		}
	}
	for n := range g.Nodes() {
		for _, sub := range n.Subgraphs() {
			visit(sub, pos[n], 1)
		}
	}
	return out
}

// bytes returns the packed size of v, 0 where it is not known.
func (l *Liveness) bytes(v *onnx.Value) int64 {
	t := l.facts.Type(v)
	var dims []int64
	ok := t.IsTensor()
	if ok {
		dims, ok = t.Shape.Static()
	}
	n := int64(0)
	if ok {
		n, ok = onnx.ElementCount(dims)
	}
	if !ok {
		l.Unknown++
		return 0
	}
	size, ok := t.Elem.ByteSize(n)
	if !ok && t.Elem != onnx.String {
		l.Unknown++
	}
	return min(size, maxBytes)
}

// Peak returns the peak of g. inputs and outputs say whether those of g count;
// they do not where they are values of the graph around it under other names.
func (l *Liveness) Peak(g *onnx.Graph, inputs, outputs bool) Peak {
	born := l.Spans(g, inputs, outputs)
	dies := make([]int64, len(born))
	var live int64
	begin := func(list []Span) {
		for _, s := range list {
			live = addBytes(live, s.Bytes)
			dies[max(0, min(s.Last, len(dies)-1))] += s.Bytes
		}
	}
	ends := map[*onnx.Value]Span{} // of values alive, where results may take their place
	if l.InPlace {
		for _, list := range born {
			for _, s := range list {
				ends[s.Value] = s
			}
		}
	}
	var best Peak
	begin(born[0])
	i := 0
	for n := range g.Nodes() {
		begin(born[i+1])
		inner := l.inside(n)
		total := addBytes(live, inner.Bytes)
		if l.InPlace {
			total -= l.overwritten(n, i, born[i+1], ends, g)
		}
		if l.Visit != nil {
			l.Visit(n, total)
		}
		if best.At == nil || total > best.Bytes {
			best = Peak{Bytes: total, Node: n, At: n, Inside: inner.Bytes}
			if inner.Node != nil && inner.Bytes > 0 {
				best.Node = inner.Node
			}
		}
		live = max(0, live-dies[i])
		i++
	}
	if best.At == nil {
		best.Bytes = live
	}
	return best
}

// overwritten returns the bytes of an input of n, the i-th node of g, whose place
// its result takes: one computed in g, of the result's size, that ends there.
func (l *Liveness) overwritten(n *onnx.Node, i int, made []Span, ends map[*onnx.Value]Span, g *onnx.Graph) int64 {
	op := Lookup(n.Domain, n.Op, n.OpsetVersion(n.Domain))
	if op == nil || !op.Elementwise() || len(made) != 1 {
		return 0
	}
	for _, v := range n.Inputs() {
		if v == nil {
			continue
		}
		s, ok := ends[l.source(v, g)]
		if ok && s.Last == i && s.Bytes == made[0].Bytes && s.Value.Producer() != nil && s.Value != made[0].Value {
			return s.Bytes
		}
	}
	return 0
}

// inside returns the peak within the bodies that n runs.
func (l *Liveness) inside(n *onnx.Node) Peak {
	if l.depth >= maxNesting {
		return Peak{}
	}
	l.depth++
	defer func() { l.depth-- }()
	if fn := l.facts.funcs[funcKey{onnx.NormalDomain(n.Domain), n.Op, n.Overload}]; fn != nil && fn.Body != nil {
		p, seen := l.functions[fn]
		if !seen {
			l.functions[fn] = Peak{} // a function that calls itself
			p = l.Peak(fn.Body, false, false)
			l.functions[fn] = p
		}
		return p
	}
	subs := n.Subgraphs()
	if n.Is("If") {
		if i, sure := l.facts.Branch(n); sure && i < len(subs) {
			subs = subs[i : i+1]
		}
	}
	var best Peak
	for _, g := range subs {
		// A branch has no inputs, and its outputs are those of the If; a body keeps
		// the state of two iterations.
		if p := l.Peak(g, true, !n.Is("If")); p.Bytes > best.Bytes {
			best = p
		}
	}
	return best
}

// AliveAt returns the values of g that are alive while its node at runs.
func (l *Liveness) AliveAt(g *onnx.Graph, at *onnx.Node) []Span {
	before := l.Unknown
	born := l.Spans(g, true, true)
	l.Unknown = before
	i := 0
	for n := range g.Nodes() {
		if n == at {
			break
		}
		i++
	}
	var out []Span
	for k := 0; k <= i+1 && k < len(born); k++ {
		for _, s := range born[k] {
			if s.Last >= i && s.Bytes > 0 {
				out = append(out, s)
			}
		}
	}
	return out
}

// Branch returns which of the subgraphs of an If a known condition takes.
func (f *Facts) Branch(n *onnx.Node) (int, bool) {
	cond, ok := f.Ints(n.Input(0))
	if !ok || len(cond) != 1 || !cond[0].Known {
		return 0, false
	}
	name := "else_branch"
	if cond[0].Value != 0 {
		name = "then_branch"
	}
	i := 0
	for _, a := range n.Attrs {
		for range a.Subgraphs() {
			if a.Name == name {
				return i, true
			}
			i++
		}
	}
	return 0, false
}

// addBytes adds two counts, saturating.
func addBytes(a, b int64) int64 {
	if a < 0 || b < 0 || a > maxBytes-b {
		return maxBytes
	}
	return a + b
}

package profile

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Activations is the memory of inputs and computed values, were each kept
// exactly as long as it is needed.
type Activations struct {
	PeakBytes int64  `json:"peak_bytes" schema:"count"` // most bytes alive at once
	Node      int    `json:"node"`                      // row of the node during which that is so; -1 for a model without nodes
	NodeName  string `json:"node_name"`                 // its name, with the path around it
	Live      []Held `json:"live"`                      // the largest values of the main graph alive then, at most 8
	Inside    int64  `json:"inside" schema:"count"`     // bytes alive then within bodies of that node
	Unknown   int64  `json:"unknown" schema:"count"`    // values of unknown size, which count as 0
}

// Held is a value that is alive.
type Held struct {
	Name  string `json:"name"`                 // of the value
	Type  string `json:"type"`                 // in the ONNX text form
	Bytes int64  `json:"bytes" schema:"count"` // packed size
}

// liveness finds the peak of what is alive while a model runs.
type liveness struct {
	walk      *walk
	functions map[*onnx.Function]peak // of bodies seen
	unknown   int64
	depth     int
}

// peak is the most that a graph keeps alive, and while which node.
type peak struct {
	bytes  int64
	node   *onnx.Node // where, possibly within a body
	at     *onnx.Node // the node of this graph that is or holds node
	inside int64      // of bytes, within bodies of at
}

// span is a value's life by positions of nodes in its graph.
type span struct {
	v     *onnx.Value
	bytes int64
	last  int // position of the last reader
}

// measure returns the activations of a model with main graph g.
func (l *liveness) measure(g *onnx.Graph) Activations {
	p := l.graph(g, true, true)
	a := Activations{PeakBytes: min(p.bytes, maxCount), Node: -1, Inside: p.inside, Live: []Held{}, Unknown: l.unknown}
	if p.node == nil {
		return a
	}
	if row, ok := l.walk.firstRow[p.node]; ok {
		a.Node, a.NodeName = row, l.walk.labelOf(row)
	}
	a.Live = l.aliveAt(g, p.at)
	return a
}

// lives returns the values of g that take memory, by the position at which
// they are made: 0 for inputs, i+1 for outputs of node i. A graph's outputs live
// to the end.
func (l *liveness) lives(g *onnx.Graph, inputs, outputs bool) [][]span {
	pos := make(map[*onnx.Node]int, g.Len())
	for n := range g.Nodes() {
		pos[n] = len(pos)
	}
	end := len(pos)
	escapes := l.escaping(g, pos)
	result := map[*onnx.Value]bool{}
	for _, v := range g.Outputs() {
		result[v] = true
	}
	life := func(v *onnx.Value, made int) (span, bool) {
		if l.walk.weights.constant(v) || result[v] && !outputs && !v.IsInput() {
			return span{}, false
		}
		s := span{v: v, last: made}
		for _, u := range v.Uses() {
			s.last = max(s.last, position(u.Node, g, pos))
		}
		s.last = max(s.last, escapes[v])
		if result[v] {
			s.last = end
		}
		s.bytes = l.bytes(v)
		return s, true
	}
	out := make([][]span, end+1)
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
func (l *liveness) escaping(g *onnx.Graph, pos map[*onnx.Node]int) map[*onnx.Value]int {
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
func (l *liveness) bytes(v *onnx.Value) int64 {
	t := l.walk.facts.Type(v)
	n, ok := elementsOf(t)
	if !ok {
		l.unknown++
		return 0
	}
	size, ok := t.Elem.ByteSize(n)
	if !ok && t.Elem != onnx.String {
		l.unknown++
	}
	return min(size, maxCount)
}

// graph returns the peak of g. inputs and outputs say whether those of g count;
// they do not where they are values of the graph around it under other names.
func (l *liveness) graph(g *onnx.Graph, inputs, outputs bool) peak {
	born := l.lives(g, inputs, outputs)
	dies := make([]int64, len(born))
	var live int64
	begin := func(list []span) {
		for _, s := range list {
			live = plus(live, s.bytes)
			dies[max(0, min(s.last, len(dies)-1))] += s.bytes
		}
	}
	var best peak
	begin(born[0])
	i := 0
	for n := range g.Nodes() {
		begin(born[i+1])
		inner := l.inside(n)
		total := plus(live, inner.bytes)
		if row, ok := l.walk.firstRow[n]; ok {
			l.walk.rows[row].LiveBytes = max(l.walk.rows[row].LiveBytes, total)
		}
		if best.at == nil || total > best.bytes {
			best = peak{bytes: total, node: n, at: n, inside: inner.bytes}
			if inner.node != nil && inner.bytes > 0 {
				best.node = inner.node
			}
		}
		live = max(0, live-dies[i])
		i++
	}
	if best.at == nil {
		best.bytes = live
	}
	return best
}

// inside returns the peak within the bodies that n runs.
func (l *liveness) inside(n *onnx.Node) peak {
	if l.depth >= maxNesting {
		return peak{}
	}
	l.depth++
	defer func() { l.depth-- }()
	if fn := l.walk.weights.called(n); fn != nil {
		p, seen := l.functions[fn]
		if !seen {
			l.functions[fn] = peak{} // a function that calls itself
			p = l.graph(fn.Body, false, false)
			l.functions[fn] = p
		}
		return p
	}
	subs := n.Subgraphs()
	if n.Is("If") {
		if i, sure := l.walk.branch(n); sure && i < len(subs) {
			subs = subs[i : i+1]
		}
	}
	var best peak
	for _, g := range subs {
		// A branch has no inputs, and its outputs are those of the If; a body keeps
		// the state of two iterations.
		if p := l.graph(g, true, !n.Is("If")); p.bytes > best.bytes {
			best = p
		}
	}
	return best
}

// aliveAt returns the largest values of g alive while its node at runs.
func (l *liveness) aliveAt(g *onnx.Graph, at *onnx.Node) []Held {
	before := l.unknown
	born := l.lives(g, true, true)
	l.unknown = before
	i := 0
	for n := range g.Nodes() {
		if n == at {
			break
		}
		i++
	}
	out := []Held{}
	for k := 0; k <= i+1 && k < len(born); k++ {
		for _, s := range born[k] {
			if s.last >= i && s.bytes > 0 {
				out = append(out, Held{Name: s.v.Name(), Type: typeText(l.walk.facts.Type(s.v)), Bytes: s.bytes})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Held) int {
		switch {
		case a.Bytes > b.Bytes:
			return -1
		case a.Bytes < b.Bytes:
			return 1
		}
		return 0
	})
	return out[:min(len(out), 8)]
}

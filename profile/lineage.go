package profile

import (
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// lineage says which nodes of a model file each node of the graph stands for
// that an engine made of it.
//
// An engine that fuses keeps the name of the value that a group of nodes
// computes. So the group of a node is what lies, in the file, between its
// outputs and the values that still exist. Nodes whose outputs were renamed are
// known by their own name or by the name that the engine made of the value's.
type lineage struct {
	o      *originals
	rows   map[*onnx.Node][]int // by node of the engine's graph; ascending
	serves map[*onnx.Node]int   // for nodes that stand for none: the node that they were put in for
	taken  map[int]bool         // rows that some node stands for
	folded map[int]bool         // rows that the engine computed when it loaded the model
}

// trace finds the lineage of the graph run, that an engine made of the model of o.
func (o *originals) trace(run *onnx.Model) *lineage {
	l := &lineage{o: o, rows: map[*onnx.Node][]int{}, serves: map[*onnx.Node]int{}, taken: map[int]bool{}, folded: map[int]bool{}}
	if run.Graph != nil {
		l.pair(o.model.Graph, run.Graph, 0)
	}
	return l
}

// pairing is one graph of the file beside what the engine made of it.
type pairing struct {
	l        *lineage
	values   map[string]*onnx.Value // what nodes of the file's graph compute
	constant map[string]bool        // values that are constants in the engine's graph
	ends     map[*onnx.Node][]*onnx.Value
	owner    map[*onnx.Value]*onnx.Node // of a value that exists: which engine's node computes it
	hands    map[*onnx.Node]*onnx.Node  // nodes that hand on what another computes, in another layout
	given    map[*onnx.Node]bool        // nodes of the file that compute from constants only, always the same
}

// pair traces the nodes of run, which the engine made of g, and of the bodies within.
func (l *lineage) pair(g, run *onnx.Graph, depth int) {
	if depth > maxNesting {
		return
	}
	p := &pairing{l: l, values: map[string]*onnx.Value{}, constant: map[string]bool{}, ends: map[*onnx.Node][]*onnx.Value{}, owner: map[*onnx.Value]*onnx.Node{},
		hands: map[*onnx.Node]*onnx.Node{}, given: map[*onnx.Node]bool{}}
	for n := range g.Nodes() {
		p.given[n] = p.fixed(n)
		for _, v := range n.Outputs() {
			if v != nil {
				p.values[v.Name()] = v
			}
		}
	}
	for _, v := range run.Initializers() {
		p.constant[v.Name()] = true
	}
	p.renamed(g, run)
	p.kept(run)
	for n := range run.Nodes() {
		p.claim(n)
	}
	p.apart(run)
	p.fold(g)
	for n := range run.Nodes() {
		l.bodies(n, depth)
	}
}

// renamed finds the ends of nodes of which no output has a name of the file.
func (p *pairing) renamed(g, run *onnx.Graph) {
	byName := map[string]*onnx.Node{}
	for n := range g.Nodes() {
		if n.Name != "" {
			byName[n.Name] = n
		}
	}
	for n := range run.Nodes() {
		if slices.ContainsFunc(n.Outputs(), func(v *onnx.Value) bool { return v != nil && p.values[v.Name()] != nil }) {
			continue
		}
		var ends []*onnx.Value
		if was := byName[n.Name]; was != nil && plainOp(was.Op) == plainOp(n.Op) {
			ends = was.Outputs()
		} else if name, _, ok := strings.Cut(n.Name, "_nchwc"); ok {
			if v := p.values[strings.TrimPrefix(name, inserted)]; v != nil {
				ends = []*onnx.Value{p.absorbed(n, v)}
			}
		}
		for _, v := range ends {
			if v != nil && p.owner[v] == nil {
				p.ends[n], p.owner[v] = append(p.ends[n], v), n
			}
		}
	}
}

// absorbed returns what a convolution computes that is called after v: v, or
// what follows it where the engine put a sum and an activation into it.
func (p *pairing) absorbed(n *onnx.Node, v *onnx.Value) *onnx.Value {
	follow := func(ok func(*onnx.Node) bool) {
		if u := v.Uses(); len(u) == 1 && !v.IsOutput() && ok(u[0].Node) && u[0].Node.Output(0) != nil {
			v = u[0].Node.Output(0)
		}
	}
	if n.Input(3) != nil && plainOp(n.Op) == "Conv" {
		follow(func(u *onnx.Node) bool { return u.Is("Add") || u.Is("Sum") })
	}
	if act := n.Str("activation", ""); act != "" && !v.Producer().Is(act) {
		follow(func(u *onnx.Node) bool { return u.Is(act) })
	}
	return v
}

// kept finds the ends of nodes with an output of the file's name, or of that with
// another precision. One that another node computes already is only handed on.
func (p *pairing) kept(run *onnx.Graph) {
	own := func(n *onnx.Node, name func(*onnx.Value) string) {
		for _, v := range n.Outputs() {
			if v == nil {
				continue
			}
			w := p.values[name(v)]
			switch {
			case w == nil:
			case p.owner[w] == nil:
				p.ends[n], p.owner[w] = append(p.ends[n], w), n
			case p.owner[w] != n && len(p.ends[n]) == 0:
				p.hands[n] = p.owner[w]
			}
		}
	}
	passes := []func(*onnx.Node){
		func(n *onnx.Node) { own(n, (*onnx.Value).Name) },
		func(n *onnx.Node) { own(n, precise) },
	}
	for _, pass := range passes {
		for n := range run.Nodes() {
			if !converts(n) {
				pass(n)
			}
		}
	}
	for n := range run.Nodes() {
		if converts(n) {
			own(n, precise)
		}
	}
}

// precise returns the name of a value in the file, where the engine inserted a
// conversion to compute it in another precision.
func precise(v *onnx.Value) string { return strings.TrimPrefix(v.Name(), inserted) }

// inserted starts the names that ONNX Runtime gives values in another precision.
const inserted = "InsertedPrecisionFreeCast_"

// converts reports whether n only converts a value to another precision.
func converts(n *onnx.Node) bool {
	return n.Is("Cast") && n.Input(0) != nil && n.Output(0) != nil && precise(n.Input(0)) == precise(n.Output(0))
}

// claim gives n the nodes of the file between its ends and the values that exist.
func (p *pairing) claim(n *onnx.Node) {
	var todo []*onnx.Node
	for _, v := range p.ends[n] {
		todo = append(todo, v.Producer())
	}
	for len(todo) > 0 {
		u := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		row, listed := p.l.o.first[u]
		if !listed || p.l.taken[row] {
			continue
		}
		p.l.taken[row] = true
		p.l.rows[n] = append(p.l.rows[n], row)
		for _, v := range slices.Concat(u.Inputs(), u.Captures()) {
			if v == nil || v.Producer() == nil || p.owner[v] != nil || p.constant[v.Name()] || p.given[v.Producer()] {
				continue
			}
			if v.Producer().Graph() == u.Graph() {
				todo = append(todo, v.Producer())
			}
		}
	}
	slices.Sort(p.l.rows[n])
}

// apart gives a node that has no end a part of what its reader stands for: a
// node of its operator. Else it stands for nothing, and was put in for its reader.
func (p *pairing) apart(run *onnx.Graph) {
	for n := run.Last(); n != nil; n = n.Prev() {
		if len(p.l.rows[n]) > 0 {
			continue
		}
		if p.hands[n] != nil {
			p.serve(n, p.hands[n])
			continue
		}
		for _, v := range n.Outputs() {
			if v == nil || len(v.Uses()) == 0 {
				continue
			}
			if reader := v.Uses()[0].Node; !p.share(n, reader) {
				p.serve(n, reader)
			}
			break
		}
	}
}

// share moves one node of n's operator from what reader stands for to n.
func (p *pairing) share(n, reader *onnx.Node) bool {
	rows := p.l.rows[reader]
	if len(rows) < 2 || plainOp(n.Op) == plainOp(reader.Op) {
		return false
	}
	for i, row := range slices.Backward(rows) {
		if plainOp(p.l.o.rows[row].Op) == plainOp(n.Op) {
			p.l.rows[reader] = slices.Delete(slices.Clone(rows), i, i+1)
			p.l.rows[n] = []int{row}
			return true
		}
	}
	return false
}

// serve notes that n was put in for the node that other stands for.
func (p *pairing) serve(n, other *onnx.Node) {
	if _, known := p.l.serves[n]; known {
		return
	}
	if rows := p.l.rows[other]; len(rows) > 0 {
		p.l.serves[n] = p.l.o.leading(rows, other.Op)
	} else if row, ok := p.l.serves[other]; ok {
		p.l.serves[n] = row
	}
}

// fold finds the nodes of g that the engine computed beforehand: their result is
// a constant of its graph, or read by such nodes only.
func (p *pairing) fold(g *onnx.Graph) {
	for n := g.Last(); n != nil; n = n.Prev() {
		row, listed := p.l.o.first[n]
		if !listed || p.l.taken[row] {
			continue
		}
		p.l.folded[row] = p.given[n] || slices.ContainsFunc(n.Outputs(), p.vanished)
	}
}

// vanished reports whether v is a constant of the engine's graph, or read by
// nodes only that the engine computed beforehand.
func (p *pairing) vanished(v *onnx.Value) bool {
	if v == nil || p.constant[v.Name()] {
		return v != nil
	}
	return len(v.Uses()) > 0 && !v.IsOutput() && !slices.ContainsFunc(v.Uses(), func(u onnx.Use) bool {
		row, listed := p.l.o.first[u.Node]
		return !listed || !p.l.folded[row]
	})
}

// fixed reports whether n computes from constants only, always the same.
func (p *pairing) fixed(n *onnx.Node) bool {
	if len(n.Inputs()) == 0 || len(n.Subgraphs()) > 0 {
		return n.Is("Constant")
	}
	if op := opset.Lookup(n.Domain, n.Op, n.OpsetVersion(n.Domain)); op == nil || !op.Deterministic() || op.SideEffect() {
		return false
	}
	return !slices.ContainsFunc(n.Inputs(), func(v *onnx.Value) bool {
		return v != nil && v.Constant() == nil && !p.given[v.Producer()]
	})
}

// bodies traces the bodies of n beside those of the node of the file that it is.
func (l *lineage) bodies(n *onnx.Node, depth int) {
	if len(n.Subgraphs()) == 0 {
		return
	}
	for _, row := range l.rows[n] {
		was := l.o.nodes[row]
		if was.Op != n.Op {
			continue
		}
		for _, a := range was.Attrs {
			if b := n.Attr(a.Name); a.G != nil && b != nil && b.G != nil {
				l.pair(a.G, b.G, depth+1)
			}
		}
		return
	}
}

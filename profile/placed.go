package profile

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// placed returns the nodes of the engine's graph m, by the places in t.Nodes of
// their executions in runs, which ascend. An engine runs nodes in the order in
// which it writes them, bodies within their node; where the operators of a graph
// are not those that ran, names decide. m may be nil.
func (t *Trace) placed(m *onnx.Model, runs []TraceRun) map[int]*onnx.Node {
	p := placing{trace: t, bodies: map[int][]int{}, node: map[int]*onnx.Node{}}
	if m == nil || m.Graph == nil {
		return p.node
	}
	top := make([][]int, len(runs))
	for i := range t.Nodes {
		e := &t.Nodes[i]
		k := runAt(runs, e.Start)
		switch {
		case k < 0:
		case e.Around >= 0:
			p.bodies[e.Around] = append(p.bodies[e.Around], i)
		default:
			top[k] = append(top[k], i)
		}
	}
	for _, events := range top {
		p.graph(events, []*onnx.Graph{m.Graph}, 0)
	}
	return p.node
}

type placing struct {
	trace  *Trace
	bodies map[int][]int // executions within the body of one
	node   map[int]*onnx.Node
}

// graph places executions that are those of one of the graphs, once or more.
func (p *placing) graph(events []int, graphs []*onnx.Graph, depth int) {
	if len(events) == 0 || depth > maxNesting {
		return
	}
	ran := -1
	for i, g := range graphs {
		if p.ran(events, g) {
			ran = i
			break
		}
	}
	if ran >= 0 {
		nodes := slices.Collect(graphs[ran].Nodes())
		for i, e := range events {
			p.node[e] = nodes[i%len(nodes)]
		}
	} else {
		p.byName(events, graphs)
	}
	for _, e := range events {
		if n := p.node[e]; n != nil {
			p.graph(p.bodies[e], n.Subgraphs(), depth+1)
		}
	}
}

// ran reports whether the executions are those of g's nodes, in order.
func (p *placing) ran(events []int, g *onnx.Graph) bool {
	if g.Len() == 0 || len(events)%g.Len() != 0 {
		return false
	}
	n := g.First()
	for _, i := range events {
		e := &p.trace.Nodes[i]
		if n.Op != e.Op || n.Name != "" && n.Name != e.Name {
			return false
		}
		if n = n.Next(); n == nil {
			n = g.First()
		}
	}
	return true
}

// byName places executions by the names of nodes, where these are unique.
func (p *placing) byName(events []int, graphs []*onnx.Graph) {
	nodes := map[string]*onnx.Node{}
	for _, g := range graphs {
		for n := range g.Nodes() {
			if _, twice := nodes[n.Name]; twice {
				nodes[n.Name] = nil
				continue
			}
			nodes[n.Name] = n
		}
	}
	for _, i := range events {
		e := &p.trace.Nodes[i]
		if n := nodes[e.Name]; n != nil && n.Op == e.Op {
			p.node[i] = n
		}
	}
}

package profile

import (
	"strconv"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// maxNesting bounds bodies within bodies; what lies deeper is not listed.
const maxNesting = 32

// visitLimit bounds the rows of a model: local functions that call each other
// repeat their nodes, and could do so exponentially often.
func visitLimit(m *onnx.Model) int {
	n := 0
	for _, g := range m.Graphs() {
		n += g.Len()
	}
	return 1<<16 + 4*n
}

// walk lists the nodes of a model in execution order.
type walk struct {
	facts   *opset.Facts
	weights *weights
	left    int // rows that may still be made

	quantized *quantized

	rows     []Node
	nodes    []*onnx.Node       // by row
	versions []int64            // by row, that in which the operator got its form; 0 where it is not known
	firstRow map[*onnx.Node]int // the first row of each node
	notes    notes
}

func newWalk(m *onnx.Model, facts *opset.Facts, w *weights) *walk {
	return &walk{facts: facts, weights: w, quantized: findQuantized(m, facts), left: visitLimit(m), firstRow: map[*onnx.Node]int{}}
}

// place is where a graph stands.
type place struct {
	path  string
	runs  int64
	calls []*onnx.Function // being listed, outermost first
	depth int
}

func (p place) in(path string, runs int64) place {
	q := place{path: path, runs: times(p.runs, runs), calls: p.calls, depth: p.depth + 1}
	if p.path != "" {
		q.path = p.path + "/" + path
	}
	return q
}

// graph lists the nodes of g and of the bodies within.
func (w *walk) graph(g *onnx.Graph, p place) {
	if p.depth > maxNesting {
		w.notes.add("bodies nested deeper than %d are not listed", maxNesting)
		return
	}
	i := 0
	for n := range g.Nodes() {
		if w.left--; w.left < 0 {
			w.notes.add("the local functions repeat too many nodes: not all are listed")
			return
		}
		w.node(n, i, p)
		i++
	}
}

// node lists n, the i-th of its graph, and what it runs.
func (w *walk) node(n *onnx.Node, i int, p place) {
	at := len(w.rows)
	if _, seen := w.firstRow[n]; !seen {
		w.firstRow[n] = at
	}
	label := n.Name
	if label == "" {
		label = n.Op + "_" + strconv.Itoa(i)
	}
	w.rows, w.nodes, w.versions = append(w.rows, w.row(n, p)), append(w.nodes, n), append(w.versions, w.version(n))
	w.rows[at].Label = p.in(label, 1).path
	if fn := w.weights.called(n); fn != nil {
		if w.calling(fn, p) {
			w.rows[at].Unknown = "calls itself"
			return
		}
		q := p.in(label, 1)
		q.calls = append(p.calls[:len(p.calls):len(p.calls)], fn)
		w.graph(fn.Body, q)
		return
	}
	w.bodies(n, at, label, p)
}

func (w *walk) calling(fn *onnx.Function, p place) bool {
	for _, f := range p.calls {
		if f == fn {
			return true
		}
	}
	return false
}

// valueNames returns the names of values, "" for omitted ones.
func valueNames(values []*onnx.Value) []string {
	out := make([]string, len(values))
	for i, v := range values {
		if v != nil {
			out[i] = v.Name()
		}
	}
	return out
}

// row makes the row of n itself.
func (w *walk) row(n *onnx.Node, p place) Node {
	r := Node{Name: n.Name, Op: opText(n), Path: p.path, Inputs: []string{}, Outputs: []string{}, Runs: p.runs,
		Reads: valueNames(n.Inputs()), Gives: valueNames(n.Outputs())}
	for _, v := range n.Inputs() {
		r.Inputs = append(r.Inputs, typeText(w.facts.Type(v)))
		r.Parameters = plus(r.Parameters, w.weights.read(v))
	}
	for _, t := range learned(n) {
		r.Parameters = plus(r.Parameters, parametersOf(t))
	}
	for _, v := range n.Outputs() {
		r.Outputs = append(r.Outputs, typeText(w.facts.Type(v)))
	}
	if w.free(n) {
		return r
	}
	c := w.facts.Cost(n)
	r.Work.add(w.quantized.work(n, c), 1)
	r.Absorbed = w.quantized.absorbed[n]
	if r.Work.FLOPs > 0 {
		r.Arithmetic = w.quantized.arithmetic(n)
	}
	r.Unknown = w.reason(n, c)
	return r
}

// version returns that in which n's operator got the form used, 0 where it is not known.
func (w *walk) version(n *onnx.Node) int64 {
	if op := opset.Lookup(n.Domain, n.Op, n.OpsetVersion(n.Domain)); op != nil && w.weights.called(n) == nil {
		return op.Since
	}
	return 0
}

// free reports whether n costs nothing itself: a call costs what its body costs,
// and a constant is only read.
func (w *walk) free(n *onnx.Node) bool {
	return w.weights.called(n) != nil || n.Is("Constant") || w.weights.generated[n.Output(0)] > 0
}

// reason says why the cost of n is not complete, "" where it is.
func (w *walk) reason(n *onnx.Node, c opset.Cost) string {
	if opset.Lookup(n.Domain, n.Op, n.OpsetVersion(n.Domain)) == nil {
		return "operator not known"
	}
	for _, a := range n.Attrs {
		if a.Ref != "" {
			return "attribute depends on the call"
		}
	}
	if c.Unknown {
		return "size not known"
	}
	return ""
}

// bodies lists the subgraphs of n, each with the number of its runs.
func (w *walk) bodies(n *onnx.Node, at int, label string, p place) {
	subs := n.Subgraphs()
	if len(subs) == 0 {
		return
	}
	if n.Is("If") {
		w.branches(n, label, p)
		return
	}
	runs, known := w.iterations(n)
	if !known {
		w.notes.group("the number of iterations of %s is not known, the body is counted once", n.Op, p.path, label)
	}
	for i, g := range subs {
		w.graph(g, p.in(bodyName(label, n, i), runs))
		if i > 0 && !known {
			w.rows[at].Unknown = "operator not known"
		}
	}
}

// bodyName returns the part of a path that names body i of n.
func bodyName(label string, n *onnx.Node, i int) string {
	k := 0
	for _, a := range n.Attrs {
		for range a.Subgraphs() {
			if k == i {
				return label + "." + a.Name
			}
			k++
		}
	}
	return label
}

// branches lists both branches of n and lets one count: the one that is sure to
// be taken, else the one with more FLOPs.
func (w *walk) branches(n *onnx.Node, label string, p place) {
	taken, sure := w.facts.Branch(n)
	start := make([]int, 0, 3)
	var flops []int64
	for i, g := range n.Subgraphs() {
		start = append(start, len(w.rows))
		w.graph(g, p.in(bodyName(label, n, i), 1))
		var sum int64
		for _, r := range w.rows[start[i]:] {
			sum = plus(sum, times(r.Work.FLOPs, r.Runs))
		}
		flops = append(flops, sum)
	}
	start = append(start, len(w.rows))
	if !sure {
		taken = 0
		for i := range flops {
			if flops[i] > flops[taken] {
				taken = i
			}
		}
		if len(flops) > 1 {
			w.notes.group("the condition of %s is not known, the branch with more FLOPs is counted", "If", p.path, label)
		}
	}
	for i := range flops {
		if i == taken {
			continue
		}
		for k := start[i]; k < start[i+1]; k++ {
			w.rows[k].Runs = 0
		}
	}
}

// iterations returns how often the body of n runs, 1 where that is not known.
func (w *walk) iterations(n *onnx.Node) (int64, bool) {
	switch {
	case n.Is("Loop"):
		// A trip count is how often the body runs unless a condition ends it.
		if m, ok := w.facts.Ints(n.Input(0)); ok && len(m) == 1 && m[0].Known && m[0].Value >= 0 {
			if w.runsToTheEnd(n) {
				return m[0].Value, true
			}
			w.notes.group("a condition may end %s before its trip count, which is counted", n.Op, "", n.Name)
			return m[0].Value, true
		}
	case n.Is("Scan"):
		return w.scanLength(n)
	}
	return 1, false
}

// runsToTheEnd reports whether a Loop's condition is true throughout, because
// it has none that its body changes.
func (w *walk) runsToTheEnd(n *onnx.Node) bool {
	if v := n.Input(1); v != nil {
		if c, ok := w.facts.Ints(v); !ok || len(c) != 1 || !c[0].Known || c[0].Value == 0 {
			return false
		}
	}
	body := n.Subgraphs()[0]
	if len(body.Outputs()) == 0 || len(body.Inputs()) < 2 {
		return false
	}
	out := body.Outputs()[0]
	for out.Producer().Is("Identity") && out.Producer().Input(0) != nil {
		out = out.Producer().Input(0)
	}
	if out == body.Inputs()[1] {
		return true
	}
	c, ok := w.facts.Ints(out)
	return ok && len(c) == 1 && c[0].Known && c[0].Value != 0
}

// scanLength returns the length of the sequences that a Scan runs over.
func (w *walk) scanLength(n *onnx.Node) (int64, bool) {
	scans := int(min(n.Int("num_scan_inputs", 0), int64(len(n.Inputs()))))
	if scans < 1 {
		return 1, false
	}
	at := len(n.Inputs()) - scans
	axis := int64(0)
	if axes := n.Ints("scan_input_axes", nil); len(axes) > 0 {
		axis = axes[0]
	}
	if n.OpsetVersion("") == 8 {
		axis = 1 // behind the batch, which opset 8 scans too
	}
	shape := w.facts.Shape(n.Input(at))
	if axis < 0 {
		axis += int64(len(shape))
	}
	if axis < 0 || axis >= int64(len(shape)) || !shape[axis].Known() {
		return 1, false
	}
	return min(shape[axis].Value, maxCount), true
}

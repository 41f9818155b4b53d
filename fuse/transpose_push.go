package fuse

import (
	"container/heap"
	"context"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// transposes moves Transpose through the operators behind it, where fewer of
// them are left in the end. From one Transpose it grows a region of nodes that
// can work on values whose axes are in another order, until other Transposes
// take the order back; it counts those that go against those that would have to
// be put in at the border, and draws the border back where that is cheaper.
type transposes struct{}

func (transposes) Name() string { return "transposes" }

// Doc says what the pass does.
func (transposes) Doc() string {
	return "moves Transpose through other operators where that leaves fewer of them"
}

// Run tries every Transpose as the start of a region.
func (transposes) Run(ctx context.Context, m *onnx.Model, e *rewrite.Env) error {
	for _, g := range m.Graphs() {
		if g.InFunction() {
			continue
		}
		pos := map[*onnx.Node]int{}
		for n := range g.Nodes() {
			pos[n] = len(pos)
		}
		for n := range g.Nodes() {
			if err := ctx.Err(); err != nil {
				return err
			}
			if !n.Is("Transpose") || e.Exhausted() {
				continue
			}
			if err := pushFrom(n, pos, e); err != nil {
				return err
			}
		}
	}
	return nil
}

// mostMoved bounds the nodes of one region.
const mostMoved = 256

func pushFrom(n *onnx.Node, pos map[*onnx.Node]int, e *rewrite.Env) error {
	perm := transposePerm(n, e)
	if perm == nil || n.Output(0).Dead() {
		return nil
	}
	r := &region{e: e, g: n.Graph(), pos: pos, order: map[*onnx.Value][]int64{}, member: map[*onnx.Node]*moved{}, seen: map[*onnx.Node]bool{}}
	r.start(n, perm)
	r.grow()
	gain := -1
	if r.promising() {
		for r.shrink() {
		}
		gain = r.gain()
	}
	if gain <= 0 {
		e.Decline("transposes", n, "moving it would leave as many or more")
		return nil
	}
	if !e.Allow("transposes", n) {
		return nil
	}
	site := e.At("transposes", n)
	removed, added, err := r.apply()
	if err != nil {
		return err
	}
	return e.Fired("transposes", site, removed, added, "")
}

// transposePerm returns the order of axes of a Transpose, nil where it is not known.
func transposePerm(n *onnx.Node, e *rewrite.Env) []int64 {
	perm, err := permOf(&rewrite.Match{Root: n, Facts: e.Facts}, n)
	if err != nil || inOrder(perm) {
		return nil
	}
	return perm
}

// region is a set of nodes that are to work on values in another order of axes.
type region struct {
	e   *rewrite.Env
	g   *onnx.Graph
	pos map[*onnx.Node]int // place in execution order; new nodes have that of the node they stand for
	// order gives, for each value that will be there in another form v', the
	// order with which v = Transpose(v', order). In order: v' is v itself.
	order  map[*onnx.Value][]int64
	member map[*onnx.Node]*moved
	nodes  []*onnx.Node // members in the order they came in
	front  front        // readers of members that are to be tried
	seen   map[*onnx.Node]bool
}

// moved is how a node works on values in another order.
type moved struct {
	in    []operand
	attrs []*onnx.Attr // instead of the node's
	out   [][]int64    // the order of each output
	none  bool         // a Transpose, of which none is left
}

// operand is one input of a moved node.
type operand struct {
	v     *onnx.Value
	kind  operandKind
	perm  []int64 // permuted, transposed: the order that makes v' of v
	shape []int64 // permuted: the shape of the constant before, with leading ones
	ints  []int64 // integers: the content
}

type operandKind int

const (
	asIs       operandKind = iota // read as it is
	inRegion                      // the new form of a value of the region
	permuted                      // a constant, transposed now
	transposed                    // a Transpose is put in
	integers                      // new integer constant
)

// start makes Transpose n, which is free, the first member.
func (r *region) start(n *onnx.Node, perm []int64) {
	r.add(n, &moved{in: []operand{{v: n.Input(0), kind: asIs}}, out: [][]int64{perm}, none: true})
}

func (r *region) add(n *onnx.Node, mv *moved) {
	r.member[n] = mv
	r.nodes = append(r.nodes, n)
	for i, v := range n.Outputs() {
		if v != nil && i < len(mv.out) {
			r.order[v] = mv.out[i]
			r.look(v)
		}
	}
}

// grow adds readers of the region's values while they can be moved, in
// execution order, so that what else a reader reads is settled before it.
func (r *region) grow() {
	for len(r.nodes) < mostMoved && len(r.front) > 0 {
		if n := heap.Pop(&r.front).(waiting).n; r.member[n] == nil {
			r.join(n)
		}
	}
}

// front is a heap of nodes, the first in execution order on top.
type front []waiting

type waiting struct {
	n         *onnx.Node
	pos, came int // its place in execution order, and when it came here
}

func (f front) Len() int { return len(f) }

func (f front) Less(i, j int) bool {
	return f[i].pos < f[j].pos || f[i].pos == f[j].pos && f[i].came < f[j].came
}

func (f front) Swap(i, j int) { f[i], f[j] = f[j], f[i] }

// Push and Pop are what package heap needs.
func (f *front) Push(x any) { *f = append(*f, x.(waiting)) }

// Pop takes the last one off.
func (f *front) Pop() any {
	last := len(*f) - 1
	x := (*f)[last]
	*f = (*f)[:last]
	return x
}

// look puts the readers of v in front of the region, each once.
func (r *region) look(v *onnx.Value) {
	if inOrder(r.order[v]) {
		return
	}
	for _, u := range v.Uses() {
		if n := u.Node; n.Graph() == r.g && !r.seen[n] {
			r.seen[n] = true
			heap.Push(&r.front, waiting{n, r.pos[n], len(r.seen)})
		}
	}
}

// join adds n, and Transposes that feed it alone of all other inputs, if it can be moved.
func (r *region) join(n *onnx.Node) {
	var feeding []*onnx.Node
	for _, v := range n.Inputs() {
		t := producerOf(v, "Transpose")
		if v == nil || r.order[v] != nil || t == nil || t.Graph() != r.g || r.member[t] != nil {
			continue
		}
		if perm := transposePerm(t, r.e); perm != nil && r.fits(n, perm) {
			r.start(t, perm)
			feeding = append(feeding, t)
		}
	}
	if mv := r.move(n); mv != nil {
		r.add(n, mv)
		return
	}
	for _, t := range feeding {
		r.drop(t)
	}
}

// fits reports whether a value of n's inputs in the region has the order perm.
func (r *region) fits(n *onnx.Node, perm []int64) bool {
	return slices.ContainsFunc(n.Inputs(), func(v *onnx.Value) bool { return v != nil && slices.Equal(r.order[v], perm) })
}

func (r *region) drop(n *onnx.Node) {
	delete(r.member, n)
	r.nodes = slices.DeleteFunc(r.nodes, func(m *onnx.Node) bool { return m == n })
	for _, v := range n.Outputs() {
		delete(r.order, v)
	}
}

// promising reports whether the region has another Transpose than the first, or
// ends somewhere in a value that needs none: without either nothing is gained.
func (r *region) promising() bool {
	for _, n := range r.nodes[1:] {
		if r.member[n].none || slices.ContainsFunc(n.Outputs(), func(v *onnx.Value) bool { return v != nil && r.order[v] != nil && inOrder(r.order[v]) }) {
			return true
		}
	}
	return false
}

// gain counts the Transposes that go, less those that come.
func (r *region) gain() int {
	gain := 0
	put := map[*onnx.Value]bool{}
	for _, n := range r.nodes {
		mv := r.member[n]
		if mv.none {
			gain++
		}
		for _, o := range mv.in {
			if o.kind == transposed && !put[o.v] {
				put[o.v] = true
				gain--
			}
		}
		for _, v := range n.Outputs() {
			if r.readOutside(v) && !inOrder(r.order[v]) {
				gain--
			}
		}
	}
	return gain
}

// readOutside reports whether something outside the region reads v.
func (r *region) readOutside(v *onnx.Value) bool {
	if v == nil || r.order[v] == nil {
		return false
	}
	if v.IsOutput() {
		return true
	}
	return slices.ContainsFunc(v.Uses(), func(u onnx.Use) bool { return r.member[u.Node] == nil })
}

// shrink takes the last member out that nothing in the region reads and without
// which the region gains more or as much; it reports whether it found one.
func (r *region) shrink() bool {
	for i := len(r.nodes) - 1; i > 0; i-- {
		n := r.nodes[i]
		mv := r.member[n]
		if slices.ContainsFunc(n.Outputs(), r.readInside) {
			continue
		}
		before := r.gain()
		saved := slices.Clone(r.nodes)
		r.drop(n)
		if r.gain() >= before {
			return true
		}
		r.add(n, mv)
		r.nodes = saved
	}
	return false
}

func (r *region) readInside(v *onnx.Value) bool {
	return v != nil && slices.ContainsFunc(v.Uses(), func(u onnx.Use) bool { return r.member[u.Node] != nil })
}

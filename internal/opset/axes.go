package opset

import (
	"fmt"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Axis is one axis of a value.
type Axis struct {
	Value *onnx.Value
	Axis  int
}

// Tie says that positions along two axes stand or fall together: position j of
// To with position Index[j] of From, or with j where Index is nil. A position of
// To whose index is negative has no counterpart and cannot go.
type Tie struct {
	From, To Axis
	Index    []int
}

// Pinned is an axis along which nothing can be taken away, and why.
type Pinned struct {
	Axis
	Positions []int // nil: all
	Why       string
}

// Even is an axis of Blocks equal runs, of which each must keep as many positions.
type Even struct {
	Axis
	Blocks int
}

// Product is an axis whose positions are those of several others together, the
// last varying fastest: what Reshape makes. One of the others can lose positions,
// and the product loses each with it. A factor without a value is one of
// [Relations].Virtual, by its Axis.
type Product struct {
	Factors []Axis
	Product Axis
}

// Relations tells how the positions along the axes of a node's inputs, outputs
// and bodies depend on each other: what else goes where one of them is taken out
// of the tensors. Every axis of an input or output that could lose positions is
// in a tie, a product or Free; all others are in Pins.
//
// The method is that of Fang et al., "DepGraph: Towards Any Structural Pruning"
// (2023), with positions in place of layers.
type Relations struct {
	Known    bool // the operator has rules; otherwise everything is pinned
	Ties     []Tie
	Free     []Axis
	Pins     []Pinned
	Even     []Even
	Products []Product
	Virtual  []int // sizes of factors of products that are an axis of no value
	// Statistics are axes over which the node takes a mean or a variance: what
	// is left changes by what is taken away, even where that is zero.
	Statistics []Axis
	// Heads are axes that count attention heads.
	Heads []Axis
	// Derived are axes whose positions follow from other axes of the node in a way
	// of the operator's own, such as the input channels of a grouped convolution's
	// weights.
	Derived []Axis
}

// relating is one node as the rules see it.
type relating struct {
	*call
	rel       Relations
	mentioned map[Axis]bool
	unknown   bool // the rule does not cover this form of the operator
}

// Relations returns how the axes of n's inputs and outputs depend on each other.
func (f *Facts) Relations(n *onnx.Node) *Relations {
	s := &scope{opsets: f.opsetsOf(n)}
	r := &relating{call: &call{f: f, s: s, n: n, out: make([]fact, len(n.Outputs()))}, mentioned: map[Axis]bool{}}
	r.op = Lookup(n.Domain, n.Op, s.version(n.Domain))
	if rule := axisRule(r.op); rule != nil && r.complete() && r.ranked() {
		rule(r)
		r.rel.Known = !r.unknown
	}
	if !r.rel.Known {
		r.rel = Relations{}
		clear(r.mentioned)
	}
	r.rest()
	return &r.rel
}

// ranked reports whether the ranks of all inputs and outputs are known: axes of any
// other cannot be told from each other.
func (r *relating) ranked() bool {
	unranked := func(v *onnx.Value) bool { return v != nil && r.f.Shape(v) == nil }
	return !slices.ContainsFunc(r.n.Inputs(), unranked) && !slices.ContainsFunc(r.n.Outputs(), unranked)
}

// axisRule returns the rule of an operator, nil if it has none.
func axisRule(op *Op) func(*relating) {
	if op == nil {
		return nil
	}
	key := op.Name
	if op.Domain != "" {
		key = op.Domain + "." + op.Name
	}
	if rule := axisRules()[key]; rule != nil {
		return rule
	}
	if op.Elementwise() {
		return relateBroadcast
	}
	return nil
}

// rest pins what no rule has mentioned.
func (r *relating) rest() {
	why := "has no rule for axes"
	if r.rel.Known {
		why = "works along it"
	}
	lists := [][]*onnx.Value{r.n.Inputs(), r.n.Outputs()}
	for _, g := range r.n.Subgraphs() {
		if !r.rel.Known { // what goes in and out of a body is tied to nothing else
			lists = append(lists, g.Inputs(), g.Outputs())
		}
	}
	for _, list := range lists {
		for _, v := range list {
			if v == nil {
				continue
			}
			for i := range r.f.Shape(v) {
				if a := (Axis{v, i}); !r.mentioned[a] {
					r.mentioned[a] = true
					r.rel.Pins = append(r.rel.Pins, Pinned{a, nil, fmt.Sprintf("%s %s", r.n.Op, why)})
				}
			}
		}
	}
}

// in and out return an axis of an input or output, counted from the end where
// negative; false where there is no such value or axis.
func (r *relating) in(i, axis int) (Axis, bool)  { return r.at(r.n.Input(i), axis) }
func (r *relating) res(i, axis int) (Axis, bool) { return r.at(r.n.Output(i), axis) }

func (r *relating) at(v *onnx.Value, axis int) (Axis, bool) {
	if v == nil {
		return Axis{}, false
	}
	rank := len(r.f.Shape(v))
	if axis < 0 {
		axis += rank
	}
	return Axis{v, axis}, axis >= 0 && axis < rank
}

// tie ties axes that exist position by position.
func (r *relating) tie(a Axis, okA bool, b Axis, okB bool) { r.tieBy(a, okA, b, okB, nil) }

func (r *relating) tieBy(a Axis, okA bool, b Axis, okB bool, index []int) {
	if !okA || !okB {
		return
	}
	r.mentioned[a], r.mentioned[b] = true, true
	r.rel.Ties = append(r.rel.Ties, Tie{a, b, index})
}

// link ties axis a of input i to axis b of output o.
func (r *relating) link(i, a, o, b int) {
	x, okX := r.in(i, a)
	y, okY := r.res(o, b)
	r.tie(x, okX, y, okY)
}

// join ties axis a of input i to axis b of input j.
func (r *relating) join(i, a, j, b int) {
	x, okX := r.in(i, a)
	y, okY := r.in(j, b)
	r.tie(x, okX, y, okY)
}

// free says that an axis of one of the node's values may lose positions freely.
func (r *relating) free(a Axis, ok bool) {
	if ok {
		r.mentioned[a] = true
		r.rel.Free = append(r.rel.Free, a)
	}
}

func (r *relating) pin(a Axis, ok bool, positions []int, format string, args ...any) {
	if ok {
		r.mentioned[a] = true
		r.rel.Pins = append(r.rel.Pins, Pinned{a, positions, fmt.Sprintf(format, args...)})
	}
}

func (r *relating) even(a Axis, ok bool, blocks int) {
	if ok {
		r.rel.Even = append(r.rel.Even, Even{a, blocks})
	}
}

func (r *relating) derived(a Axis, ok bool) {
	if ok {
		r.mentioned[a] = true
		r.rel.Derived = append(r.rel.Derived, a)
	}
}

func (r *relating) statistic(a Axis, ok bool) {
	if ok {
		r.rel.Statistics = append(r.rel.Statistics, a)
	}
}

func (r *relating) heads(a Axis, ok bool) {
	if ok {
		r.rel.Heads = append(r.rel.Heads, a)
	}
}

// length returns the size of an axis where it is a number.
func (r *relating) length(a Axis) (int, bool) {
	s := r.f.Shape(a.Value)
	if a.Axis >= len(s) || !s[a.Axis].Known() || s[a.Axis].Value > 1<<24 {
		return 0, false
	}
	return int(s[a.Axis].Value), true
}

// aligned ties the axes of v to those of w, both counted from the end, where v
// is broadcast to w.
func (r *relating) aligned(v, w *onnx.Value) {
	if v == nil || w == nil {
		return
	}
	a, b := r.f.Shape(v), r.f.Shape(w)
	for i := range a {
		j := i + len(b) - len(a)
		if j < 0 || a[i].Known() && a[i].Value == 1 && !(b[j].Known() && b[j].Value == 1) {
			r.free(Axis{v, i}, true)
			continue
		}
		r.tie(Axis{v, i}, true, Axis{w, j}, true)
	}
}

// passes ties every axis of input i to the same axis of output o, but for some.
func (r *relating) passes(i, o int, except ...int) {
	for a := range r.shape(i) {
		if !slices.Contains(except, a) {
			r.link(i, a, o, a)
		}
	}
}

// relateBroadcast is for operators that work element by element with
// right-aligned broadcasting.
func relateBroadcast(r *relating) {
	if r.n.Int("broadcast", 0) != 0 || len(r.n.Outputs()) == 0 {
		r.unknown = true // left-aligned, before opset 7
		return
	}
	for _, v := range r.n.Inputs() {
		r.aligned(v, r.n.Output(0))
	}
}

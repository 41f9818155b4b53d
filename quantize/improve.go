package quantize

import (
	"cmp"
	"container/heap"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// leastSaving is what leaving something out must save, in seconds: sums of times are
// not exact.
const leastSaving = 1e-12

// chooser leaves out of a plan what does not pay.
type chooser struct {
	k      *cascade
	c      *costs
	factor float64 // by which int8 must be faster
	at     map[*onnx.Node]int
	left   []*onnx.Node // out, in the order in which they went
}

// improve leaves out what does not pay: nodes that hang together where that is
// better than any single one of them, and single anchors, the one that saves most
// first, until nothing saves time. Int8 must be worth it by a factor: its times
// count that much more. It reports whether it left anything out; the plan's reasons
// say why.
func (p *plan) improve(c *costs, factor float64) bool {
	x := &chooser{k: newCascade(p), c: c, factor: factor, at: map[*onnx.Node]int{}}
	for n := range p.nodes() {
		x.at[n] = len(x.at)
	}
	for x.parts() || x.singles() {
	}
	for _, n := range x.left {
		p.reasons[n] = "int8 does not pay here" + c.reason(n)
	}
	return len(x.left) > 0
}

// gain returns what taking nodes out saves.
func (x *chooser) gain(list []*onnx.Node) float64 {
	gone := x.k.remove(slices.Clone(list), map[*onnx.Node]string{})
	after := x.cost(gone)
	x.k.restore(gone)
	return x.cost(gone) - after
}

// out takes nodes out for good, and returns all that went.
func (x *chooser) out(list []*onnx.Node) []*onnx.Node {
	gone := x.k.remove(slices.Clone(list), map[*onnx.Node]string{})
	x.left = append(x.left, gone...)
	return gone
}

// cost is what nodes take as they are now, with crossing over at the values around them.
func (x *chooser) cost(list []*onnx.Node) float64 {
	sum, seen := 0.0, map[*onnx.Value]bool{}
	for _, n := range list {
		if t, ok := x.c.nodes[n]; ok && x.k.p.chosen[n] {
			sum += t.Int8 * x.factor
		} else if ok {
			sum += t.Float
		}
		for _, v := range append(slices.Clone(n.Inputs()), n.Output(0)) {
			if v != nil && !seen[v] {
				seen[v] = true
				sum += x.crossing(v)
			}
		}
	}
	return sum
}

// crossing is what coding v, or taking its codes back, costs as the plan is now.
func (x *chooser) crossing(v *onnx.Value) float64 {
	q, ok := x.c.quantize[v]
	if !ok {
		return 0
	}
	r := x.k.of(v)
	coded, floating := r.coded > 0, r.floating > 0 || v.IsOutput()
	switch made := x.k.p.chosen[v.Producer()]; {
	case !made && coded:
		return q * x.factor
	case made && floating && place(v.Producer()) != anchor:
		return x.c.restore[v] * x.factor
	case made && floating && v.Producer().Is("Conv"):
		return x.c.restore[v] * x.factor // the products give float32 themselves
	case made && floating && coded:
		return q * x.factor
	}
	return 0
}

// parts takes out nodes that hang together where that saves more than any anchor of them alone.
func (x *chooser) parts() (changed bool) {
	for _, part := range x.k.p.together() {
		all := x.gain(part)
		if all <= leastSaving {
			continue
		}
		single := slices.ContainsFunc(part, func(n *onnx.Node) bool {
			return place(n) == anchor && x.gain([]*onnx.Node{n}) >= all
		})
		if !single {
			x.out(part)
			changed = true
		}
	}
	return changed
}

// singles takes out anchors as long as that saves anything. What is near to one that
// went is looked at again.
func (x *chooser) singles() (changed bool) {
	q := &savings{}
	look := func(n *onnx.Node) {
		if g := x.gain([]*onnx.Node{n}); g > leastSaving {
			heap.Push(q, saving{n, g, x.at[n]})
		}
	}
	for n := range x.k.p.nodes() {
		if x.k.p.chosen[n] && place(n) == anchor {
			look(n)
		}
	}
	for q.Len() > 0 {
		s := heap.Pop(q).(saving)
		if !x.k.p.chosen[s.n] {
			continue
		}
		if g := x.gain([]*onnx.Node{s.n}); g != s.gain {
			if g > leastSaving { // in another order, once what it depends on is settled
				heap.Push(q, saving{s.n, g, s.at})
			}
			continue
		}
		changed = true
		for _, n := range x.near(x.out([]*onnx.Node{s.n})) {
			look(n)
		}
	}
	return changed
}

// nearby bounds how many nodes around one that went are looked at again at once.
const nearby = 32

// near returns chosen anchors around nodes, through followers.
func (x *chooser) near(gone []*onnx.Node) (out []*onnx.Node) {
	seen := map[*onnx.Node]bool{}
	work := slices.Clone(gone)
	add := func(n *onnx.Node) {
		if n != nil && len(seen) < nearby && !seen[n] && x.k.p.chosen[n] {
			seen[n] = true
			work = append(work, n)
		}
	}
	for i := 0; i < len(work); i++ {
		n := work[i]
		if place(n) == anchor && x.k.p.chosen[n] {
			out = append(out, n)
			continue
		}
		for _, v := range append(slices.Clone(n.Inputs()), n.Output(0)) {
			if v == nil {
				continue
			}
			add(v.Producer())
			for _, u := range v.Uses()[:min(len(v.Uses()), nearby)] {
				add(u.Node)
			}
		}
	}
	return out
}

// saving is what leaving out an anchor saves; at is its place in the model.
type saving struct {
	n    *onnx.Node
	gain float64
	at   int
}

// savings is a heap, the largest gain on top, the first in the model among equals.
type savings []saving

func (s savings) Len() int { return len(s) }

func (s savings) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(s[j].gain, s[i].gain), cmp.Compare(s[i].at, s[j].at)) < 0
}

func (s savings) Swap(i, j int) { s[i], s[j] = s[j], s[i] }

// Push and Pop are what package heap needs.
func (s *savings) Push(x any) { *s = append(*s, x.(saving)) }

// Pop takes the last one off.
func (s *savings) Pop() any {
	last := len(*s) - 1
	x := (*s)[last]
	*s = (*s)[:last]
	return x
}

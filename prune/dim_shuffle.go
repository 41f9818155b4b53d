package prune

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// shuffle is a Reshape, a Transpose and a Reshape that together permute the
// positions of one axis, such as the channel shuffle of ShuffleNet (Zhang et al.,
// 2018): position j of to is position index[j] of from. What is between them has
// no axis that could lose positions by itself; a shuffle that loses some becomes
// one Gather.
//
// The same three with an InstanceNormalization in place of the Transpose are how
// exporters spell GroupNormalization: the channels stay in their places, and each
// group must keep as many.
type shuffle struct {
	nodes    [3]*onnx.Node
	from, to opset.Axis
	index    []int // nil: every position is where it was
	groups   int   // of a normalization; 0: none
}

// findShuffles records the channel shuffles of the model by their last node.
func (d *dims) findShuffles() {
	for n := range d.nodes() {
		s := d.shuffleAt(n)
		if s == nil {
			s = d.groupNormAt(n)
		}
		if s != nil {
			d.shuffles[n] = s
		}
	}
}

// inShuffle reports whether n is part of a channel shuffle.
func (d *dims) inShuffle(n *onnx.Node) bool {
	for range 3 {
		if n == nil {
			return false
		}
		if d.shuffles[n] != nil {
			return true
		}
		n = onlyReader(n)
	}
	return false
}

// hidden reports whether v is between the nodes of a channel shuffle.
func (d *dims) hidden(v *onnx.Value) bool {
	if v.IsOutput() || len(v.Uses()) != 1 || v.Producer() == nil || !d.inShuffle(v.Producer()) {
		return false
	}
	return d.shuffles[v.Producer()] == nil
}

// onlyReader returns the node that alone reads n's output, nil if there is none.
func onlyReader(n *onnx.Node) *onnx.Node {
	v := n.Output(0)
	if v == nil || v.IsOutput() || len(v.Uses()) != 1 || v.Uses()[0].Index != 0 || v.Uses()[0].Node.Graph() != n.Graph() {
		return nil
	}
	return v.Uses()[0].Node
}

// shuffleAt returns the shuffle that ends with n.
func (d *dims) shuffleAt(n *onnx.Node) *shuffle {
	if !n.Is("Reshape") {
		return nil
	}
	t := n.Input(0).Producer()
	if t == nil || !t.Is("Transpose") || onlyReader(t) != n {
		return nil
	}
	first := t.Input(0).Producer()
	if first == nil || !first.Is("Reshape") || onlyReader(first) != t {
		return nil
	}
	from, mid, to := d.facts.Shape(first.Input(0)), d.facts.Shape(first.Output(0)), d.facts.Shape(n.Output(0))
	at, parts := splitAxis(from, mid)
	if parts < 2 || len(to) != len(from) {
		return nil
	}
	perm := t.Ints("perm", nil)
	if len(perm) != len(mid) {
		return nil
	}
	seen := make([]bool, len(perm))
	for i, p := range perm {
		if in := i >= at && i < at+parts; !in && p != int64(i) || p < 0 || int(p) >= len(perm) || seen[p] {
			return nil
		}
		seen[p] = true
	}
	for i := range to {
		if !to[i].Same(from[i]) && to[i].Known() {
			return nil
		}
	}
	return &shuffle{nodes: [3]*onnx.Node{first, t, n}, from: opset.Axis{Value: first.Input(0), Axis: at}, to: opset.Axis{Value: n.Output(0), Axis: at},
		index: permuted(mid[at:at+parts], perm[at:at+parts], at)}
}

// groupNormAt returns the normalization of groups that ends with n.
func (d *dims) groupNormAt(n *onnx.Node) *shuffle {
	if !n.Is("Reshape") {
		return nil
	}
	norm := n.Input(0).Producer()
	if norm == nil || !norm.Is("InstanceNormalization") || onlyReader(norm) != n {
		return nil
	}
	first := norm.Input(0).Producer()
	if first == nil || !first.Is("Reshape") || onlyReader(first) != norm {
		return nil
	}
	from, mid, to := d.facts.Shape(first.Input(0)), d.facts.Shape(first.Output(0)), d.facts.Shape(n.Output(0))
	if len(from) < 3 || len(to) != len(from) || len(mid) != 3 || !from[1].Known() || !mid[1].Known() || mid[1].Value <= 0 ||
		from[1].Value%mid[1].Value != 0 || !to[1].Same(from[1]) {
		return nil
	}
	return &shuffle{nodes: [3]*onnx.Node{first, norm, n}, from: opset.Axis{Value: first.Input(0), Axis: 1}, to: opset.Axis{Value: n.Output(0), Axis: 1},
		groups: int(mid[1].Value)}
}

// tieShuffle ties what goes in with what comes out.
func (d *dims) tieShuffle(n *onnx.Node, s *shuffle) {
	d.tie(n, opset.Tie{From: s.from, To: s.to, Index: s.index})
	d.tieOthers(n, s)
	if s.groups == 0 {
		return
	}
	for _, v := range s.nodes[1].Inputs()[1:] {
		if v != nil {
			d.pinValue(v, pin{s.nodes[1], "has one for each group"})
		}
	}
	at, ok := d.index[s.from]
	if !ok {
		return
	}
	d.even = append(d.even, even{at, s.groups})
	d.statistics[at] = s.nodes[1]
}

// splitAxis returns the one axis of from that is several in to, and how many.
func splitAxis(from, to onnx.Shape) (at, parts int) {
	parts = len(to) - len(from) + 1
	if parts < 2 {
		return 0, 0
	}
	for at < len(from) && from[at].Same(to[at]) {
		at++
	}
	if at == len(from) || !from[at].Known() || from[at].Value > maxAxis {
		return 0, 0
	}
	product := int64(1)
	for _, x := range to[at : at+parts] {
		if !x.Known() || x.Value <= 0 {
			return 0, 0
		}
		product *= x.Value
	}
	for i := at + 1; i < len(from); i++ {
		if to[i+parts-1].Known() && !from[i].Same(to[i+parts-1]) {
			return 0, 0
		}
	}
	if product != from[at].Value {
		return 0, 0
	}
	return at, parts
}

// permuted returns, for a block of the given sizes whose axes are permuted, which
// element of the block comes at each place.
func permuted(sizes onnx.Shape, perm []int64, first int) []int {
	total := 1
	strides := make([]int, len(sizes))
	for i := len(sizes) - 1; i >= 0; i-- {
		strides[i] = total
		total *= int(sizes[i].Value)
	}
	out := make([]int, total)
	for j := range out {
		rest, at := j, 0
		for i := len(perm) - 1; i >= 0; i-- {
			a := int(perm[i]) - first
			at += rest % int(sizes[a].Value) * strides[a]
			rest /= int(sizes[a].Value)
		}
		out[j] = at
	}
	return out
}

// tieOthers ties the axes of a shuffle's input and output that it leaves alone.
func (d *dims) tieOthers(n *onnx.Node, s *shuffle) {
	for i := range d.facts.Shape(s.from.Value) {
		if i != s.from.Axis {
			d.tie(n, opset.Tie{From: opset.Axis{Value: s.from.Value, Axis: i}, To: opset.Axis{Value: s.to.Value, Axis: i}})
		}
	}
}

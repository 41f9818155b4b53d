package fuse

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// convShuffle: the order in which a Conv gets its channels is that of its
// filters. Shuffling in groups is from ShuffleNet (Zhang and others,
// arXiv:1707.01083).
var convShuffle = rewrite.Rule{
	Name: "conv-shuffle", Doc: "puts the filters of Conv in another order instead of the channels that it reads",
	Pattern: "Conv(x, w, ?b)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		from, order, err := shuffled(m, m.Value("x"))
		if err != nil {
			return err
		}
		w, err := constant(m.Value("w"), "the weights")
		if err != nil {
			return err
		}
		if m.Root.Int("group", 1) != 1 || len(w.Shape) < 3 || w.Shape[1] != int64(len(order)) {
			return rewrite.Decline("the weights have shape %v in %d groups", w.Shape, m.Root.Int("group", 1))
		}
		t, err := reordered(w, order)
		if err != nil {
			return err
		}
		p.Swap(m.Root.Output(0), p.Add("Conv", []*onnx.Value{from, p.Const(t), m.Value("b")}, m.Root.Attrs...))
		return nil
	},
}

// shuffled returns of which value v has the channels in another order, and for
// each channel of v which one it was; ErrNotHere where it is not made so.
func shuffled(m *rewrite.Match, v *onnx.Value) (*onnx.Value, []int64, error) {
	if g := producerOf(v, "Gather"); g != nil {
		return gathered(m, g)
	}
	last := producerOf(v, "Reshape")
	if last == nil {
		return nil, nil, rewrite.ErrNotHere
	}
	turn := producerOf(last.Input(0), "Transpose")
	if turn == nil || producerOf(turn.Input(0), "Reshape") == nil {
		return nil, nil, rewrite.ErrNotHere
	}
	from := turn.Input(0).Producer().Input(0)
	whole, parts := m.Facts.Shape(from), m.Facts.Shape(turn.Input(0))
	perm, err := permOf(m, turn)
	if err != nil {
		return nil, nil, err
	}
	if len(whole) < 3 || !whole.Equal(m.Facts.Shape(v)) || len(parts) != len(whole)+1 || !parts[1].Known() || !parts[2].Known() ||
		!whole[1].Known() || parts[1].Value*parts[2].Value != whole[1].Value || !parts[0].Same(whole[0]) || !parts[3:].Equal(whole[2:]) {
		return nil, nil, rewrite.Decline("from %v to %v it does not split the channels of an image", whole, parts)
	}
	want := []int64{0, 2, 1}
	for i := 3; i < len(parts); i++ {
		want = append(want, int64(i))
	}
	if !slices.Equal(perm, want) {
		return nil, nil, rewrite.Decline("the order of axes is %v", perm)
	}
	if err := readOnce(v, last.Input(0), turn.Input(0)); err != nil {
		return nil, nil, err
	}
	groups, each := parts[1].Value, parts[2].Value
	var order []int64
	for k := range each {
		for g := range groups {
			order = append(order, g*each+k)
		}
	}
	return from, order, nil
}

// gathered reads a Gather of all channels once each.
func gathered(m *rewrite.Match, g *onnx.Node) (*onnx.Value, []int64, error) {
	order, ok := knownInts(m.Facts, g.Input(1))
	shape := m.Facts.Shape(g.Input(0))
	axis, err := axisAttr(m, g, g.Input(0), 0)
	if !ok || err != nil || axis != 1 || len(shape) < 3 || !shape[1].Known() || shape[1].Value != int64(len(order)) || len(m.Facts.Shape(g.Input(1))) != 1 {
		return nil, nil, rewrite.ErrNotHere
	}
	order = slices.Clone(order)
	for i := range order {
		if order[i] < 0 {
			order[i] += shape[1].Value
		}
	}
	if !isPerm(order) {
		return nil, nil, rewrite.Decline("%v does not take each channel once", g)
	}
	return g.Input(0), order, readOnce(g.Output(0))
}

// readOnce declines where one of the values has other readers.
func readOnce(list ...*onnx.Value) error {
	for _, v := range list {
		if v.IsOutput() || len(v.Uses()) != 1 {
			return rewrite.Decline("%q is read elsewhere too", v.Name())
		}
	}
	return nil
}

// reordered returns w [M, C, …] with the filters for what was channel order[c]
// instead of channel c.
func reordered(w *onnx.Tensor, order []int64) (*onnx.Tensor, error) {
	in, err := w.Bytes()
	if err != nil {
		return nil, err
	}
	outer := int(w.Shape[0]) * len(order)
	if outer == 0 || len(in)%outer != 0 || w.DType.Bits()%8 != 0 {
		return nil, rewrite.Decline("the weights are %v %v", w.DType, w.Shape)
	}
	size := len(in) / outer
	out := make([]byte, len(in))
	for o := range int(w.Shape[0]) {
		for c, from := range order {
			to := o*len(order) + int(from)
			at := o*len(order) + c
			copy(out[to*size:(to+1)*size], in[at*size:(at+1)*size])
		}
	}
	return onnx.NewTensor(w.Name, w.DType, slices.Clone(w.Shape), out)
}

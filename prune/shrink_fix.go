package prune

import (
	"fmt"
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// fixers are the operators that say sizes or positions in attributes or constants.
var fixers = map[string]func(*shrinker, *onnx.Node) error{
	"Conv": (*shrinker).fixConv, "FusedConv": (*shrinker).fixConv, "ConvTranspose": (*shrinker).fixConvTranspose,
	"Reshape": (*shrinker).fixReshape, "Split": (*shrinker).fixSplit, "Slice": (*shrinker).fixSlice, "Gather": (*shrinker).fixGather,
	"Expand": (*shrinker).fixExpand, "ConstantOfShape": (*shrinker).fixFill, "Resize": (*shrinker).fixResize,
	"LSTM": (*shrinker).fixRecurrent, "GRU": (*shrinker).fixRecurrent, "RNN": (*shrinker).fixRecurrent,
	"RMSNormalization": (*shrinker).fixRMS, "SimplifiedLayerNormalization": (*shrinker).fixRMS, "SkipSimplifiedLayerNormalization": (*shrinker).fixRMS,
	"MultiHeadAttention": (*shrinker).fixHeads, "GroupQueryAttention": (*shrinker).fixHeads, "Attention": (*shrinker).fixHeads,
	"RotaryEmbedding": (*shrinker).fixHeads,
}

// touches reports whether an input or output of n loses positions.
func (s *shrinker) touches(n *onnx.Node) bool {
	return slices.ContainsFunc(n.Inputs(), s.loses) || slices.ContainsFunc(n.Outputs(), s.loses)
}

// fixShuffle makes a channel shuffle that loses channels one Gather, and renews the
// shapes of a normalization of groups.
func (s *shrinker) fixShuffle(n *onnx.Node, sh *shuffle) error {
	in, loses := s.of(sh.from.Value, sh.from.Axis)
	switch {
	case !loses:
		return nil
	case sh.groups > 0:
		s.setShape(sh.nodes[0], 1, []int64{0, int64(sh.groups), -1})
		return s.fixReshape(n)
	}
	out, _ := s.of(sh.to.Value, sh.to.Axis)
	place := places(in)
	index := make([]int64, len(out))
	for i, j := range out {
		index[i] = int64(place[sh.index[j]])
	}
	g := n.Graph()
	c := g.NewConst(onnx.FromInts(s.d.model.Fresh("order"), []int64{int64(len(index))}, index))
	gather := onnx.NewNode("Gather", []*onnx.Value{sh.from.Value, c}, s.d.model.Fresh(n.Output(0).Name()))
	gather.Name = n.Name
	gather.SetAttr(onnx.IntAttr("axis", int64(sh.from.Axis)))
	g.InsertBefore(gather, n)
	return g.Replace(n.Output(0), gather.Output(0))
}

// places returns where each kept position comes to be.
func places(keep []int) map[int]int {
	out := make(map[int]int, len(keep))
	for i, k := range keep {
		out[k] = i
	}
	return out
}

// fixConv renews the number of groups of a depthwise convolution, and the input
// channels of a grouped one.
func (s *shrinker) fixConv(n *onnx.Node) error {
	group := int(n.Int("group", 1))
	keep, loses := s.of(n.Input(0), 1)
	if group == 1 || !loses {
		return nil
	}
	channels := s.size(n.Input(0), 1)
	if group == channels {
		n.SetAttr(onnx.IntAttr("group", int64(len(keep))))
		return nil
	}
	w := n.Input(1).Constant()
	if w == nil || len(n.Input(1).Uses()) > 1 {
		return &mismatch{n, "the weights of a grouped convolution are shared or not constant"}
	}
	per := channels / group
	rows := int(w.Shape[0]) / group
	blocks := make([][]int, group)
	for _, k := range keep {
		blocks[k/per] = append(blocks[k/per], k%per)
	}
	t, err := rowwise(w, func(row int) []int { return blocks[row/rows] })
	if err != nil {
		return err
	}
	n.Input(1).SetConst(t)
	return nil
}

func (s *shrinker) fixConvTranspose(n *onnx.Node) error {
	keep, loses := s.of(n.Input(0), 1)
	if g := n.Int("group", 1); g > 1 && loses {
		n.SetAttr(onnx.IntAttr("group", int64(len(keep))))
	}
	return nil
}

// size returns what an axis had before.
func (s *shrinker) size(v *onnx.Value, axis int) int {
	d := s.d.facts.Shape(v)
	if axis >= len(d) {
		return 0
	}
	return int(d[axis].Value)
}

// fixReshape renews the target of a Reshape: a number where the size is one, 0
// where the axis is copied from the same place, -1 for one other.
func (s *shrinker) fixReshape(n *onnx.Node) error {
	out, in := s.d.facts.Shape(n.Output(0)), s.d.facts.Shape(n.Input(0))
	if !s.loses(n.Output(0)) {
		return nil
	}
	old, _ := s.d.facts.Ints(n.Input(1))
	target, unknown := make([]int64, len(out)), 0
	for i, d := range out {
		keep, loses := s.of(n.Output(0), i)
		switch {
		case i < len(old) && old[i].Known && old[i].Value <= 0:
			target[i] = old[i].Value
		case loses:
			target[i] = int64(len(keep))
		case d.Known():
			target[i] = d.Value
		case n.Int("allowzero", 0) == 0 && i < len(in) && in[i].Same(d):
			target[i] = 0
		default:
			target[i] = -1
		}
		if target[i] < 0 {
			unknown++
		}
	}
	if unknown > 1 {
		return s.patchShape(n, 1)
	}
	s.setShape(n, 1, target)
	return nil
}

// setShape gives input i of n a constant of its own.
func (s *shrinker) setShape(n *onnx.Node, i int, list []int64) {
	name := "shape"
	if v := n.Input(i); v != nil {
		name = v.Name()
	}
	n.SetInput(i, n.Graph().NewConst(onnx.FromInts(s.d.model.Fresh(name), []int64{int64(len(list))}, list)))
}

// patchShape renews, in a shape that a Concat puts together, the parts that name
// an axis of n's output that loses positions.
func (s *shrinker) patchShape(n *onnx.Node, input int) error {
	c := n.Input(input).Producer()
	elems, _ := s.d.facts.Ints(n.Input(input))
	if c == nil || !c.Is("Concat") || len(elems) != len(s.d.facts.Shape(n.Output(0))) {
		return &mismatch{n, "its shape is computed and cannot be renewed"}
	}
	own := onnx.CloneNodeInto(c, c.Inputs(), []string{s.d.model.Fresh(c.Output(0).Name())}, nil)
	at := 0
	for k, v := range c.Inputs() {
		size := s.size(v, 0)
		part, changed, known := make([]int64, size), false, true
		for j := range part {
			keep, loses := s.of(n.Output(0), at+j)
			known = known && elems[at+j].Known
			part[j] = elems[at+j].Value
			if loses {
				changed, part[j] = true, int64(len(keep))
			}
		}
		at += size
		switch {
		case changed && !known:
			return &mismatch{n, "its shape is computed and cannot be renewed"}
		case changed:
			own.SetInput(k, n.Graph().NewConst(onnx.FromInts(s.d.model.Fresh(v.Name()), []int64{int64(size)}, part)))
		}
	}
	n.Graph().InsertBefore(own, n)
	n.SetInput(input, own.Output(0))
	return nil
}

// fixExpand renews the target of an Expand: 1 where the axis keeps the input's size.
func (s *shrinker) fixExpand(n *onnx.Node) error {
	out, in := s.d.facts.Shape(n.Output(0)), s.d.facts.Shape(n.Input(0))
	if !s.loses(n.Output(0)) {
		return nil
	}
	target := make([]int64, len(out))
	for o, d := range out {
		i := o - len(out) + len(in)
		keep, loses := s.of(n.Output(0), o)
		switch {
		case i >= 0 && in[i].Same(d):
			target[o] = 1
		case loses:
			target[o] = int64(len(keep))
		case d.Known():
			target[o] = d.Value
		default:
			return s.patchShape(n, 1)
		}
	}
	s.setShape(n, 1, target)
	return nil
}

// fixFill renews the shape of a ConstantOfShape.
func (s *shrinker) fixFill(n *onnx.Node) error {
	out := s.d.facts.Shape(n.Output(0))
	target := make([]int64, len(out))
	for i, d := range out {
		keep, loses := s.of(n.Output(0), i)
		switch {
		case loses:
			target[i] = int64(len(keep))
		case d.Known():
			target[i] = d.Value
		default:
			return s.patchShape(n, 0)
		}
	}
	s.setShape(n, 0, target)
	return nil
}

// fixResize renews constant sizes, which name every axis.
func (s *shrinker) fixResize(n *onnx.Node) error {
	sizes := n.Input(3).Constant()
	if sizes == nil || n.Attr("axes") != nil {
		return nil
	}
	list, err := sizes.Ints()
	if err != nil || len(list) == 0 {
		return err
	}
	list = slices.Clone(list)
	for i := range list {
		if keep, loses := s.of(n.Output(0), i); loses {
			list[i] = int64(len(keep))
		}
	}
	s.setShape(n, 3, list)
	return nil
}

// fixSplit says the sizes of the parts.
func (s *shrinker) fixSplit(n *onnx.Node) error {
	axis := s.axis(n, n.Input(0), 0)
	sizes := make([]int64, len(n.Outputs()))
	for i, v := range n.Outputs() {
		sizes[i] = int64(s.size(v, axis))
		if keep, loses := s.of(v, axis); loses {
			sizes[i] = int64(len(keep))
		}
	}
	n.DeleteAttr("num_outputs")
	if n.OpsetVersion("") < 13 {
		n.SetAttr(onnx.IntsAttr("split", sizes...))
		return nil
	}
	s.setShape(n, 1, sizes)
	return nil
}

// axis returns the axis attribute of n, counted from the front.
func (s *shrinker) axis(n *onnx.Node, v *onnx.Value, def int64) int {
	a := int(n.Int("axis", def))
	if a < 0 {
		a += len(s.d.facts.Shape(v))
	}
	return a
}

// fixGather renews constant indices into an axis that loses positions.
func (s *shrinker) fixGather(n *onnx.Node) error {
	axis := s.axis(n, n.Input(0), 0)
	keep, loses := s.of(n.Input(0), axis)
	t := n.Input(1).Constant()
	if !loses || t == nil {
		return nil
	}
	list, err := t.Ints()
	if err != nil {
		return err
	}
	place := places(keep)
	var index []int64
	for _, j := range list {
		if j < 0 {
			j += int64(s.size(n.Input(0), axis))
		}
		if k, stays := place[int(j)]; stays {
			index = append(index, int64(k))
		}
	}
	shape := slices.Clone(t.Shape)
	if len(shape) == 1 {
		shape[0] = int64(len(index))
	}
	c := onnx.FromInts(s.d.model.Fresh(n.Input(1).Name()), shape, index)
	n.SetInput(1, n.Graph().NewConst(c))
	return nil
}

// fixSlice renews starts and ends along axes that lose positions.
func (s *shrinker) fixSlice(n *onnx.Node) error {
	attrs := n.OpsetVersion("") < 10
	axes := s.parameter(n, attrs, "axes", 3)
	starts, ends := s.parameter(n, attrs, "starts", 1), s.parameter(n, attrs, "ends", 2)
	if axes == nil {
		for i := range max(len(starts), s.size(n.Input(1), 0)) {
			axes = append(axes, int64(i))
		}
	}
	changed := false
	for i, a := range axes {
		if a < 0 {
			a += int64(len(s.d.facts.Shape(n.Input(0))))
		}
		in, loses := s.of(n.Input(0), int(a))
		if !loses {
			continue
		}
		if starts == nil || ends == nil {
			return &mismatch{n, "it slices at places that are computed"}
		}
		lo, hi, err := s.window(n, int(a), in)
		if err != nil {
			return err
		}
		changed, starts[i], ends[i] = true, lo, hi
	}
	switch {
	case !changed:
	case attrs:
		n.SetAttr(onnx.IntsAttr("starts", starts...))
		n.SetAttr(onnx.IntsAttr("ends", ends...))
	default:
		s.setShape(n, 1, starts)
		s.setShape(n, 2, ends)
	}
	return nil
}

// parameter returns a list that is an attribute or an input, in memory that may
// be written; nil where it is absent or computed.
func (s *shrinker) parameter(n *onnx.Node, attrs bool, name string, input int) []int64 {
	if attrs {
		return slices.Clone(n.Ints(name, nil))
	}
	elems, _ := s.d.facts.Ints(n.Input(input))
	var out []int64
	for _, e := range elems {
		if !e.Known {
			return nil
		}
		out = append(out, e.Value)
	}
	return out
}

// window returns where what a Slice keeps along an axis now starts and ends.
func (s *shrinker) window(n *onnx.Node, axis int, in []int) (lo, hi int64, err error) {
	for _, t := range s.d.facts.Relations(n).Ties {
		if t.From.Value != n.Input(0) || t.From.Axis != axis || t.To.Value != n.Output(0) {
			continue
		}
		place, last := places(in), -1
		for _, i := range t.Index {
			k, stays := place[i]
			switch {
			case !stays:
				continue
			case last < 0:
				lo = int64(k)
			case k != last+1:
				return 0, 0, &mismatch{n, "what it takes is no longer evenly spaced"}
			}
			last = k
		}
		return lo, int64(last + 1), nil
	}
	return 0, 0, &mismatch{n, "its positions are not known"}
}

func (s *shrinker) fixRecurrent(n *onnx.Node) error {
	if keep, loses := s.of(n.Input(2), 2); loses {
		n.SetAttr(onnx.IntAttr("hidden_size", int64(len(keep))))
	}
	return nil
}

// fixRMS keeps a root mean square what it was where the channels that go are zero:
// over k of n channels it is √(n/k) times as large, so the scale grows by that,
// and epsilon by n/k.
func (s *shrinker) fixRMS(n *onnx.Node) error {
	rank := len(s.d.facts.Shape(n.Input(0)))
	keep, loses := s.of(n.Input(0), rank-1)
	slot := 1
	eps := float32(1e-5)
	if n.Op == "SkipSimplifiedLayerNormalization" {
		slot, eps = 2, 1e-12
	}
	scale := n.Input(slot).Constant()
	if !loses || scale == nil || len(n.Input(slot).Uses()) > 1 {
		return nil
	}
	ratio := float64(s.size(n.Input(0), rank-1)) / float64(len(keep))
	values, err := scale.Float64s()
	if err != nil {
		return err
	}
	values = slices.Clone(values)
	for i := range values {
		values[i] *= math.Sqrt(ratio)
	}
	t, err := onnx.FromFloat64s(scale.Name, scale.DType, scale.Shape, values)
	if err != nil {
		return err
	}
	n.SetAttr(onnx.FloatAttr("epsilon", float32(float64(n.Float("epsilon", eps))*ratio)))
	n.Input(slot).SetConst(t)
	return nil
}

// fixHeads renews the numbers of heads.
func (s *shrinker) fixHeads(n *onnx.Node) error {
	count := func(attr string, v *onnx.Value) error {
		heads := n.Int(attr, 0)
		axis := len(s.d.facts.Shape(v)) - 1
		keep, loses := s.of(v, axis)
		if heads <= 0 || !loses {
			return nil
		}
		left := int64(len(keep)) * heads
		if left%int64(s.size(v, axis)) != 0 {
			return &mismatch{n, fmt.Sprintf("%d positions are no whole number of heads", len(keep))}
		}
		n.SetAttr(onnx.IntAttr(attr, left/int64(s.size(v, axis))))
		return nil
	}
	query, key := n.Input(0), n.Input(1)
	if n.Op == "Attention" && onnx.NormalDomain(n.Domain) != "" {
		query, key = n.Output(0), nil
		if sizes := n.Ints("qkv_hidden_sizes", nil); len(sizes) == 3 {
			if keep, loses := s.of(query, 2); loses {
				n.SetAttr(onnx.IntsAttr("qkv_hidden_sizes", slices.Repeat([]int64{int64(len(keep))}, 3)...))
			}
		}
	}
	if len(s.d.facts.Shape(n.Input(0))) != 3 {
		return nil
	}
	for attr, v := range map[string]*onnx.Value{"num_heads": query, "q_num_heads": query, "kv_num_heads": key} {
		if err := count(attr, v); err != nil {
			return err
		}
	}
	return nil
}

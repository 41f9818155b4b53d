package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// folder moves an affine map into weights. It holds what one rewrite proposes.
type folder struct {
	m *rewrite.Match
	p *rewrite.Patch
	t *Target

	steps int // nodes that the walk has come to
	gone  int // affine nodes that the rewrite takes away
	added int // nodes that it puts in their place
}

// foldBackward is the Rewrite of rules whose root is an affine map behind an
// operator with weights.
func foldBackward(t *Target) func(*rewrite.Match, *rewrite.Patch) error {
	return func(m *rewrite.Match, p *rewrite.Patch) error {
		f := folder{m: m, p: p, t: t, gone: 1}
		x, a, err := affineNode(m.Root, m.Facts)
		if err != nil {
			return err
		}
		y, err := f.absorb(x, a)
		if err != nil {
			return err
		}
		if f.added > f.gone || f.added == f.gone && !m.Root.Is("BatchNormalization") {
			return rewrite.Decline("MatMul has no bias: as many nodes would be added as are taken away")
		}
		p.Swap(m.Root.Output(0), y)
		return nil
	}
}

// maxSteps bounds a walk back to weights, so that time stays linear in the size
// of the graph.
const maxSteps = 128

// absorb proposes a value equal to a of v, with a folded into the weights that
// v is made from. It goes through operators that a commutes with.
func (f *folder) absorb(v *onnx.Value, a affine) (*onnx.Value, error) {
	n := v.Producer()
	f.steps++
	switch {
	case f.steps > maxSteps:
		return nil, rewrite.Decline("there are no weights within %d nodes before it", maxSteps)
	case v.Constant() != nil:
		return f.ofConstant(v, a)
	case n == nil:
		return nil, rewrite.Decline("%q has no weights: it is an input", v.Name())
	case n.Graph() != f.m.Root.Graph():
		return nil, rewrite.Decline("%v is in an enclosing graph, which may run less often", n)
	case v.Index() != 0 || onnx.NormalDomain(n.Domain) != "":
		return nil, rewrite.Decline("%v has no weights to fold into", n)
	}
	if err := soleUse(n); err != nil {
		return nil, err
	}
	switch n.Op {
	case "Conv", "ConvTranspose":
		return f.intoConv(n, a)
	case "Gemm":
		return f.intoGemm(n, a)
	case "MatMul":
		return f.intoMatMul(n, a)
	}
	return f.through(n, a)
}

// ofConstant computes a of a constant.
func (f *folder) ofConstant(v *onnx.Value, a affine) (*onnx.Value, error) {
	t := v.Constant()
	if !isReal(t.DType) || t.Size() > f.t.growth() {
		return nil, rewrite.Decline("the constant %v is not folded into", t)
	}
	channel, err := channelAlong(t.Shape, a)
	if err != nil {
		return nil, err
	}
	x, err := t.Float64s()
	if err != nil {
		return nil, err
	}
	for i := range x {
		x[i] = x[i]*a.scale[channel(i)] + a.shift[channel(i)]
	}
	y, err := floatTensor(t.Name, t.DType, t.Shape, x)
	if err != nil {
		return nil, err
	}
	return f.p.Const(y), nil
}

// channelAlong returns which channel of a each element of a tensor belongs to.
func channelAlong(shape []int64, a affine) (func(i int) int, error) {
	if a.uniform() {
		return func(int) int { return 0 }, nil
	}
	axis := len(shape) - 1 - a.after
	if axis < 0 || shape[axis] != int64(len(a.scale)) {
		return nil, rewrite.Decline("%d channels do not fit the shape %s", len(a.scale), dims(shape))
	}
	inner := product(shape[axis+1:])
	return func(i int) int { return i / inner % len(a.scale) }, nil
}

func product(shape []int64) int {
	n := 1
	for _, d := range shape {
		n *= int(d)
	}
	return n
}

// filters describes the weights of Conv and ConvTranspose.
type filters struct {
	weight
	group   int64
	outputs int64           // channels that they make
	output  func(i int) int // output channel of element i
	inputs  int64           // channels that they read
	input   func(i int) int // input channel of element i
	outAxis int             // axis of the output channels, -1 where they are not one axis
	rank    int
}

// filtersOf describes the weights of n: [M, C/group, k...] of Conv, in which
// filter m belongs to group m/(M/group), and [C, M/group, k...] of
// ConvTranspose, whose output channel g·M/group + j is made from the input
// channels of group g.
func (f *folder) filtersOf(n *onnx.Node) (filters, error) {
	w, err := weightOf(f.m, n.Input(1))
	if err != nil {
		return filters{}, err
	}
	group := n.Int("group", 1)
	if len(w.shape) < 3 || group < 1 || w.shape[0]%group != 0 || product(w.shape) == 0 {
		if group == 1 {
			return filters{}, rewrite.Decline("the filters have shape %v", w.shape)
		}
		return filters{}, rewrite.Decline("the filters have shape %v in %d groups", w.shape, group)
	}
	inner := product(w.shape[2:])
	per, inGroup := int(w.shape[1]), int(w.shape[0]/group)
	first := func(i int) int { return i / inner / per }
	second := func(i int) int { k := i / inner; return k/per/inGroup*per + k%per }
	c := filters{weight: w, group: group, rank: len(w.shape)}
	if n.Op == "Conv" {
		c.outputs, c.output, c.outAxis = w.shape[0], first, 0
		c.inputs, c.input = w.shape[1]*group, second
		return c, nil
	}
	c.outputs, c.output, c.outAxis = w.shape[1]*group, second, -1
	if group == 1 {
		c.outAxis = 1
	}
	c.inputs, c.input = w.shape[0], first
	return c, nil
}

// intoConv scales the filters and shifts the bias of Conv or ConvTranspose.
func (f *folder) intoConv(n *onnx.Node, a affine) (*onnx.Value, error) {
	w, err := f.filtersOf(n)
	if err != nil {
		return nil, err
	}
	if a, err = a.along(w.rank-2, w.outputs); err != nil {
		return nil, err
	}
	w2, err := f.scaleWeight(w.weight, a.scale, w.outAxis, w.output)
	if err != nil {
		return nil, err
	}
	b2, err := f.foldBias(n.Input(2), w.weight, a)
	if err != nil {
		return nil, err
	}
	return f.p.Add(n.Op, []*onnx.Value{n.Input(0), w2, b2}, n.Attrs...), nil
}

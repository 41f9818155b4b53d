package quantize

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// divided returns the input of n divided by the gain of its weights.
func (p *weightsPass) divided(n *onnx.Node, b *blockwise) *onnx.Value {
	x, g, gain := n.Input(0), n.Graph(), b.op.gain
	key := scaledKey{x, &gain[0]}
	if v := p.scaled[key]; v != nil {
		return v
	}
	inverse := make([]float32, len(gain))
	for i, a := range gain {
		inverse[i] = 1 / a
	}
	c := g.NewConst(floatTensor(x.Name()+"_gain", []int64{int64(len(gain))}, inverse, b.f.dtype))
	k := onnx.NewNode("Mul", []*onnx.Value{x, c}, g.Model().Fresh(x.Name()+"_scaled"))
	k.Name = k.Output(0).Name()
	k.Output(0).Type = x.Type
	g.InsertBefore(k, n)
	p.scaled[key] = k.Output(0)
	p.divisions = append(p.divisions, k)
	return k.Output(0)
}

// fold moves divisions by a gain into the norm that computes what is divided,
// where nobody else reads that.
func (p *weightsPass) fold(e *rewrite.Env) error {
	for _, k := range p.divisions {
		x, g := k.Input(0), k.Graph()
		from := x.Producer()
		if g == nil || from == nil || x.IsOutput() || len(x.Uses()) != 1 || from.Graph() != g {
			continue
		}
		slots := scaledSlots(from, k.Input(1).Constant().Shape[0])
		if slots == nil || !e.Allow(weightsName, k) {
			continue
		}
		site := e.At(weightsName, k)
		for _, i := range slots {
			t, err := product(from.Input(i).Constant(), k.Input(1).Constant())
			if err != nil {
				return err
			}
			from.SetInput(i, g.NewConst(t))
		}
		if err := g.Replace(k.Output(0), x); err != nil {
			return err
		}
		g.SweepFrom(k)
		if err := e.Fired(weightsName, site, 1, 0, "gain folded into "+from.String()); err != nil {
			return err
		}
	}
	return nil
}

// scaledSlots returns the inputs of a node that multiply its result, or are added
// to it, column by column; nil where it has none that are constant.
func scaledSlots(n *onnx.Node, width int64) []int {
	fits := func(i int) bool {
		t := n.Input(i).Constant()
		if t == nil || len(t.Shape) == 0 || t.Shape[len(t.Shape)-1] != width {
			return false
		}
		count, _ := t.Elements()
		return count == width
	}
	switch n.Op {
	case "Mul":
		for _, i := range []int{0, 1} {
			if onnx.NormalDomain(n.Domain) == "" && fits(i) {
				return []int{i}
			}
		}
	case "LayerNormalization", "SimplifiedLayerNormalization", "RMSNormalization":
		switch {
		case !fits(1):
		case n.Input(2) == nil:
			return []int{1}
		case fits(2):
			return []int{1, 2}
		}
	}
	return nil
}

// product returns a·b, element by element, in the form of a.
func product(a, b *onnx.Tensor) (*onnx.Tensor, error) {
	x, err := a.Floats()
	if err != nil {
		return nil, err
	}
	y, err := b.Floats()
	if err != nil {
		return nil, err
	}
	for i := range x {
		x[i] *= y[i]
	}
	return floatTensor(a.Name+"_gain", a.Shape, x, a.DType), nil
}

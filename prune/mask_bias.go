package prune

import (
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// biasRule is how logs and --disable call the compensation of means.
const biasRule = "bias"

// biasPlace is where something can be added to the output of a weight's reader.
type biasPlace struct {
	reader *onnx.Node
	node   *onnx.Node // that reads the bias; nil where there is to be an Add for it
	input  int
	made   bool    // an operator is added
	gain   float64 // what is to be added to the bias for one to be added to Σ w·x
}

// biasPlaceOf returns where the outputs of the weight v are shifted, or why they
// cannot be.
func biasPlaceOf(v *onnx.Value) (p biasPlace, why string) {
	if len(v.Uses()) != 1 {
		return p, "several operators read the weights"
	}
	u := v.Uses()[0]
	n := u.Node
	p = biasPlace{reader: n, node: n, input: 2, gain: float64(n.Float("alpha", 1))}
	switch op := opName(n); op {
	case "Conv", "com.microsoft.FusedConv":
		p.gain = 1 // FusedConv's alpha is of its activation
	case "Gemm", "com.microsoft.FusedGemm":
		if p.gain /= float64(n.Float("beta", 1)); p.gain-p.gain != 0 {
			return p, "beta is 0"
		}
	case "MatMul", "com.microsoft.FusedMatMul":
		p.node, p.input = addAfter(n)
		p.made = p.node == nil
	default:
		return p, fmt.Sprintf("no bias of %s shifts what these weights give alike everywhere", n.Op)
	}
	if u.Index == 0 {
		return p, "the weights are the left operand"
	}
	if p.made || p.node.Input(p.input) == nil {
		return p, ""
	}
	t := p.node.Input(p.input).Constant()
	outputs := outputsOf(u)
	switch {
	case t == nil:
		return p, fmt.Sprintf("its bias %q is not constant", p.node.Input(p.input).Name())
	case !oneOrVector(t, outputs):
		return p, fmt.Sprintf("its bias %q has shape %v", t.Name, t.Shape)
	}
	return p, ""
}

// outputsOf returns how many outputs the weight that u reads has.
func outputsOf(u onnx.Use) int64 {
	v, ok := viewOf(u, u.Node.Input(u.Index).Constant().Shape)
	if !ok {
		return 0
	}
	return int64(v.rows)
}

// oneOrVector reports whether t has one element, or n along its last axis.
func oneOrVector(t *onnx.Tensor, n int64) bool {
	count, _ := t.Elements()
	return len(t.Shape) <= 2 && (count == 1 || count == n && len(t.Shape) > 0 && t.Shape[len(t.Shape)-1] == n)
}

// addAfter returns the Add of a constant vector that alone reads n, and the
// constant's place; nil where there is none.
func addAfter(n *onnx.Node) (add *onnx.Node, input int) {
	y := n.Output(0)
	if len(y.Uses()) != 1 || y.IsOutput() || !y.Uses()[0].Node.Is("Add") || y.Uses()[0].Node.Graph() != n.Graph() {
		return nil, 0
	}
	u := y.Uses()[0]
	t := u.Node.Input(1 - u.Index).Constant()
	if t == nil || len(t.Shape) != 1 || t.Shape[0] != outputsOf(onnx.Use{Node: n, Index: 1}) {
		return nil, 0
	}
	return u.Node, 1 - u.Index
}

// apply adds shift, one number for each output, with constants of their own.
func (p biasPlace) apply(w *onnx.Value, shift []float64, e *rewrite.Env) error {
	site := e.At(biasRule, p.reader)
	if err := p.put(w, shift); err != nil {
		return err
	}
	if p.made {
		return e.Fired(biasRule, site, 1, 2, p.note())
	}
	return e.Fired(biasRule, site, 0, 0, p.note())
}

// put is apply without a word.
func (p biasPlace) put(w *onnx.Value, shift []float64) error {
	g := p.reader.Graph()
	add := make([]float64, len(shift))
	for i, x := range shift {
		add[i] = x * p.gain
	}
	shape := []int64{int64(len(shift))}
	name, dtype := w.Name()+"_bias", w.Constant().DType
	if !p.made && p.node.Input(p.input) != nil {
		t := p.node.Input(p.input).Constant()
		old, err := t.Float64s()
		if err != nil {
			return err
		}
		for i := range add {
			add[i] += old[i%len(old)]
		}
		if len(t.Shape) == 2 {
			shape = []int64{1, int64(len(shift))}
		}
		name, dtype = t.Name+"_shifted", t.DType
	}
	t, err := onnx.FromFloat64s(name, dtype, shape, add)
	if err != nil {
		return err
	}
	if p.made {
		return p.make(g, t)
	}
	p.node.SetInput(p.input, g.NewConst(t))
	return nil
}

// make puts an Add of t behind the reader.
func (p biasPlace) make(g *onnx.Graph, t *onnx.Tensor) error {
	n, m := p.reader, g.Model()
	out := n.Output(0)
	k := onnx.CloneNodeInto(n, n.Inputs(), []string{m.Fresh(out.Name() + "_unshifted")}, nil)
	g.InsertBefore(k, n)
	k.Output(0).Type = out.Type
	add := onnx.NewNode("Add", []*onnx.Value{k.Output(0), g.NewConst(t)}, m.Fresh(out.Name()+"_shifted"))
	add.Name = add.Output(0).Name()
	g.InsertBefore(add, n)
	add.Output(0).Type = out.Type
	if err := g.Replace(out, add.Output(0)); err != nil {
		return err
	}
	g.SweepFrom(n)
	return nil
}

func (p biasPlace) note() string {
	if p.made {
		return "the mean of what was removed is added by an operator of its own"
	}
	return "the mean of what was removed is added to the bias"
}

package quantize

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// micro is one node by itself, as a model in float32 and as one in int8 whose
// inputs and outputs are codes: what a node in the midst of others costs.
type micro struct {
	class string // nodes of one class take about the same time
	node  *onnx.Node
	facts *opset.Facts
}

// newMicro returns the node with the sizes that facts know; false where a size
// is not known. Codes of other types than usual make a class of their own.
func newMicro(n *onnx.Node, facts *opset.Facts, o *Options) (*micro, bool) {
	parts := []string{n.Op + o.CodeOptions.suffix()}
	for _, a := range n.Attrs {
		parts = append(parts, fmt.Sprintf("%s=%v%v%v%s", a.Name, a.I, a.F, a.Ints, a.S))
	}
	slices.Sort(parts[1:])
	for i, v := range n.Inputs() {
		if v == nil {
			continue
		}
		dims, ok := facts.Shape(v).Static()
		if !ok || slices.Contains(dims, 0) {
			return nil, false
		}
		kind := "x"
		if v.Constant() != nil {
			kind = "w"
		}
		parts = append(parts, fmt.Sprintf("%s%d%v", kind, i, rounded(dims, kind == "x" && place(n) == anchor && n.Is("Conv"))))
	}
	return &micro{class: strings.Join(parts, " "), node: n, facts: facts}, true
}

// rounded returns dims with sizes that differ little made the same: spatial ones
// are rounded to half octaves.
func rounded(dims []int64, image bool) []int64 {
	out := slices.Clone(dims)
	if image {
		for i := 2; i < len(out); i++ {
			out[i] = int64(math.Round(math.Exp2(math.Round(2*math.Log2(float64(out[i]))) / 2)))
		}
	}
	return out
}

// float returns the node as a model in float32.
func (c *micro) float() (*onnx.Model, error) {
	n := c.node
	m := onnx.NewModel(max(n.OpsetVersion(""), qdqOpset))
	var in []*onnx.Value
	for i, v := range n.Inputs() {
		switch {
		case v == nil:
			in = append(in, nil)
		case v.Constant() != nil:
			in = append(in, m.Graph.NewConst(v.Constant().Renamed(fmt.Sprintf("w%d", i))))
		default:
			dims, _ := c.facts.Shape(v).Static()
			in = append(in, m.Graph.AddInput(fmt.Sprintf("x%d", i), onnx.TensorType(onnx.Float, onnx.ShapeOf(dims...))))
		}
	}
	k := onnx.NewNode(n.Op, in, "y")
	k.Name, k.Attrs = "node", n.Attrs
	m.Graph.Append(k)
	k.Output(0).Type = onnx.TensorType(onnx.Float, c.facts.Shape(n.Output(0)))
	m.Graph.AddOutput(k.Output(0))
	return m, nil
}

// coded returns the node as a model from codes to codes, with weights quantized
// as the scheme does it.
func (c *micro) coded(s *static) (*onnx.Model, error) {
	m, err := c.float()
	if err != nil {
		return nil, err
	}
	g := m.Graph
	n := g.First()
	q := s.o.activations().coding(-1, 1)
	alone := newStatic(s.o)
	alone.domain = s.domain
	if s.domain != "" {
		m.ImportOpset(s.domain, 1)
	}
	p := &staticPass{s: alone, r: &outcome{}, consts: map[inGraph]*onnx.Value{}, weights: map[weightKey]*quantWeight{},
		plan: &plan{s: alone, params: map[*onnx.Value]coding{}, group: map[*onnx.Value]*onnx.Value{}, consts: map[*onnx.Value][2]*onnx.Value{}}}
	for i, v := range n.Inputs() {
		if v == nil || !activation(n, i) {
			continue
		}
		p.plan.params[v] = q
		if v.Constant() != nil {
			n.SetInput(i, p.constant(g, v))
			continue
		}
		v.Type = onnx.TensorType(q.t.dtype, v.Shape())
		scale, zero := p.plan.shared(v, q)
		dq := alone.dequantize(g, v, scale, zero, -1, v.Name())
		p.plan.params[dq] = q
		n.SetInput(i, dq)
	}
	if place(n) == anchor {
		if err := p.weight(n, &Layer{}); err != nil {
			return nil, err
		}
	}
	y := n.Output(0)
	scale, zero := p.plan.shared(y, q)
	last := alone.operator("QuantizeLinear", "codes", y, scale, zero)
	g.Append(last)
	last.Output(0).Type = onnx.TensorType(q.t.dtype, y.Shape())
	g.SetOutputs([]*onnx.Value{last.Output(0)})
	return m, nil
}

// converter returns a model that codes n numbers, or takes codes back.
func (s *static) converter(op string, n int64) *onnx.Model {
	t := s.o.activations()
	m := onnx.NewModel(qdqOpset)
	if s.domain != "" {
		m.ImportOpset(s.domain, 1)
	} else if t.wide() {
		m.ImportOpset("", wideOpset)
	}
	from, to := onnx.Float, t.dtype
	if op == "DequantizeLinear" {
		from, to = to, from
	}
	x := m.Graph.AddInput("x", onnx.TensorType(from, onnx.ShapeOf(n)))
	k := s.operator(op, "y", x, m.Graph.NewConst(onnx.FromFloats("scale", []int64{}, []float32{0.01})),
		m.Graph.NewConst(t.zeros("zero", []int64{}, t.middle())))
	m.Graph.Append(k)
	k.Output(0).Type = onnx.TensorType(to, onnx.ShapeOf(n))
	m.Graph.AddOutput(k.Output(0))
	return m
}

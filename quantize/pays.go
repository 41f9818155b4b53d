package quantize

import (
	"context"
	"fmt"
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// costs are what the nodes of one model cost in float32 and in int8, and what
// crossing from one to the other does, in seconds.
type costs struct {
	facts    *opset.Facts
	nodes    map[*onnx.Node]OpTime
	quantize map[*onnx.Value]float64 // coding the value
	restore  map[*onnx.Value]float64 // taking the codes back
}

// measureCosts times the candidates of a plan, one by one and by class.
func (p *plan) measureCosts(ctx context.Context, facts *opset.Facts, t *opTimes) (*costs, error) {
	c := &costs{facts: facts, nodes: map[*onnx.Node]OpTime{}, quantize: map[*onnx.Value]float64{}, restore: map[*onnx.Value]float64{}}
	for n := range p.nodes() {
		if !p.chosen[n] {
			continue
		}
		if err := c.measure(ctx, t, p, n); err != nil {
			return nil, err
		}
		for i, v := range n.Inputs() {
			if v != nil && v.Constant() == nil && activation(n, i) {
				if err := c.crossing(ctx, t, p.s, v); err != nil {
					return nil, err
				}
			}
		}
		if err := c.crossing(ctx, t, p.s, n.Output(0)); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// measure enters what n costs. Movers that touch no element, and Relu and Clip,
// which the operators before them take in, cost nothing either way. What cannot be measured, for a
// size that is not known or for time, is taken to be as fast either way.
func (c *costs) measure(ctx context.Context, t *opTimes, p *plan, n *onnx.Node) error {
	moves := place(n) == mover && !n.Is("MaxPool") && !n.Is("Resize") && !n.Is("Transpose")
	if moves || n.Is("Relu") || n.Is("Clip") {
		return nil
	}
	m, ok := newMicro(n, c.facts, p.s.o)
	if !ok {
		return nil
	}
	x, ok, err := t.of(ctx, m.class, func() (*onnx.Model, *onnx.Model, error) {
		a, err := m.float()
		if err != nil {
			return nil, nil, err
		}
		b, err := m.coded(p.s)
		return a, b, err
	})
	if err != nil {
		return err
	}
	if ok {
		c.nodes[n] = x
	}
	return nil
}

// crossing enters what coding v and taking its codes back costs.
func (c *costs) crossing(ctx context.Context, t *opTimes, s *static, v *onnx.Value) error {
	if _, done := c.quantize[v]; done {
		return nil
	}
	dims, ok := c.facts.Shape(v).Static()
	n, fits := onnx.ElementCount(dims)
	if !ok || !fits || n == 0 {
		c.quantize[v] = 0
		return nil
	}
	// Octaves, and between them in proportion.
	octave := int64(1) << int(math.Ceil(math.Log2(float64(n))))
	x, ok, err := t.of(ctx, fmt.Sprintf("QuantizeLinear, DequantizeLinear%s %d", s.o.CodeOptions.suffix(), octave), func() (*onnx.Model, *onnx.Model, error) {
		return s.converter("QuantizeLinear", octave), s.converter("DequantizeLinear", octave), nil
	})
	if err != nil || !ok {
		return err
	}
	share := float64(n) / float64(octave)
	c.quantize[v], c.restore[v] = x.Float*share, x.Int8*share
	return nil
}

// reason tells the times of a node, if it was measured.
func (c *costs) reason(n *onnx.Node) string {
	x, ok := c.nodes[n]
	if !ok {
		return ": what is around it stays in float32"
	}
	return fmt.Sprintf(": %.1f us in float32, %.1f us in int8, and what crossing over costs", 1e6*x.Float, 1e6*x.Int8)
}

// together lists the chosen nodes that hang together through quantized values, where
// there are several.
func (p *plan) together() [][]*onnx.Node {
	var out [][]*onnx.Node
	seen := map[*onnx.Node]bool{}
	for n := range p.nodes() {
		if !p.chosen[n] || seen[n] {
			continue
		}
		var part []*onnx.Node
		for work := []*onnx.Node{n}; len(work) > 0; {
			k := work[len(work)-1]
			work = work[:len(work)-1]
			if seen[k] {
				continue
			}
			seen[k] = true
			part = append(part, k)
			work = append(work, p.neighbours(k)...)
		}
		if len(part) > 1 {
			out = append(out, part)
		}
	}
	return out
}

// neighbours are the chosen nodes that exchange codes with n.
func (p *plan) neighbours(n *onnx.Node) []*onnx.Node {
	var out []*onnx.Node
	for i, v := range n.Inputs() {
		if v != nil && activation(n, i) && p.chosen[v.Producer()] {
			out = append(out, v.Producer())
		}
	}
	for _, u := range n.Output(0).Uses() {
		if p.chosen[u.Node] && activation(u.Node, u.Index) {
			out = append(out, u.Node)
		}
	}
	return out
}

// without returns what of before is no longer chosen, by output, with why.
func (p *plan) without(before map[*onnx.Node]bool) map[string]string {
	out := map[string]string{}
	for n := range before {
		if !p.chosen[n] {
			out[outputName(n)] = p.reasons[n]
		}
	}
	return out
}

// leave leaves out what an earlier plan for the same model found not to pay.
func (p *plan) leave(out map[string]string) {
	for n := range p.nodes() {
		if why, ok := out[outputName(n)]; ok && p.chosen[n] {
			delete(p.chosen, n)
			p.reasons[n] = why
		}
	}
	p.drop()
}

package quantize

import (
	"context"
	"fmt"
	"maps"
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

// total is what the model takes with so many nodes in int8, less what no choice
// changes. Int8 must be worth it by a factor: its times count that much more.
func (c *costs) total(p *plan, factor float64) float64 {
	var sum float64
	for n, x := range c.nodes {
		if p.chosen[n] {
			sum += x.Int8 * factor
		} else {
			sum += x.Float
		}
	}
	for v, q := range c.quantize {
		coded, floating := false, false
		for _, u := range v.Uses() {
			if p.chosen[u.Node] && activation(u.Node, u.Index) {
				coded = true
			} else {
				floating = true
			}
		}
		floating = floating || v.IsOutput()
		switch made := p.chosen[v.Producer()]; {
		case !made && coded:
			sum += q * factor
		case made && floating && place(v.Producer()) != anchor:
			sum += c.restore[v] * factor
		case made && floating && v.Producer().Is("Conv"):
			sum += c.restore[v] * factor // the products give float32 themselves
		case made && floating && coded:
			sum += q * factor
		}
	}
	return sum
}

// improve leaves out what does not pay: nodes that hang together, then single
// anchors, as long as the total falls. It reports whether it left anything out;
// the plan's reasons say why.
func (p *plan) improve(c *costs, factor float64) (changed bool) {
	best := c.total(p, factor)
	for {
		next, gain := map[*onnx.Node]bool(nil), 0.
		for _, out := range p.removals() {
			trial := &plan{m: p.m, s: p.s, facts: p.facts, chosen: maps.Clone(p.chosen), reasons: map[*onnx.Node]string{}}
			for _, n := range out {
				delete(trial.chosen, n)
			}
			for trial.drop() {
			}
			if t := c.total(trial, factor); best-t > gain*1.0000001 {
				next, gain = trial.chosen, best-t
			}
		}
		if next == nil {
			return changed
		}
		changed = true
		for n := range p.chosen {
			if !next[n] {
				p.reasons[n] = "int8 does not pay here" + c.reason(n)
			}
		}
		p.chosen, best = next, best-gain
	}
}

// reason tells the times of a node, if it was measured.
func (c *costs) reason(n *onnx.Node) string {
	x, ok := c.nodes[n]
	if !ok {
		return ": what is around it stays in float32"
	}
	return fmt.Sprintf(": %.1f us in float32, %.1f us in int8, and what crossing over costs", 1e6*x.Float, 1e6*x.Int8)
}

// removals lists what may be left out together: all anchors that hang together
// through quantized values, and each anchor.
func (p *plan) removals() [][]*onnx.Node {
	var out [][]*onnx.Node
	seen := map[*onnx.Node]bool{}
	for n := range p.nodes() {
		if !p.chosen[n] {
			continue
		}
		if place(n) == anchor {
			out = append(out, []*onnx.Node{n})
		}
		if seen[n] {
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
	for p.drop() {
	}
}

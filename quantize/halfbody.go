package quantize

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// carry moves casts out of the bodies of If, Loop and Scan: what all branches widen
// at their end the node itself gives in 16 bits, and so does it take what a body
// narrows at its start. A state does so where both ends do.
func (p *halfPass) carry(m *onnx.Model) error {
	for _, g := range slices.Backward(m.Graphs()) {
		if g.InFunction() {
			continue
		}
		for n := range g.Nodes() {
			if err := p.carryNode(n); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *halfPass) carryNode(n *onnx.Node) error {
	bodies := n.Subgraphs()
	switch {
	case n.Is("If"):
		for i, v := range n.Outputs() {
			if err := p.carryOut(v, bodies, i); err != nil {
				return err
			}
		}
	case n.Is("Loop") && len(bodies) == 1:
		return p.carryBody(n, bodies, bodyPorts{states: max(len(n.Inputs())-2, 0), input: 2, bodyIn: 2, bodyOut: 1})
	case n.Is("Scan") && len(bodies) == 1 && n.OpsetVersion("") >= 9:
		scans := int(n.Int("num_scan_inputs", 0))
		return p.carryBody(n, bodies, bodyPorts{states: max(len(n.Inputs())-scans, 0), scans: scans})
	}
	return nil
}

// bodyPorts says how the ports of a node and of its body go together: from where on
// the states stand, and how many inputs are taken apart, one piece each time.
type bodyPorts struct{ states, scans, input, bodyIn, bodyOut int }

func (p *halfPass) carryBody(n *onnx.Node, bodies []*onnx.Graph, at bodyPorts) error {
	b := bodies[0]
	for k := range at.states + at.scans {
		if n.Input(at.input+k) == nil || at.bodyIn+k >= len(b.Inputs()) || at.bodyOut+k >= len(b.Outputs()) && k < at.states {
			return nil
		}
		in := b.Inputs()[at.bodyIn+k]
		if !p.takes(in, n.Input(at.input+k)) {
			continue
		}
		if k < at.states {
			if !p.gives(b, at.bodyOut+k) {
				continue
			}
			if err := p.carryOut(n.Output(k), bodies, at.bodyOut+k); err != nil {
				return err
			}
		}
		n.SetInput(at.input+k, p.half(n.Input(at.input+k), toLargest))
		if err := p.narrowInput(in); err != nil {
			return err
		}
	}
	for i := at.states; i < len(n.Outputs()); i++ {
		if err := p.carryOut(n.Output(i), bodies, at.bodyOut+i); err != nil {
			return err
		}
	}
	return nil
}

// takes reports whether the input of a body, which gets from, may be in 16 bits: all
// that reads it narrows it, or it has no more bits.
func (p *halfPass) takes(in, from *onnx.Value) bool {
	h := p.halves[halfKey{in, toLargest}]
	if in.DType() != onnx.Float || in.IsOutput() || h == nil || h.Producer().Graph() == nil || p.dtype(from) != onnx.Float || from.Const != nil && from.Constant() == nil {
		return false
	}
	for _, u := range in.Uses() {
		if u.Node != h.Producer() {
			return p.widened(from) != nil
		}
	}
	return true
}

// gives reports whether output i of g is a widened value of g.
func (p *halfPass) gives(g *onnx.Graph, i int) bool {
	if i >= len(g.Outputs()) {
		return false
	}
	h := p.widened(g.Outputs()[i])
	return h != nil && h.Graph() == g && !h.IsOutput() && !h.IsInput()
}

// carryOut makes v, which is output i of bodies, of 16 bits where all of them give it so.
func (p *halfPass) carryOut(v *onnx.Value, bodies []*onnx.Graph, i int) error {
	for _, b := range bodies {
		if !p.gives(b, i) {
			return nil
		}
	}
	if v == nil && len(bodies) > 1 || v != nil && v.DType() != onnx.Float {
		return nil
	}
	for _, b := range bodies {
		outs := slices.Clone(b.Outputs())
		outs[i] = p.widened(outs[i])
		b.SetOutputs(outs)
	}
	if v == nil {
		return nil
	}
	return p.widen(v)
}

// narrowInput makes v, the input of a graph, of 16 bits.
func (p *halfPass) narrowInput(v *onnx.Value) error {
	g := v.Graph()
	key := halfKey{v, toLargest}
	h := p.halves[key]
	delete(p.halves, key)
	var others []onnx.Use
	for _, u := range v.Uses() {
		if h == nil || u.Node != h.Producer() {
			others = append(others, u)
		}
	}
	v.Type = onnx.TensorType(p.t.dtype, v.Shape())
	if len(others) > 0 {
		wide := castBeside(v, v.Name()+"_fp32", onnx.Float).Output(0)
		for _, u := range others {
			u.Node.SetInput(u.Index, wide)
		}
		p.halves[halfKey{wide, toLargest}] = v
	}
	if h == nil {
		return nil
	}
	if err := g.Replace(h, v); err != nil {
		return err
	}
	for k, x := range p.halves {
		if x == h {
			p.halves[k] = v
		}
	}
	g.SweepFrom(h.Producer())
	return nil
}

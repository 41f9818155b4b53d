package quantize

import (
	"iter"
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/calibrate"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// placement says what part an operator can play.
type placement int

const (
	never    placement = iota
	anchor             // has weights: worth quantizing by itself
	follower           // worth quantizing between quantized nodes
	mover              // a follower whose output has the codes of its input
)

// places lists the operators for which ONNX Runtime's CPU provider has int8
// kernels, or drops the pairs around them (its QDQ selectors). All others stay
// in floating point: pairs around them would be left over, and cost time.
var places = map[string]placement{
	"Conv": anchor, "MatMul": anchor, "Gemm": anchor,
	"Add": follower, "Mul": follower, "Concat": follower, "AveragePool": follower, "GlobalAveragePool": follower,
	"LeakyRelu": follower, "Sigmoid": follower, "Softmax": follower, "Relu": follower, "Clip": follower,
	"MaxPool": mover, "Resize": mover, "Reshape": mover, "Transpose": mover, "Squeeze": mover, "Unsqueeze": mover,
	"Flatten": mover, "Gather": mover,
}

func place(n *onnx.Node) placement {
	if onnx.NormalDomain(n.Domain) != "" {
		return never
	}
	return places[n.Op]
}

// activation reports whether input i of n is a tensor that is coded like an
// activation: not a weight, bias, shape or index.
func activation(n *onnx.Node, i int) bool {
	switch n.Op {
	case "Add", "Mul":
		return i < 2
	case "Concat":
		return true
	}
	return i == 0
}

// coding is how the elements of an activation are coded.
type coding struct {
	t      codeType
	scale  float32
	zero   int
	lo, hi float32
}

// coding returns the codes for a range.
func (t codeType) coding(lo, hi float32) coding {
	c := coding{t: t, lo: lo, hi: hi}
	c.scale, c.zero = t.params(lo, hi)
	return c
}

// shares is the coding of numbers from 0 to 1 that onnxruntime.quantization gives
// the 8-bit codes of a Softmax: 1 itself has no code.
func (t codeType) shares() coding {
	return coding{t: t, scale: 1. / 256, zero: t.min, hi: 1}
}

// plan says which nodes and which values of a model are quantized, in its main
// graph and in the bodies of If, Loop and Scan.
type plan struct {
	m         *onnx.Model
	s         *static
	facts     *opset.Facts
	chosen    map[*onnx.Node]bool
	reasons   map[*onnx.Node]string // why a candidate is not chosen
	quantized map[*onnx.Value]bool
	pulled    map[*onnx.Node]bool // Relu and Clip that vanish into their producer
	params    map[*onnx.Value]coding
	group     map[*onnx.Value]*onnx.Value // union-find: values that share their coding
	parts     map[*onnx.Value]bool        // what has the codes of the Concat that alone reads it
	consts    map[*onnx.Value][2]*onnx.Value
	branch    map[*onnx.Node]int // accelerators: of an Add, the input that reads codes
}

// newPlan takes every node that could be quantized and drops those that do not
// stand between others, until none is left to drop. [plan.settle] completes it.
func newPlan(m *onnx.Model, e *rewrite.Env, s *static) *plan {
	p := &plan{m: m, s: s, facts: e.Facts, chosen: map[*onnx.Node]bool{}, reasons: map[*onnx.Node]string{}, quantized: map[*onnx.Value]bool{},
		pulled: map[*onnx.Node]bool{}, params: map[*onnx.Value]coding{}, group: map[*onnx.Value]*onnx.Value{}, parts: map[*onnx.Value]bool{},
		consts: map[*onnx.Value][2]*onnx.Value{}}
	for n := range p.nodes() {
		if place(n) == never {
			continue
		}
		why := p.refuse(n)
		if why == "" && !e.Allow(staticName, n) {
			why = "left out"
		}
		if p.reasons[n] = why; why == "" {
			p.chosen[n] = true
		}
	}
	p.drop()
	return p
}

// takes reports whether input i of n, a chosen node, reads codes.
func (p *plan) takes(n *onnx.Node, i int) bool {
	if branch, ok := p.branch[n]; ok {
		return i == branch
	}
	return activation(n, i)
}

// selective reports whether pairs are for single readers and not for the value.
func (p *plan) selective() bool { return p.s.o.Accelerator != "" }

// nodes iterates over the nodes of all graphs whose activations can be measured,
// those of a graph before those of its bodies.
func (p *plan) nodes() iter.Seq[*onnx.Node] { return measurable(p.m) }

func measurable(m *onnx.Model) iter.Seq[*onnx.Node] {
	return func(yield func(*onnx.Node) bool) {
		for _, g := range m.Graphs() {
			if !calibrate.Measurable(g) {
				continue
			}
			for n := range g.Nodes() {
				if !yield(n) {
					return
				}
			}
		}
	}
}

// drop takes out followers that do not stand between quantized nodes.
func (p *plan) drop() {
	if p.selective() {
		p.dropShortcuts()
		return
	}
	newCascade(p).settle()
}

// clips reports whether n is a Relu or a Clip that costs nothing, whoever reads it: the codes of a convolution, which writes codes in any
// case, do what n does when they are taken of n's output.
func (p *plan) clips(n *onnx.Node) bool {
	return n.Input(0).Producer().Is("Conv") && p.removable(n)
}

// read reports whether v is read, as an activation, by chosen nodes only.
func (p *plan) read(v *onnx.Value) bool {
	if v == nil || v.IsOutput() || len(v.Uses()) == 0 {
		return false
	}
	for _, u := range v.Uses() {
		if !p.chosen[u.Node] || !activation(u.Node, u.Index) {
			return false
		}
	}
	return true
}

// settle chooses values and their codings.
func (p *plan) settle() {
	for n := range p.nodes() {
		if !p.chosen[n] {
			continue
		}
		for i, v := range n.Inputs() {
			if v != nil && p.takes(n, i) {
				p.quantized[v] = true
			}
		}
		if p.selective() {
			continue
		}
		out := n.Output(0)
		if n.Op == "Conv" || place(n) != anchor || p.read(out) {
			p.quantized[out] = true
		}
		switch {
		case place(n) == mover:
			p.join(n.Input(0), out)
		case n.Is("Concat"):
			for _, v := range n.Inputs() {
				if p.onlyPart(v, n) {
					p.join(v, out)
					p.parts[v] = true
				}
			}
		}
	}
	for n := range p.nodes() {
		if p.chosen[n] && !p.selective() && p.removable(n) {
			p.pulled[n] = true
			delete(p.quantized, n.Input(0))
		}
	}
	p.codings()
}

// onlyPart reports whether v is computed for the Concat n alone, which writes all its parts in the codes of its output: v in these codes from
// the start is rounded once instead of twice, and copied instead of coded anew. The codes of a Softmax and of a Sigmoid are fixed.
func (p *plan) onlyPart(v *onnx.Value, n *onnx.Node) bool {
	if v == nil || v.Constant() != nil || v.IsOutput() || len(v.Uses()) != 1 || v.Graph() != n.Graph() {
		return false
	}
	prod := v.Producer()
	return p.chosen[prod] && place(prod) != mover && !prod.Is("Softmax") && !prod.Is("Sigmoid")
}

// removable reports whether the codes of n's output do what n does: n is a Relu
// or a Clip from 0 that alone reads a quantized node that is no mover.
func (p *plan) removable(n *onnx.Node) bool {
	if !n.Is("Relu") && !n.Is("Clip") {
		return false
	}
	in := n.Input(0)
	prod := in.Producer()
	if len(in.Uses()) != 1 || in.IsOutput() || in.Graph() != n.Graph() || !p.chosen[prod] || place(prod) == mover || prod.Is("Relu") || prod.Is("Clip") {
		return false
	}
	if n.Is("Clip") {
		lo, ok := p.number(n.Input(1), -math.MaxFloat32)
		return ok && lo == 0
	}
	return true
}

func (p *plan) number(v *onnx.Value, def float32) (float32, bool) {
	if v == nil {
		return def, true
	}
	t := v.Constant()
	if t == nil {
		return 0, false
	}
	f, err := t.Floats()
	if err != nil || len(f) != 1 {
		return 0, false
	}
	return f[0], true
}

func (p *plan) find(v *onnx.Value) *onnx.Value {
	for p.group[v] != nil {
		if next := p.group[p.group[v]]; next != nil { // halves the way for the next one
			p.group[v] = next
		}
		v = p.group[v]
	}
	return v
}

// join makes two values share their coding; the earlier one stands for both.
func (p *plan) join(a, b *onnx.Value) {
	if a, b = p.find(a), p.find(b); a != b {
		p.group[b] = a
	}
}

// codings gives each quantized value its coding, from the union of the ranges
// of its group, in which the parts of a Concat do not count: what they have
// beyond its range, or between its codes, is lost in it.
func (p *plan) codings() {
	lo, hi := map[*onnx.Value]float32{}, map[*onnx.Value]float32{}
	var order []*onnx.Value
	for n := range p.nodes() {
		for _, v := range slices.Concat(n.Inputs(), n.Outputs()) {
			if v == nil || !p.quantized[v] {
				continue
			}
			order = append(order, v)
			if p.parts[v] {
				continue
			}
			a, b, _ := p.rangeOf(v)
			r := p.find(v)
			lo[r], hi[r] = min(lo[r], a), max(hi[r], b)
		}
	}
	for _, v := range order {
		r := p.find(v)
		t := p.s.o.activations()
		c := t.coding(lo[r], hi[r])
		if (r.Producer().Is("Softmax") || r.Producer().Is("Sigmoid")) && !t.symmetric && !t.wide() {
			c = t.shares()
		}
		p.params[v] = c
	}
}

// rangeOf returns the least and the largest element that v had.
func (p *plan) rangeOf(v *onnx.Value) (lo, hi float32, ok bool) {
	if t := v.Constant(); t != nil {
		f, err := t.Floats()
		for _, x := range f {
			if x-x != 0 {
				return 0, 0, false
			}
			lo, hi = min(lo, x), max(hi, x)
		}
		return lo, hi, err == nil
	}
	r, known := p.s.ranges[v.Name()]
	return r.Min, r.Max, known && p.s.choices.stats[v.Name()].Invalid == 0
}

// shared returns the constants for v's coding, the same for all of its group and
// in the graph of the first of them, where all others see them.
func (p *plan) shared(v *onnx.Value, q coding) (scale, zero *onnx.Value) {
	r := p.find(v)
	g := r.Graph()
	if c, ok := p.consts[r]; ok {
		return c[0], c[1]
	}
	scale = g.NewConst(onnx.FromFloats(v.Name()+"_scale", []int64{}, []float32{q.scale}))
	zero = g.NewConst(q.t.zeros(v.Name()+"_zero_point", []int64{}, q.zero))
	p.consts[r] = [2]*onnx.Value{scale, zero}
	return scale, zero
}

func (p *plan) perChannel(n *onnx.Node) bool {
	return !p.s.o.PerTensor && (n.Op == "Conv" || n.Op == "Gemm")
}

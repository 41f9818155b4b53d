package quantize

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/calibrate"
	"github.com/lapidary-ml/lapidary/internal/kernels"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// staticName is how logs call static quantization.
const staticName = "static-int8"

// qdqOpset is the version of the standard operators from which QuantizeLinear
// and DequantizeLinear take one scale per channel.
const qdqOpset = 13

// static is int8 in QDQ form with measured ranges.
type static struct {
	o        *Options
	measured *calibrate.Result          // once, by tensor name
	ranges   map[string]calibrate.Range // what method made of it
	factor   float64                    // by which int8 must be faster, with Speed
	unpaid   bool                       // something was left out for that
	slower   *NotFaster                 // the attempt before this one; nil: this is the first
	missed   int                        // classes of operators that there was no time to measure

	domain  string            // of the operators that code and take codes back
	unfit   map[string]string // operators with weights that the engine does not compute on these codes, with why
	asked   bool              // the engine was asked about them
	notices []string          // of what it said
	prober  *kernels.Prober

	known map[rangeKey]calibrate.Range
	decision
	decided map[float64]decision          // by factor
	left    map[float64]map[string]string // outputs of nodes that do not pay, with why, by factor
	at      float64                       // the factor that the decision is for; negative: none
}

// decision is all that held-out data decided or foretold.
type decision struct {
	choices   *choices     // what the recovery decided; without it, what was measured
	recovered *Recovery    // nil: nothing was asked for
	searched  *Search      // nil: there is no budget
	ranked    []Single     // nil: nobody asked
	predicted []Prediction // nil: nothing was asked for
	checks    []NodeCheck  // of every quantized layer by itself
	faults    []string     // what these found
}

func (*static) name() string { return staticName }

// prepare brings m to an opset that has QDQ, and measures it the first time.
func (s *static) prepare(ctx context.Context, m *onnx.Model) ([]string, error) {
	notices, err := s.raise(ctx, m)
	if err != nil {
		return nil, err
	}
	m.DistinguishAll()
	for n := range measurable(m) {
		if n.Is("BatchNormalization") {
			notices = append(notices, "the model has BatchNormalization nodes that stay in float32; run lapidary fuse first")
			break
		}
	}
	if s.o.Synthetic {
		notices = append(notices, "calibrated on generated data: ranges of real inputs differ, and so does the accuracy")
	}
	more, err := s.decide(ctx, m)
	if err != nil {
		return nil, err
	}
	return append(notices, more...), apply(m, slices.Concat(s.choices.edits, s.choices.shifts))
}

// find gives every tensor that was measured its range.
func (s *static) find() {
	s.ranges = map[string]calibrate.Range{}
	for name, stats := range s.choices.stats {
		if stats.Runs > 0 {
			s.ranges[name] = s.rangeBy(stats)
		}
	}
}

// rangeBy returns what the method in force makes of some statistics, which many
// candidates of the recovery share.
func (s *static) rangeBy(stats *calibrate.Stats) calibrate.Range {
	key := rangeKey{stats, s.choices.method.Name}
	r, known := s.known[key]
	if !known {
		r = s.choices.method.Range(stats, s.o.activations().codes())
		s.known[key] = r
	}
	return r
}

type rangeKey struct {
	stats  *calibrate.Stats
	method string
}

// worthwhile leaves out of a plan what is not faster in int8, where speed is
// asked for, at the sizes of the first sample.
func (s *static) worthwhile(ctx context.Context, p *plan) error {
	if !s.o.Speed {
		return nil
	}
	if left, known := s.left[s.factor]; known {
		p.leave(left)
		s.unpaid = len(left) > 0
		return nil
	}
	s.o.progress("timing operators")
	dims, err := sampleDims(ctx, p.m, s.o)
	if err != nil {
		return err
	}
	facts, err := opset.Infer(p.m, opset.Options{Dims: dims})
	if err != nil {
		return err
	}
	t, err := openOpTimes(s.o)
	if err != nil {
		return err
	}
	c, err := p.measureCosts(ctx, facts, t)
	if err = errors.Join(err, t.close()); err != nil {
		return err
	}
	s.missed = t.missed
	before := maps.Clone(p.chosen)
	s.unpaid = p.improve(c, s.factor)
	s.left[s.factor] = p.without(before)
	return nil
}

// sampleDims returns the sizes that the first calibration sample gives to
// symbols of the model's inputs, and those that were given by name.
func sampleDims(ctx context.Context, m *onnx.Model, o *Options) (map[string]int64, error) {
	dims := maps.Clone(o.Rewrite.Dims)
	if dims == nil {
		dims = map[string]int64{}
	}
	sample, err := o.Calibration.At(ctx, 0)
	if err != nil {
		return nil, fmt.Errorf("calibration data: %w", err)
	}
	for _, v := range m.Graph.Inputs() {
		t := sample.Inputs[v.Name()]
		if t == nil || len(t.Shape) != len(v.Shape()) {
			continue
		}
		for i, d := range v.Shape() {
			if _, given := dims[d.Param]; !d.Known() && d.Param != "" && !given {
				dims[d.Param] = t.Shape[i]
			}
		}
	}
	return dims, nil
}

// wants returns the float32 tensors that candidates read and write; those whose
// size only the data decides may be empty.
func (s *static) wants(m *onnx.Model, facts *opset.Facts) []calibrate.Want {
	var list []calibrate.Want
	seen := map[*onnx.Value]bool{}
	fed := map[string]bool{}
	for _, v := range m.Graph.Inputs() {
		for _, d := range v.Shape() {
			fed[d.Param] = true
		}
	}
	delete(fed, "")
	add := func(v *onnx.Value) {
		if v == nil || seen[v] || v.Constant() != nil || !calibrate.Measurable(v.Graph()) || facts.DType(v) != onnx.Float {
			return
		}
		seen[v] = true
		shape := facts.Shape(v)
		w := calibrate.Want{Tensor: v.Name(), MaybeEmpty: shape == nil, Extremes: !s.o.method.NeedsHistogram()}
		for _, d := range shape {
			w.MaybeEmpty = w.MaybeEmpty || !(d.Value > 0 || d.Value < 0 && fed[d.Param])
		}
		list = append(list, w)
	}
	for n := range measurable(m) {
		if place(n) == never {
			continue
		}
		for _, v := range n.Inputs() {
			add(v)
		}
		add(n.Output(0))
	}
	return list
}

func (s *static) pass(r *outcome) rewrite.Pass { return &staticPass{s: s, r: r} }

func (s *static) describe(r *Result) {
	r.Codes = &Codes{s.o.Activations, s.o.Weights, s.o.Representation, s.o.Accelerator}
	switch a := s.o.Accelerator; {
	case a != "" && r.Checked != nil:
		r.Log.Notice("made for %s: checked for accuracy on %s here, and not timed", a, s.o.device())
	case a != "":
		r.Log.Notice("made for %s: neither checked nor timed", a)
	}
	r.Calibration.Samples, r.Calibration.Tensors, r.Calibration.Passes, r.Calibration.Reused = s.measured.Samples, len(s.ranges), s.measured.Groups, s.measured.Resumed
	r.Calibration.Method, r.Recovery, r.Search = s.choices.method.Name, s.recovered, s.searched
	r.Predictions, r.Checks, r.Sensitivity = s.predicted, s.checks, s.ranked
	for _, f := range s.faults {
		r.Log.Notice("%s", f)
	}
}

// staticPass inserts the pairs.
type staticPass struct {
	s       *static
	r       *outcome
	plan    *plan
	pairs   map[*onnx.Value]*onnx.Value // activation → its dequantized form
	inner   map[inGraph]*onnx.Value     // pair outside of a body → its dequantized form in the body
	consts  map[inGraph]*onnx.Value     // constant activation → its dequantized form
	weights map[weightKey]*quantWeight
	names   map[*onnx.Value]string // of the tensors that dequantized forms stand for
}

// inGraph is a value as a graph reads it.
type inGraph struct {
	g *onnx.Graph
	v *onnx.Value
}

func (*staticPass) Name() string { return staticName }

// Run quantizes node by node in execution order. What goes where is planned
// for the whole graph first; each firing leaves a valid model.
func (p *staticPass) Run(ctx context.Context, m *onnx.Model, e *rewrite.Env) error {
	p.pairs, p.inner, p.consts = map[*onnx.Value]*onnx.Value{}, map[inGraph]*onnx.Value{}, map[inGraph]*onnx.Value{}
	p.weights, p.names = map[weightKey]*quantWeight{}, map[*onnx.Value]string{}
	p.plan = newPlan(m, e, p.s)
	if err := p.s.worthwhile(ctx, p.plan); err != nil {
		return err
	}
	p.plan.settle()
	for _, g := range m.Graphs() {
		for n := range g.Nodes() {
			if place(n) == anchor && !calibrate.Measurable(g) {
				e.Decline(staticName, n, "its activations are inside %q, whose tensors cannot be measured", g.Name)
				p.keep(n, "inside a function or a body other than of If, Loop and Scan")
			}
		}
	}
	for n := range p.plan.nodes() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if why := p.plan.reasons[n]; why != "" {
			e.Decline(staticName, n, "%s", why)
			if place(n) == anchor {
				p.keep(n, why)
			}
		}
		if !p.plan.chosen[n] || e.Exhausted() {
			continue
		}
		if err := p.node(n, e); err != nil {
			return err
		}
	}
	return nil
}

func (p *staticPass) keep(n *onnx.Node, why string) {
	p.r.layers = append(p.r.layers, Layer{Node: n.String(), Op: n.Op, Output: outputName(n), Type: "float32", Reason: why})
}

func outputName(n *onnx.Node) string {
	if v := n.Output(0); v != nil {
		return v.Name()
	}
	return ""
}

// node quantizes one node.
func (p *staticPass) node(n *onnx.Node, e *rewrite.Env) error {
	site := e.At(staticName, n)
	l := Layer{Node: n.String(), Op: n.Op, Output: outputName(n), Type: "int8"}
	if t := p.s.o.activations(); t.wide() {
		l.Type = t.String()
	}
	before := p.count(n)
	if p.plan.pulled[n] {
		return p.pull(n, &l, site, e)
	}
	for i, v := range n.Inputs() {
		if v == nil || !p.plan.takes(n, i) {
			continue
		}
		if v.Constant() != nil {
			n.SetInput(i, p.constant(n.Graph(), v))
			continue
		}
		q := p.plan.params[v]
		if l.Input == nil {
			l.Input = p.describe(v, q)
		}
		if err := p.pair(v, q); err != nil {
			return err
		}
		n.SetInput(i, p.pairs[v])
		p.within(n, i)
	}
	if place(n) == anchor {
		if err := p.weight(n, &l); err != nil {
			return err
		}
	}
	if out := n.Output(0); p.plan.quantized[out] {
		q := p.plan.params[out]
		l.Result = p.describe(out, q)
		if err := p.pair(out, q); err != nil {
			return err
		}
	}
	l.at = n
	p.r.layers = append(p.r.layers, l)
	return e.Fired(staticName, site, 0, p.count(n)-before, "")
}

func (p *staticPass) count(n *onnx.Node) int { return n.Graph().Len() }

// pull takes out a Relu or Clip that the codes of its output cannot leave: its
// producer is quantized with the range of its output instead.
func (p *staticPass) pull(n *onnx.Node, l *Layer, site rewrite.Site, e *rewrite.Env) error {
	in, out := n.Input(0), n.Output(0)
	g := n.Graph()
	q := p.plan.params[out]
	l.Result = p.describe(out, q)
	if err := g.Replace(out, in); err != nil {
		return err
	}
	p.plan.join(out, in)
	g.SweepFrom(n)
	if err := p.pair(in, q); err != nil {
		return err
	}
	p.names[p.pairs[in]] = l.Output // that is what the codes stand for
	p.r.layers = append(p.r.layers, *l)
	return e.Fired(staticName, site, 1, 2, "clipped by the codes")
}

// pair puts QuantizeLinear and DequantizeLinear behind v, once. All readers of v
// then read what comes of that, unless pairs are for single readers.
func (p *staticPass) pair(v *onnx.Value, q coding) error {
	if p.pairs[v] != nil {
		return nil
	}
	g, name := v.Graph(), v.Name()
	scale, zero := p.plan.shared(v, q)
	quant := p.s.operator("QuantizeLinear", g.Model().Fresh(v.Name()+"_quantized"), v, scale, zero)
	dequant := p.s.operator("DequantizeLinear", g.Model().Fresh(v.Name()+"_dequantized"), quant.Output(0), scale, zero)
	quant.Output(0).Type = onnx.TensorType(q.t.dtype, v.Shape())
	dequant.Output(0).Type = onnx.TensorType(onnx.Float, v.Shape())
	// The readers move before the pair is linked, so that the pair itself reads v.
	if at := v.Producer(); at != nil {
		g.InsertAfter(dequant, at)
	} else {
		g.InsertBefore(dequant, g.First())
	}
	dq := dequant.Output(0)
	if !p.plan.selective() {
		if err := g.Replace(v, dq); err != nil {
			return err
		}
	}
	g.InsertBefore(quant, dequant)
	p.pairs[v], p.pairs[dq], p.names[dq] = dq, dq, name
	p.plan.params[dq] = q
	return nil
}

// describe says how v is coded, before it is paired or after.
func (p *staticPass) describe(v *onnx.Value, q coding) *Params {
	name := v.Name()
	if of, ok := p.names[v]; ok {
		name = of
	}
	d := &Params{Tensor: name, Type: q.t.String(), Scale: float64(q.scale), ZeroPoint: int64(q.zero), Min: float64(q.lo), Max: float64(q.hi)}
	if s := p.s.choices.stats[name]; s != nil {
		r := [2]float64{float64(q.t.min-q.zero) * d.Scale, float64(q.t.max-q.zero) * d.Scale}
		if share, ok := s.Clipped(r, q.t.codes()); ok {
			noise := s.Noise(r, q.t.codes())
			d.Clipped, d.Error = &share, &noise
		}
	}
	return d
}

// within makes n read input i, where that is dequantized outside of n's graph, from
// a DequantizeLinear in it: engines merge only what is in one graph.
func (p *staticPass) within(n *onnx.Node, i int) {
	v, g := n.Input(i), n.Graph()
	if v.Graph() == g {
		return
	}
	key := inGraph{g, v}
	dq := p.inner[key]
	if dq == nil {
		from := v.Producer()
		dq = p.s.dequantize(g, from.Input(0), from.Input(1), from.Input(2), -1, v.Name())
		p.inner[key], p.pairs[dq], p.plan.params[dq] = dq, dq, p.plan.params[v]
		p.names[dq] = p.names[v]
	}
	n.SetInput(i, dq)
}

// constant returns the dequantized form of a constant that an elementwise node reads.
func (p *staticPass) constant(g *onnx.Graph, v *onnx.Value) *onnx.Value {
	key := inGraph{g, v}
	if dq := p.consts[key]; dq != nil {
		return dq
	}
	q := p.plan.params[v]
	scale := g.NewConst(onnx.FromFloats(v.Name()+"_scale", []int64{}, []float32{q.scale}))
	zero := g.NewConst(q.t.zeros(v.Name()+"_zero_point", []int64{}, q.zero))
	codes := g.NewConst(q.t.quantized(v.Name()+"_quantized", v.Constant(), q.scale, q.zero))
	dq := p.s.dequantize(g, codes, scale, zero, -1, v.Name())
	p.consts[key] = dq
	return dq
}

// operator returns a node that codes or takes codes back, in the domain whose
// operators have these types.
func (s *static) operator(op, output string, in ...*onnx.Value) *onnx.Node {
	n := onnx.NewNode(op, in, output)
	n.Name, n.Domain = output, s.domain
	return n
}

// dequantize adds a DequantizeLinear node at the start of g.
func (s *static) dequantize(g *onnx.Graph, codes, scale, zero *onnx.Value, axis int, name string) *onnx.Value {
	n := s.operator("DequantizeLinear", g.Model().Fresh(name+"_dequantized"), codes, scale, zero)
	if axis >= 0 {
		n.Attrs = []*onnx.Attr{onnx.IntAttr("axis", int64(axis))}
	}
	n.Output(0).Type = onnx.TensorType(onnx.Float, codes.Shape())
	n.TrimInputs()
	g.InsertBefore(n, g.First())
	return n.Output(0)
}

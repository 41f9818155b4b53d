package quantize

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/calibrate"
	"github.com/lapidary-ml/lapidary/internal/kernels"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
	"github.com/lapidary-ml/lapidary/internal/upgrade"
)

// toHalf computes in 16 bits what keeps its accuracy there, and the rest in
// float32. What does is decided once, in the first call of prepare.
type toHalf struct {
	o        *Options
	t        *halfType
	opset    int64                     // raised to; 0: not decided
	places   map[nodeAt]*place16       // nil: not decided
	notices  []string                  // of the decision
	measured *calibrate.Result         // nil without data
	prober   *kernels.Prober           // nil without an engine
	fit      map[*onnx.Tensor]*fitness // of the constants that were read
}

// typedAsBefore returns what takes the types of values within m away again, unless m
// declares some now: nobody needs them, and in a model of many small nodes they are
// larger than what 16 bits save.
func (s *toHalf) typedAsBefore(m *onnx.Model) func() {
	for _, g := range m.Graphs() {
		for n := range g.Nodes() {
			for _, v := range n.Outputs() {
				if v != nil && v.Type != nil && !v.IsOutput() {
					return func() {}
				}
			}
		}
	}
	return func() {
		for _, g := range m.Graphs() {
			for n := range g.Nodes() {
				for _, v := range n.Outputs() {
					if v != nil && !v.IsOutput() {
						v.Type = nil
					}
				}
			}
		}
	}
}

// nodeAt names a node of a model by the index of its graph and its place there, which
// every copy of the model has in common.
type nodeAt struct{ graph, node int }

func newHalf(o *Options) *toHalf {
	s := &toHalf{o: o, t: halfTypes[o.To], fit: map[*onnx.Tensor]*fitness{}}
	switch {
	case o.Open != nil:
		s.prober = &kernels.Prober{Open: o.Open, Session: o.Session}
	case o.Verify != nil && o.Verify.Open != nil:
		s.prober = &kernels.Prober{Open: o.Verify.Open, Session: o.Verify.Session}
	}
	return s
}

func (s *toHalf) name() string { return string(s.t.target) }

// prepare raises the opset where the type asks for it, and decides the first time.
func (s *toHalf) prepare(ctx context.Context, m *onnx.Model) ([]string, error) {
	if s.opset == 0 {
		if err := s.chooseOpset(ctx, m); err != nil {
			return nil, err
		}
	}
	notices, err := upgrade.To(m, s.opset)
	if err != nil {
		return nil, err
	}
	if s.places == nil {
		if err := s.decide(ctx, m); err != nil {
			return nil, err
		}
	}
	return append(notices, s.notices...), nil
}

// chooseOpset raises as little as the type allows, unless the engine takes more
// operators, or there is none to ask, in the opset that has most of them.
func (s *toHalf) chooseOpset(ctx context.Context, m *onnx.Model) error {
	s.opset = s.t.opset
	if s.t.up <= max(s.opset, m.OpsetVersion("")) {
		return nil
	}
	if _, err := upgrade.To(m.Clone(), s.t.up); err != nil {
		s.notices = append(s.notices, fmt.Sprintf("most operators take %v from opset %d on: %v", s.t, s.t.up, err))
		return nil
	}
	if s.prober == nil {
		s.opset = s.t.up
		return nil
	}
	low, err := s.taken(ctx, m, s.opset)
	if err != nil {
		return err
	}
	high, err := s.taken(ctx, m, s.t.up)
	if high > low {
		s.opset = s.t.up
	}
	return err
}

// taken counts the computing nodes of m that the engine takes at an opset.
func (s *toHalf) taken(ctx context.Context, m *onnx.Model, version int64) (int, error) {
	c := m.Clone()
	if _, err := upgrade.To(c, version); err != nil {
		return 0, nil
	}
	facts, err := opset.Infer(c, opset.Options{Dims: s.o.Rewrite.Dims, IgnoreValueInfo: true, ReadOnly: true})
	if err != nil {
		return 0, err
	}
	p, err := newHalfPlan(ctx, &halfPlan{o: s.o, t: s.t, m: c, facts: facts, prober: s.prober, fit: s.fit})
	if err != nil {
		return 0, err
	}
	count := 0
	for _, n := range p.nodes {
		if p.isHalf(n) && halfPart(n) == computes {
			count++
		}
	}
	return count, nil
}

// decide measures, plans, and checks the plan under emulated rounding.
func (s *toHalf) decide(ctx context.Context, m *onnx.Model) error {
	facts, err := sampleFacts(ctx, s.o, m)
	if err != nil {
		return err
	}
	p := &halfPlan{o: s.o, t: s.t, m: m, facts: facts, prober: s.prober, fit: s.fit}
	if s.o.Calibration != nil {
		if s.o.Synthetic {
			s.notices = append(s.notices, "calibrated on generated data: ranges of real inputs differ, and so does the accuracy")
		}
		switch r, err := measureHalf(ctx, s.o, m, facts); {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			s.notices = append(s.notices, fmt.Sprintf("decided without ranges: %v", err))
		default:
			s.measured, p.stats = r, r.Stats
			s.notices = append(s.notices, r.Notices...)
		}
	}
	if _, err := newHalfPlan(ctx, p); err != nil {
		return err
	}
	if s.o.Calibration != nil {
		notices, err := grow(ctx, p)
		if err != nil {
			return err
		}
		s.notices = append(s.notices, notices...)
	}
	s.notices = append(s.notices, p.speed()...)
	s.places = map[nodeAt]*place16{}
	number(m, func(at nodeAt, n *onnx.Node) {
		if c := p.place[n]; c != nil {
			s.places[at] = c
		}
	})
	return nil
}

// number calls f for every node of m with its place.
func number(m *onnx.Model, f func(at nodeAt, n *onnx.Node)) {
	for i, g := range m.Graphs() {
		k := 0
		for n := range g.Nodes() {
			f(nodeAt{i, k}, n)
			k++
		}
	}
}

// speed says what the engine computes between casts: there the result is smaller
// and not faster.
func (p *halfPlan) speed() []string {
	var borrowed []string
	own, refused := 0, map[string]bool{}
	for _, n := range p.nodes {
		switch {
		case p.place[n].stored:
			refused[n.Op] = true
		case !p.isHalf(n) || halfPart(n) != computes:
		case p.native[n.Op]:
			own++
		case p.prober != nil && !slices.Contains(borrowed, n.Op):
			borrowed = append(borrowed, n.Op)
		}
	}
	var out []string
	if p.prober == nil {
		out = append(out, fmt.Sprintf("no engine was asked which operators it takes in %v: a runtime may refuse the model", p.t))
	}
	if len(borrowed) > 0 {
		slices.Sort(borrowed)
		out = append(out, fmt.Sprintf("the runtime here has no %v kernels of %s and computes them in float32 between casts: the model is smaller there, not faster", p.t, strings.Join(borrowed, ", ")))
	}
	if len(refused) > 0 {
		var list []string
		for op := range refused {
			list = append(list, op)
		}
		slices.Sort(list)
		out = append(out, fmt.Sprintf("the runtime here does not take %v in %s: their weights are stored in it and computed with in float32", p.t, strings.Join(list, ", ")))
	}
	return out
}

func (s *toHalf) pass(r *outcome) rewrite.Pass {
	return &halfPass{s: s, r: r, t: s.t, halves: map[halfKey]*onnx.Value{}, stored: map[*onnx.Value]*onnx.Value{}}
}

func (s *toHalf) describe(r *Result) {
	if c := r.Calibration; c != nil {
		c.Method = "minmax"
		if s.measured != nil {
			c.Samples, c.Tensors, c.Passes, c.Reused = s.measured.Samples, len(s.measured.Stats), s.measured.Groups, s.measured.Resumed
		}
	}
}

// halfPass converts node by node: casts appear before and behind a node that is
// converted, and those between two converted nodes vanish as the second one
// reads the first one's result in 16 bits. Each firing leaves a valid model.
type halfPass struct {
	s      *toHalf
	t      *halfType
	r      *outcome
	masks  *masked
	halves map[halfKey]*onnx.Value     // float32 value → the same in 16 bits
	stored map[*onnx.Value]*onnx.Value // weight → the same, stored in 16 bits
}

// halfKey is a value, and what stands for its elements beyond the range.
type halfKey struct {
	v *onnx.Value
	s standIn
}

func (p *halfPass) Name() string { return p.s.name() }

// Run converts what is planned so.
func (p *halfPass) Run(ctx context.Context, m *onnx.Model, e *rewrite.Env) error {
	p.masks = findMasks(m, p.t, (&halfPlan{t: p.t, fit: p.s.fit}).fits)
	var order []*onnx.Node
	place := map[*onnx.Node]*place16{}
	number(m, func(at nodeAt, n *onnx.Node) {
		if c := p.s.places[at]; c != nil {
			order, place[n] = append(order, n), c
		}
	})
	fired := len(e.Log.Fired)
	for _, n := range order {
		if err := ctx.Err(); err != nil {
			return err
		}
		if e.Exhausted() {
			break
		}
		if err := p.visit(n, place[n], e); err != nil {
			return err
		}
	}
	if len(e.Log.Fired) > fired {
		if err := p.carry(m); err != nil {
			return err
		}
	}
	if p.s.o.HalfIO {
		if err := p.ports(m, e); err != nil {
			return err
		}
	}
	if len(e.Log.Fired) == fired {
		return nil
	}
	return p.tidy(m)
}

func (p *halfPass) visit(n *onnx.Node, c *place16, e *rewrite.Env) error {
	l := Layer{Node: n.String(), Op: n.Op, Output: outputName(n), Type: p.t.String(), Note: c.note}
	why := c.why
	if c.half || c.stored {
		if e.Allow(p.Name(), n) {
			return p.convert(n, c, l, e)
		}
		why = "left out"
	}
	e.Decline(p.Name(), n, "%s", why)
	l.Type, l.Reason, l.Note = "float32", why, ""
	p.r.layers = append(p.r.layers, l)
	return nil
}

// convert makes n read and write 16 bits, or its weights stored in these.
func (p *halfPass) convert(n *onnx.Node, c *place16, l Layer, e *rewrite.Env) error {
	site, before := e.At(p.Name(), n), n.Graph().Len()
	if c.stored {
		l.Type, l.Note = "float32", fmt.Sprintf("its weights are stored in %v", p.t)
		for i, v := range n.Inputs() {
			if t := v.Constant(); t != nil && t.DType == onnx.Float && !pinned(n, i) && p.masks.fits(t).count >= worthStoring {
				n.SetInput(i, p.store(v))
			}
		}
	} else if err := p.narrow(n); err != nil {
		return err
	}
	p.r.layers = append(p.r.layers, l)
	return e.Fired(p.Name(), site, 0, n.Graph().Len()-before, c.note)
}

func (p *halfPass) narrow(n *onnx.Node) error {
	copies := n.Is("Cast") && p.dtype(n.Input(0)) == onnx.Float
	for i, v := range n.Inputs() {
		if v != nil && p.dtype(v) == onnx.Float && !pinned(n, i) {
			n.SetInput(i, p.half(v, p.masks.stand(n, v)))
		}
	}
	switch {
	case n.Is("ConstantOfShape"):
		p.t.fill(n)
	case copies: // ONNX Runtime 1.30 does not load a cast of a type to itself
		n.Op, n.Attrs = "Identity", nil
	case n.Is("Cast"):
		n.SetAttr(onnx.IntAttr("to", int64(p.t.dtype)))
	}
	for _, v := range n.Outputs() {
		if v != nil && p.dtype(v) == onnx.Float {
			if err := p.widen(v); err != nil {
				return err
			}
		}
	}
	return nil
}

// fill makes a ConstantOfShape give t.
func (t *halfType) fill(n *onnx.Node) {
	x := onnx.FromFloats("value", []int64{1}, []float32{0})
	if a := n.Attr("value"); a != nil && a.T != nil {
		x = a.T
	}
	n.SetAttr(onnx.TensorAttr("value", t.coded(x, toLargest)))
}

// dtype returns the type that v has now.
func (p *halfPass) dtype(v *onnx.Value) onnx.DType {
	if t := v.Constant(); t != nil {
		return t.DType
	}
	return v.DType()
}

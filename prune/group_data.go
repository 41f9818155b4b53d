package prune

import (
	"context"
	"fmt"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/calibrate"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/trial"
)

// contraction is a node that sums over an axis of an activation with weights.
type contraction struct {
	node   *onnx.Node
	input  *onnx.Value
	axis   int // of input
	weight *onnx.Value
	along  int // axis of weight; -1: of a grouped convolution, whose weights have a part of the channels
}

// contractions lists the nodes of m that read activations with constant weights.
func (d *dims) contractions() []contraction {
	var out []contraction
	for n := range d.nodes() {
		if len(n.Inputs()) < 2 {
			continue
		}
		x, w := n.Input(0), n.Input(1)
		if x.Constant() != nil || w.Constant() == nil || len(d.facts.Shape(x)) == 0 {
			continue
		}
		c := contraction{node: n, input: x, axis: len(d.facts.Shape(x)) - 1, weight: w}
		switch n.Op {
		case "Conv", "FusedConv":
			c.axis, c.along = 1, 1
			if n.Int("group", 1) != 1 {
				c.along = -1
			}
		case "ConvTranspose":
			c.axis, c.along = 1, 0
		case "Gemm", "FusedGemm":
			if n.Int("transA", 0) != 0 {
				continue
			}
			if n.Int("transB", 0) != 0 {
				c.along = 1
			}
		case "MatMul":
			if c.along = len(w.Constant().Shape) - 2; c.along < 0 {
				continue
			}
		case "LSTM", "GRU", "RNN":
			c.along = 2
		default:
			continue
		}
		out = append(out, c)
	}
	return out
}

// measureChannels measures the second moments of what the contractions of m's main graph read.
func (p *structured) measureChannels(ctx context.Context, m *onnx.Model) error {
	d, err := newDims(m.Clone(), p.o.Dims, nil)
	if err != nil {
		return err
	}
	var wants []calibrate.Want
	seen := map[string]bool{}
	for _, c := range d.contractions() {
		if name := c.input.Name(); c.node.Graph().Parent() == nil && !seen[name] && d.facts.DType(c.input) == onnx.Float {
			seen[name] = true
			wants = append(wants, calibrate.Want{Tensor: name, Channels: true, Axis: c.axis})
		}
	}
	o := p.o.Data
	r, err := calibrate.Measure(ctx, m, wants, func() calibrate.Pass { return calibrate.Over(ctx, o.Data, o.Batch) },
		calibrate.Options{Open: o.Open, Session: o.Session, MaxBytes: p.o.MaxMemory})
	if err != nil {
		return fmt.Errorf("measuring activations: %w", err)
	}
	p.stats = r.Stats
	return nil
}

// activity scores units by the second moment of what they give times the squared
// weights that read it, as Wanda does for single weights.
func (s *scorer) activity(g *group) ([]float64, error) {
	out := make([]float64, len(g.units))
	any := false
	for _, c := range s.reads {
		if c.along < 0 {
			continue
		}
		x, okX := s.d.index[opset.Axis{Value: c.input, Axis: c.axis}]
		w, okW := s.d.index[opset.Axis{Value: c.weight, Axis: c.along}]
		stats := s.stats[c.input.Name()]
		if !okX || !okW || !slices.Contains(g.axes, x) || !slices.Contains(g.axes, w) || stats == nil || stats.Channels == nil ||
			len(stats.Channels.Squares) != s.d.axes[x].size || stats.Channels.Count == 0 {
			continue
		}
		e, err := s.norms(w, c.weight.Constant())
		if err != nil {
			return nil, err
		}
		any = true
		part, total := make([]float64, len(out)), 0.0
		for k, u := range g.units {
			for _, p := range u.on(x) {
				part[k] += stats.Channels.Squares[p] * e[p]
			}
			total += part[k]
		}
		for k := range out {
			if total > 0 {
				out[k] += part[k] / total * float64(len(out))
			}
		}
	}
	if !any {
		return nil, nil
	}
	return out, nil
}

// ablation scores units by what the outputs lose where a unit reads as zero.
type ablation struct {
	held   *trial.Held
	scores map[string][]float64 // by the group's key
}

// key names a group so that it is found again in a copy of the model.
func (g *group) key(d *dims) string {
	return nodeKey(d.axes[g.out].Value.Producer()) + fmt.Sprint(d.axes[g.out].Axis.Axis)
}

// measureAblation runs a copy of m in which every unit of the groups is behind a switch.
func (p *structured) measureAblation(ctx context.Context, m *onnx.Model) error {
	c := m.Clone()
	if err := initialize(c); err != nil {
		return err
	}
	d, err := newDims(c, p.o.Dims, nil)
	if err != nil {
		return err
	}
	var groups []*group
	for _, g := range d.groups() {
		if p.o.wants(d, g) {
			groups = append(groups, g)
		}
	}
	sw, err := d.switches(groups)
	if err != nil {
		return err
	}
	s, err := p.held.Open(ctx, c)
	if err != nil {
		return fmt.Errorf("measuring by ablation: %w", err)
	}
	defer s.Close()
	a := &ablation{held: p.held, scores: map[string][]float64{}}
	for i, g := range groups {
		scores := make([]float64, len(g.units))
		for k, u := range g.units {
			p.progress(fmt.Sprintf("switching off units of group %d/%d", i+1, len(groups)))
			got, err := a.held.Compare(ctx, s, sw.without(u))
			if err != nil {
				return err
			}
			scores[k] = noiseOf(got.DB)
		}
		a.scores[g.key(d)] = scores
	}
	p.ablated = a
	return nil
}

// switchboard is inputs that multiply activations position by position.
type switchboard struct {
	d  *dims
	at map[int]string // by axis index: the input's name
}

// switches puts a factor, one per position and 1 as a rule, on each activation that a
// contraction reads along an axis of the groups.
func (d *dims) switches(groups []*group) (*switchboard, error) {
	sw := &switchboard{d: d, at: map[int]string{}}
	wanted := map[int]bool{}
	for _, g := range groups {
		for _, i := range g.axes {
			wanted[i] = true
		}
	}
	for _, c := range d.contractions() {
		at, ok := d.index[opset.Axis{Value: c.input, Axis: c.axis}]
		if !ok || !wanted[at] || c.node.Graph().Parent() != nil || !d.facts.DType(c.input).IsFloat() {
			continue
		}
		if err := sw.put(c, at); err != nil {
			return nil, err
		}
	}
	return sw, nil
}

// put makes contraction c read its input times a switch.
func (sw *switchboard) put(c contraction, at int) error {
	g, m := c.node.Graph(), sw.d.model
	shape := make([]int64, len(sw.d.facts.Shape(c.input)))
	for i := range shape {
		shape[i] = 1
	}
	shape[c.axis] = int64(sw.d.axes[at].size)
	name := sw.at[at]
	var input *onnx.Value
	if name == "" {
		name = m.Fresh("switch")
		sw.at[at] = name
		input = g.AddInput(name, onnx.TensorType(sw.d.facts.DType(c.input), onnx.ShapeOf(shape...)))
	} else {
		for _, v := range g.Inputs() {
			if v.Name() == name {
				input = v
			}
		}
	}
	mul := onnx.NewNode("Mul", []*onnx.Value{c.input, input}, m.Fresh(c.input.Name()))
	g.InsertBefore(mul, c.node)
	c.node.SetInput(0, mul.Output(0))
	return nil
}

// without returns the switches with those of one unit off.
func (sw *switchboard) without(u unit) map[string]*onnx.Tensor {
	out := map[string]*onnx.Tensor{}
	for at, name := range sw.at {
		a := sw.d.axes[at]
		v := slices.Repeat([]float64{1}, a.size)
		for _, p := range u.on(at) {
			v[p] = 0
		}
		shape := make([]int64, len(sw.d.facts.Shape(a.Value)))
		for i := range shape {
			shape[i] = 1
		}
		shape[a.Axis.Axis] = int64(a.size)
		t, err := onnx.FromFloat64s(name, sw.d.facts.DType(a.Value), shape, v)
		if err == nil {
			out[name] = t
		}
	}
	return out
}

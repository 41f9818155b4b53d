package calibrate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// Want says what to measure of one float32 tensor of a model, in a graph that is
// [Measurable]. Of what is inside a Loop or Scan only the extremes are.
type Want struct {
	Tensor     string
	Extremes   bool // no histogram: the tensor does not leave the engine
	MaybeEmpty bool // it may have no elements, of which an engine takes no extremes
	Channels   bool // sums by index of Axis too
	Axis       int  // from the end where negative
	Gram       bool // products of the columns of its rows too; it may be of any floating type
	HoldEvery  int  // Gram: every so many runs one is held out; 0: the last fifth of the rows of each run

	Diagonal bool     `json:",omitempty"` // Gram: of each column with itself only
	Patches  *Patches `json:",omitempty"` // Gram: rows are what a convolution reads; nil: along the last axis
	Key      string   `json:",omitempty"` // of the statistics in the result; "" is the tensor
}

// key is what the statistics are found by.
func (w Want) key() string {
	if w.Key != "" {
		return w.Key
	}
	return w.Tensor
}

// reduced reports whether the engine reduces the tensor to three numbers.
func (w Want) reduced() bool { return w.Extremes && !w.MaybeEmpty && !w.Channels && !w.Gram }

// probe is a model with outputs for some tensors, ready to run.
type probe struct {
	dir   string
	path  string
	wants []probed
	plain []string // the model's own outputs
}

// probed is a tensor with the outputs that tell of it: its least, its largest
// and its sum, or all of it.
type probed struct {
	Want
	outputs []string
	reach   *reach
}

// newProbe writes a copy of m with outputs for wants. The standard opset must be
// 11 or later. m is not changed.
func newProbe(m *onnx.Model, wants []Want, dir string) (*probe, error) {
	p := &probe{}
	c := m.Clone()
	for _, v := range c.Graph.Outputs() {
		p.plain = append(p.plain, v.Name())
	}
	byName := tensors(c)
	for _, w := range wants {
		v := byName[w.Tensor]
		if v == nil {
			return nil, fmt.Errorf("calibration: the model has no tensor %q", w.Tensor)
		}
		p.add(c, v, w)
	}
	return p, p.write(c, dir)
}

// add gives c outputs for v.
func (p *probe) add(c *onnx.Model, v *onnx.Value, w Want) {
	t, tp := probed{Want: w, reach: &reach{}}, tap{c}
	g := v.Graph()
	var outs []*onnx.Value
	switch {
	case w.reduced() && g == c.Graph:
		for _, r := range reductions {
			outs = append(outs, tp.add(g, r.op, w.Tensor, onnx.TensorType(onnx.Float, onnx.Shape{}), []*onnx.Value{v}, onnx.IntAttr("keepdims", 0)))
		}
	case w.reduced():
		for _, r := range reductions {
			outs = append(outs, tp.out(tp.reduced(v, r), onnx.FromFloats("empty", []int64{}, []float32{r.empty}), r))
		}
	default:
		op, attrs := "Identity", []*onnx.Attr(nil)
		if w.Gram {
			op, attrs = "Cast", []*onnx.Attr{onnx.IntAttr("to", int64(onnx.Float))}
		}
		whole := tp.add(g, op, w.Tensor, onnx.TensorType(onnx.Float, nil), []*onnx.Value{v}, attrs...)
		outs = append(outs, tp.out(whole, onnx.FromFloats("empty", []int64{0}, nil), reduction{}))
	}
	for _, o := range outs {
		c.Graph.AddOutput(o)
		t.outputs = append(t.outputs, o.Name())
	}
	p.wants = append(p.wants, t)
}

func (p *probe) write(c *onnx.Model, dir string) error {
	var err error
	if p.dir, err = os.MkdirTemp(dir, "lapidary-calibrate-"); err != nil {
		return fmt.Errorf("calibration: %w", err)
	}
	p.path = filepath.Join(p.dir, "probed.onnx")
	if err = onnxfile.Scratch(p.path, c); err != nil {
		p.close()
		return fmt.Errorf("calibration: %w", err)
	}
	return nil
}

func (p *probe) open(ctx context.Context, o *Options) (session.Session, error) {
	so := o.Session
	so.Level, so.Outputs = session.LevelOff, nil
	s, err := o.Open(ctx, p.path, so)
	if err != nil {
		return nil, fmt.Errorf("calibration: the probed model does not load: %w", err)
	}
	return s, nil
}

func (p *probe) close() {
	if p.dir != "" {
		os.RemoveAll(p.dir)
	}
}

// own returns those of the outputs that the model itself has.
func (p *probe) own(all map[string]*onnx.Tensor) map[string]*onnx.Tensor {
	out := map[string]*onnx.Tensor{}
	for _, name := range p.plain {
		out[name] = all[name]
	}
	return out
}

// keepsRows reports whether statistics refer to the outputs until they are merged.
func (p *probe) keepsRows() bool {
	return slices.ContainsFunc(p.wants, func(t probed) bool { return t.Gram })
}

// summarize returns the statistics of run k, in the order of the wants.
func (p *probe) summarize(out map[string]*onnx.Tensor, k int64) ([]*Stats, error) {
	list := make([]*Stats, len(p.wants))
	for i, t := range p.wants {
		list[i] = &Stats{}
		if err := t.summarize(list[i], out, k); err != nil {
			return nil, fmt.Errorf("tensor %q: %w", t.Tensor, err)
		}
	}
	return list, nil
}

func (t probed) summarize(s *Stats, out map[string]*onnx.Tensor, k int64) error {
	if slices.ContainsFunc(t.outputs, func(name string) bool { return out[name] == nil }) {
		return errors.New("the engine did not return what was asked of it")
	}
	if !t.reduced() {
		return s.whole(out[t.outputs[0]], t.Want, k, t.reach)
	}
	var v [3]float32
	for i, name := range t.outputs {
		f, err := out[name].Floats()
		if err != nil || len(f) != 1 {
			return fmt.Errorf("the engine returned %v%v for a single number", out[name].DType, out[name].Shape)
		}
		v[i] = f[0]
	}
	if nothing(v) {
		return nil
	}
	s.extremes(v[0], v[1], float64(v[2]))
	return nil
}

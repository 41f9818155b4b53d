// Package calibrate measures the ranges of a model's activations on data.
//
// A probed copy of the model is run: for each tensor it has outputs for the
// least and the largest element and the sum, so that no activation leaves the
// engine and memory does not grow with the number of samples.
package calibrate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// Range is what was seen of one tensor.
type Range struct {
	Min, Max float32
	MeanMin  float64 // mean over the runs of the least element
	MeanMax  float64 // mean over the runs of the largest element
	Runs     int64   // in which the tensor had elements
	Invalid  int64   // in which it had NaN or infinite elements, which Min and Max leave out
}

// add enters one run.
func (r *Range) add(lo, hi, sum float32) {
	if !finite(lo) || !finite(hi) || !finite(sum) {
		r.Invalid++
		return
	}
	if r.Runs == 0 {
		r.Min, r.Max = lo, hi
	}
	r.Min, r.Max = min(r.Min, lo), max(r.Max, hi)
	r.Runs++
	r.MeanMin += (float64(lo) - r.MeanMin) / float64(r.Runs)
	r.MeanMax += (float64(hi) - r.MeanMax) / float64(r.Runs)
}

func finite(x float32) bool { return x-x == 0 }

// Merge enters what another calibration saw of the same tensor.
func (r *Range) Merge(s Range) {
	r.Invalid += s.Invalid
	if s.Runs == 0 {
		return
	}
	if r.Runs == 0 {
		invalid := r.Invalid
		*r = s
		r.Invalid = invalid
		return
	}
	r.Min, r.Max = min(r.Min, s.Min), max(r.Max, s.Max)
	n := float64(r.Runs + s.Runs)
	r.MeanMin += (s.MeanMin - r.MeanMin) * float64(s.Runs) / n
	r.MeanMax += (s.MeanMax - r.MeanMax) * float64(s.Runs) / n
	r.Runs += s.Runs
}

// Probe is a probed copy of a model, ready to run. It is for one goroutine.
type Probe struct {
	dir     string
	s       session.Session
	tensors []probed
	ranges  map[string]*Range
	plain   []string // the model's own outputs
}

// probed is a tensor with the names of what is computed of it; reduced tells
// whether that are its extremes and its sum, else it is the tensor itself.
type probed struct {
	name    string
	outputs [3]string
	reduced bool
}

// Options directs [Open].
type Options struct {
	Open    session.Opener
	Session session.Options // Level and Outputs are set here
	TempDir string          // "" is the system's
}

// Open prepares the measuring of the float32 tensors of m's main graph that are
// named in tensors; what may be empty at run time is named in maybeEmpty. m is
// not changed. The standard opset must be 11 or later.
func Open(ctx context.Context, m *onnx.Model, tensors []string, maybeEmpty map[string]bool, o Options) (*Probe, error) {
	if o.Open == nil {
		return nil, errors.New("calibration needs an engine")
	}
	p := &Probe{ranges: map[string]*Range{}}
	c := m.Clone()
	for _, v := range c.Graph.Outputs() {
		p.plain = append(p.plain, v.Name())
	}
	if err := p.instrument(c, tensors, maybeEmpty); err != nil {
		return nil, err
	}
	var err error
	if p.dir, err = os.MkdirTemp(o.TempDir, "lapidary-calibrate-"); err != nil {
		return nil, fmt.Errorf("calibration: %w", err)
	}
	path := filepath.Join(p.dir, "probed.onnx")
	if _, err = onnxfile.Write(path, c, onnxfile.WriteOptions{}); err == nil {
		so := o.Session
		so.Level, so.Outputs = session.LevelOff, nil
		p.s, err = o.Open(ctx, path, so)
	}
	if err != nil {
		os.RemoveAll(p.dir)
		return nil, fmt.Errorf("calibration: the probed model does not load: %w", err)
	}
	return p, nil
}

// instrument adds the outputs to c.
func (p *Probe) instrument(c *onnx.Model, tensors []string, maybeEmpty map[string]bool) error {
	g := c.Graph
	byName := map[string]*onnx.Value{}
	for v := range g.Values() {
		byName[v.Name()] = v
	}
	for _, name := range tensors {
		v := byName[name]
		if v == nil {
			return fmt.Errorf("calibration: the model has no tensor %q", name)
		}
		t := probed{name: name, reduced: !maybeEmpty[name]}
		p.ranges[name] = &Range{}
		if t.reduced {
			for i, op := range []string{"ReduceMin", "ReduceMax", "ReduceSum"} {
				n := onnx.NewNode(op, []*onnx.Value{v}, c.Fresh(name+"_"+op))
				n.Attrs = []*onnx.Attr{onnx.IntAttr("keepdims", 0)}
				n.Output(0).Type = onnx.TensorType(onnx.Float, onnx.Shape{})
				g.Append(n)
				g.AddOutput(n.Output(0))
				t.outputs[i] = n.Output(0).Name()
			}
		} else {
			n := onnx.NewNode("Identity", []*onnx.Value{v}, c.Fresh(name+"_probe"))
			n.Output(0).Type = onnx.TensorType(onnx.Float, nil)
			g.Append(n)
			g.AddOutput(n.Output(0))
			t.outputs[0] = n.Output(0).Name()
		}
		p.tensors = append(p.tensors, t)
	}
	return nil
}

// Run runs the model on one batch, enters what is seen, and returns the model's
// own outputs.
func (p *Probe) Run(ctx context.Context, in map[string]*onnx.Tensor) (map[string]*onnx.Tensor, error) {
	r, err := p.s.Run(ctx, in)
	if err != nil {
		return nil, err
	}
	for _, t := range p.tensors {
		lo, hi, sum, some, err := t.extremes(r.Outputs)
		if err != nil {
			return nil, fmt.Errorf("tensor %q: %w", t.name, err)
		}
		if some {
			p.ranges[t.name].add(lo, hi, sum)
		}
	}
	own := map[string]*onnx.Tensor{}
	for _, name := range p.plain {
		own[name] = r.Outputs[name]
	}
	return own, nil
}

// extremes reads least, largest and sum of one run; some is false for an empty tensor.
func (t probed) extremes(out map[string]*onnx.Tensor) (lo, hi, sum float32, some bool, err error) {
	if !t.reduced {
		return scan(out[t.outputs[0]])
	}
	var v [3]float32
	for i, name := range t.outputs {
		x := out[name]
		if x == nil {
			return 0, 0, 0, false, errors.New("the engine did not return what was asked of it")
		}
		f, err := x.Floats()
		if err != nil || len(f) != 1 {
			return 0, 0, 0, false, fmt.Errorf("the engine returned %v%v for a single number", x.DType, x.Shape)
		}
		v[i] = f[0]
	}
	return v[0], v[1], v[2], true, nil
}

func scan(t *onnx.Tensor) (lo, hi, sum float32, some bool, err error) {
	if t == nil {
		return 0, 0, 0, false, errors.New("the engine did not return what was asked of it")
	}
	f, err := t.Floats()
	if err != nil || len(f) == 0 {
		return 0, 0, 0, false, err
	}
	lo, hi = float32(math.Inf(1)), float32(math.Inf(-1))
	for _, x := range f {
		lo, hi, sum = min(lo, x), max(hi, x), sum+x-x // keeps NaN and infinity, and nothing else
	}
	return lo, hi, sum, true, nil
}

// Ranges returns what was seen so far, by tensor.
func (p *Probe) Ranges() map[string]Range {
	out := make(map[string]Range, len(p.ranges))
	for name, r := range p.ranges {
		out[name] = *r
	}
	return out
}

// Close ends the session and removes the probed copy.
func (p *Probe) Close() error {
	return errors.Join(p.s.Close(), os.RemoveAll(p.dir))
}

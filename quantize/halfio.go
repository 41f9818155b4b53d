package quantize

import (
	"context"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// ports makes the float32 inputs and outputs of the model of 16 bits.
func (p *halfPass) ports(m *onnx.Model, e *rewrite.Env) error {
	for _, v := range slices.Clone(m.Graph.Inputs()) {
		if v.Const == nil && v.DType() == onnx.Float && !v.IsOutput() {
			if err := p.port(v, "input", e, p.narrowInput); err != nil {
				return err
			}
		}
	}
	for _, v := range slices.Clone(m.Graph.Outputs()) {
		if v.DType() == onnx.Float && v.Producer() != nil && v.Graph() == m.Graph {
			if err := p.port(v, "output", e, p.narrowOutput); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *halfPass) port(v *onnx.Value, what string, e *rewrite.Env, f func(*onnx.Value) error) error {
	label := what + " " + v.Name()
	if !e.AllowPart(p.Name(), label) {
		return nil
	}
	site, before := e.AtPart(p.Name(), label, label), v.Graph().Len()
	g := v.Graph()
	if err := f(v); err != nil {
		return err
	}
	return e.Fired(p.Name(), site, 0, g.Len()-before, "")
}

// narrowOutput gives output v in 16 bits under its name; what reads it goes on
// reading float32.
func (p *halfPass) narrowOutput(v *onnx.Value) error {
	g := v.Graph()
	uses := slices.Clone(v.Uses())
	h := p.widened(v)
	if h == nil || h.IsOutput() || h.IsInput() || h.Graph() != g {
		if h = p.halves[halfKey{v, toLargest}]; h == nil || h.IsOutput() || h.Producer() == nil || h.Producer().Graph() != g {
			h = castBeside(v, v.Name()+"_"+p.Name(), p.t.dtype).Output(0)
			uses = slices.Clone(v.Uses())
		}
	}
	shape := v.Shape()
	if err := g.Replace(v, h); err != nil {
		return err
	}
	for _, u := range uses {
		u.Node.SetInput(u.Index, v)
	}
	h.Type = onnx.TensorType(p.t.dtype, shape)
	return nil
}

// portOpener opens models with the ports of the original: it converts the tensors of
// those that a model has in 16 bits.
func portOpener(open session.Opener, d onnx.DType) session.Opener {
	return func(ctx context.Context, path string, o session.Options) (session.Session, error) {
		s, err := open(ctx, path, o)
		if err != nil {
			return nil, err
		}
		p := &portSession{Session: s, d: d, narrow: map[string]bool{}}
		for _, in := range s.Inputs() {
			p.narrow[in.Name] = in.Type.IsTensor() && in.Type.Elem == d
		}
		return p, nil
	}
}

// portSession is a session that takes and gives float32 where its model has d.
type portSession struct {
	session.Session
	d      onnx.DType
	narrow map[string]bool
}

// Run converts the inputs that are float32 where the model takes d, and then its
// outputs of d to float32.
func (p *portSession) Run(ctx context.Context, in map[string]*onnx.Tensor) (*session.Result, error) {
	given := map[string]*onnx.Tensor{}
	for name, t := range in {
		if p.narrow[name] && t.DType == onnx.Float {
			t = halfOf(p.d).coded(t, toLargest)
		}
		given[name] = t
	}
	r, err := p.Session.Run(ctx, given)
	if err != nil {
		return nil, err
	}
	out := &session.Result{Outputs: map[string]*onnx.Tensor{}, Elapsed: r.Elapsed}
	for name, t := range r.Outputs {
		if t != nil && t.DType == p.d {
			f, err := t.Floats()
			if err != nil {
				return nil, err
			}
			t = onnx.FromFloats(t.Name, t.Shape, f)
		}
		out.Outputs[name] = t
	}
	return out, nil
}

func halfOf(d onnx.DType) *halfType {
	for _, t := range halfTypes {
		if t.dtype == d {
			return t
		}
	}
	return nil
}

package quantize

import (
	"context"
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// scheme is one way to quantize. A value of it serves one call of [File], which
// may ask it for several passes: one per attempt.
type scheme interface {
	name() string
	// prepare brings m, a fresh copy of the original, into the form that the
	// pass works on. What it does does not depend on limits and skips.
	prepare(ctx context.Context, m *onnx.Model) ([]string, error)
	// pass returns the rewrite, which enters what became of nodes into r.
	pass(r *outcome) rewrite.Pass
	// describe completes the result after success.
	describe(r *Result)
}

// schemeFor returns the scheme that o asks for.
func schemeFor(o *Options) scheme {
	switch {
	case halfTypes[o.To] != nil:
		return newHalf(o)
	case o.weightOnly():
		return newWeightOnly(o)
	case o.static():
		return newStatic(o)
	}
	return &dynamic{o: o}
}

// outcome is what one attempt did.
type outcome struct {
	log    *rewrite.Log
	layers []Layer
	sizes  Sizes
}

// quantizeModel applies s to m.
func quantizeModel(ctx context.Context, m *onnx.Model, s scheme, ro rewrite.Options) (*outcome, error) {
	if _, ok := s.(*toHalf); !ok { // which leaves alone what is quantized
		if err := refuseQuantized(m); err != nil {
			return nil, err
		}
	}
	plainConstants(m)
	if h, ok := s.(*toHalf); ok {
		defer h.typedAsBefore(m)()
	}
	notices, err := s.prepare(ctx, m)
	if err != nil {
		return nil, err
	}
	r := &outcome{}
	passes := []rewrite.Pass{once{s.pass(r), new(bool)}}
	fixed, static := s.(*static)
	if static && fixed.o.Representation == "qoperator" {
		passes = append(passes, once{&operatorsPass{s: fixed, r: r}, new(bool)})
	}
	if r.log, err = rewrite.Run(ctx, m, passes, nil, ro); err != nil {
		return nil, err
	}
	if static {
		if err := fixed.paid(r); err != nil {
			return nil, err
		}
	}
	r.log.Notices = append(append(notices, overridable(m)...), r.log.Notices...)
	if len(r.log.Fired) == 0 {
		r.log.Notice("nothing was quantized; --explain says why")
	}
	return r, nil
}

// overridable returns a notice if weights of m are inputs with defaults, which
// no scheme can touch.
func overridable(m *onnx.Model) []string {
	count := 0
	for _, v := range m.Graph.Inputs() {
		if v.Const != nil && len(v.Const.Shape) > 1 {
			count++
		}
	}
	if count == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%d weights are inputs that a caller may override and stay as they are; run lapidary fuse first, which freezes them", count)}
}

// once runs a pass a single time: quantizing what is quantized is no fixpoint.
type once struct {
	rewrite.Pass
	done *bool
}

// Run runs the pass unless it ran already.
func (p once) Run(ctx context.Context, m *onnx.Model, e *rewrite.Env) error {
	if *p.done {
		return nil
	}
	*p.done = true
	return p.Pass.Run(ctx, m, e)
}

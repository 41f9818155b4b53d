package fuse

import (
	"context"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// late is a pass of rules that waits until all others have nothing left to do:
// it runs in a round in which nothing fired before it.
type late struct {
	rewrite.Pass
	round *roundEnd
}

// Run leaves the model alone where something fired in this round.
func (l late) Run(ctx context.Context, m *onnx.Model, e *rewrite.Env) error {
	if len(e.Log.Fired) != l.round.fired {
		return nil
	}
	return l.Pass.Run(ctx, m, e)
}

// Names returns the names of the rules in the pass.
func (l late) Names() []string { return l.Pass.(interface{ Names() []string }).Names() }

// roundEnd is the last pass of a round: it counts for the late ones.
type roundEnd struct{ fired int } // firings at the end of the last round

// Name returns a name that no rule or other pass has.
func (*roundEnd) Name() string { return "round-end" }

// Run notes the number of firings.
func (r *roundEnd) Run(_ context.Context, _ *onnx.Model, e *rewrite.Env) error {
	r.fired = len(e.Log.Fired)
	return nil
}

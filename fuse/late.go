package fuse

import (
	"context"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// late is a pass that waits until all others have nothing left to do.
type late struct {
	rewrite.Pass
	fired int // firings of all passes when it was last asked
}

// Run leaves the model alone where something fired since it was last asked.
func (l *late) Run(ctx context.Context, m *onnx.Model, e *rewrite.Env) error {
	if n := len(e.Log.Fired); n != l.fired {
		l.fired = n
		return nil
	}
	err := l.Pass.Run(ctx, m, e)
	l.fired = len(e.Log.Fired)
	return err
}

// Names returns the names of the rules in the pass.
func (l *late) Names() []string { return l.Pass.(interface{ Names() []string }).Names() }

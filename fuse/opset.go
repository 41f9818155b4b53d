package fuse

import (
	"context"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
	"github.com/lapidary-ml/lapidary/internal/upgrade"
)

// raise brings the model to a later opset, where more operators exist that
// arithmetic can be recognised as.
type raise struct{ to int64 } // 0: leave it

func (raise) Name() string { return "opset" }

// Doc says what the pass does.
func (raise) Doc() string { return "raises the standard opset, on request" }

// Run raises the opset, once; a second run finds it raised.
func (r raise) Run(_ context.Context, m *onnx.Model, e *rewrite.Env) error {
	if e.Exhausted() {
		return nil
	}
	notices, err := upgrade.To(m, r.to)
	if err != nil {
		return err
	}
	e.Log.Notices = append(e.Log.Notices, notices...)
	return nil
}

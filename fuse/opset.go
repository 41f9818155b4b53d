package fuse

import (
	"context"
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
	"github.com/lapidary-ml/lapidary/internal/upgrade"
)

// raise brings the model to a later opset, where more operators exist that
// arithmetic can be recognised as.
type raise struct {
	to     int64 // 0: leave it
	target *Target
}

func (raise) Name() string { return "opset" }

// Doc says what the pass does.
func (raise) Doc() string { return "raises the standard opset, on request" }

// Run raises the opset, once; a second run finds it raised.
func (r raise) Run(_ context.Context, m *onnx.Model, e *rewrite.Env) error {
	if e.Exhausted() {
		return nil
	}
	if most := r.target.runtime().opset; most > 0 && r.to > most {
		return fmt.Errorf("the target %s reads opsets up to %d, as documented; give --opset %d or less", r.target.name(), most, most)
	}
	notices, err := upgrade.To(m, r.to)
	if err != nil {
		return err
	}
	e.Log.Notices = append(e.Log.Notices, notices...)
	return nil
}

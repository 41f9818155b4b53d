package quantize

import (
	"context"
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/trial"
)

// score is how near a model's outputs are to the original's on held-out data.
type score = trial.Score

// heldEvery says that every fourth calibration run is held out.
const heldEvery = 4

// part tells which calibration runs are to fit on and which are held out. Runs
// are batches of one sample unless more are asked for. Where a state is carried
// from sample to sample the last quarter is held out as a whole.
type part struct {
	stateful bool
	total    int64 // samples
}

// held reports whether run k, whose first sample is at, is held out.
func (p part) held(k, at int64) bool {
	if p.stateful {
		return at*heldEvery >= p.total*(heldEvery-1)
	}
	return k%heldEvery == heldEvery-1
}

// newHeldOut runs m on the held-out part, on at most so many samples.
func newHeldOut(ctx context.Context, o *Options, m *onnx.Model, p part, most int64) (*trial.Held, error) {
	h, err := trial.New(ctx, m, trial.Options{Data: o.Calibration, Batch: o.Batch, Keep: p.held, Most: most, Open: o.Open, Session: o.Session})
	if err != nil {
		return nil, fmt.Errorf("held-out data: %w", err)
	}
	return h, nil
}

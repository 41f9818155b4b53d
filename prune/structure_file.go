package prune

import (
	"context"
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
	"github.com/lapidary-ml/lapidary/internal/trial"
)

// ShrinkOptions steers removal by structure from file to file.
type ShrinkOptions struct {
	StructureOptions

	Rewrite  rewrite.Options
	Step     report.Step     // what to record in the model
	Verify   *produce.Verify // how to run the result; nil: not at all
	Guard    *produce.Guard  // what the result is held against; nil: nothing
	InPlace  bool
	External onnxfile.External
}

// Shrunk says what was done.
type Shrunk struct {
	*produce.Result
	Structure *Structure `json:"structure"`
	Goal      *Goal      `json:"goal,omitempty"` // absent where the share of units was given
}

// MissedGoal is the error where no share of units met the goal; the nearest was written.
type MissedGoal struct{ Goal *Goal }

func (e *MissedGoal) Error() string {
	return fmt.Sprintf("%s: not reached; the nearest, with %.4g, was written", e.Goal.Want, e.Goal.Reached)
}

// Shrink writes the model at src without its least important units to dst, after
// running it. Where a goal is not met the error is a *MissedGoal, and the nearest
// result is written.
func Shrink(ctx context.Context, dst, src string, o ShrinkOptions) (*Shrunk, error) {
	j, err := newShrinkJob(&o)
	if err != nil {
		return nil, err
	}
	defer j.close()
	r, err := produce.File(ctx, dst, src, j.transform, produce.Options{Step: o.Step, Rewrite: o.Rewrite, Verify: finitely(o.Verify), Guard: o.Guard,
		InPlace: o.InPlace, External: o.External, Progress: o.Progress})
	if err != nil {
		return nil, err
	}
	out := &Shrunk{Result: r, Structure: j.result(), Goal: j.units.goal}
	if out.Goal != nil && !out.Goal.Met {
		return out, &MissedGoal{out.Goal}
	}
	return out, nil
}

// ShrinkTransform returns what [Shrink] does to a model, and how the result is to
// be checked, for a caller that looks into the rewriting itself, and calls done in
// the end.
func ShrinkTransform(o ShrinkOptions) (t produce.Transform, v *produce.Verify, done func(), err error) {
	j, err := newShrinkJob(&o)
	if err != nil {
		return nil, nil, nil, err
	}
	return j.transform, finitely(o.Verify), j.close, nil
}

// finitely returns v with outputs that need only be finite: pruning is meant to
// change them.
func finitely(v *produce.Verify) *produce.Verify {
	if v == nil {
		return nil
	}
	w := *v
	w.Tolerance = finite
	return &w
}

// shrinkJob is one model on its way, of which there may be several attempts; what
// was measured for the first serves all.
type shrinkJob struct {
	o      *ShrinkOptions
	units  structured
	blocks layered
}

func newShrinkJob(o *ShrinkOptions) (*shrinkJob, error) {
	o.Dims = o.Rewrite.Dims
	if err := o.StructureOptions.validate(); err != nil {
		return nil, err
	}
	return &shrinkJob{o: o, units: structured{o: &o.StructureOptions}, blocks: layered{o: &o.StructureOptions}}, nil
}

func (j *shrinkJob) close() {
	for _, h := range []*trial.Held{j.units.held, j.blocks.held} {
		h.Close()
	}
}

func (j *shrinkJob) result() *Structure {
	if j.o.Pattern == Layers {
		return j.blocks.result
	}
	return j.units.result
}

// transform prunes a copy of the model.
func (j *shrinkJob) transform(ctx context.Context, m *onnx.Model, ro rewrite.Options) (*rewrite.Log, error) {
	j.units.done, j.blocks.done = false, false
	var pass rewrite.Pass = &j.units
	if j.o.Pattern == Layers {
		pass = &j.blocks
	}
	log, err := rewrite.Run(ctx, m, []rewrite.Pass{pass}, nil, ro)
	if err == nil {
		err = j.nothing(log, ro)
	}
	return log, err
}

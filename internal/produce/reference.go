package produce

import (
	"context"
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/compare"
	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// The stages in which a result can fail.
const (
	StageLoad = "load"
	StageRun  = "run"
)

// Failure is the error of a result that does not load or does not run.
type Failure struct {
	Stage string // StageLoad or StageRun
	Level session.Level
	Err   error
}

func (f *Failure) Error() string {
	if f.Stage == StageLoad {
		return fmt.Sprintf("the result does not load: %v", f.Err)
	}
	return fmt.Sprintf("running the result with the engine's optimizations %s: %v", levelName(f.Level), f.Err)
}

func (f *Failure) Unwrap() error { return f.Err }

// Reference is what an original computes, to hold results against.
type Reference struct{ r *reference }

// Prepare runs the original at path at every level, one sample twice: outputs that
// come out otherwise are left out of the comparison.
func (v *Verify) Prepare(ctx context.Context, path string) (*Reference, error) {
	r, err := v.prepare(ctx, v.at(path), true)
	if err != nil {
		return nil, err
	}
	return &Reference{r}, nil
}

// Check runs the result at path and compares it with ref. The error is a
// *[Mismatch] where it runs and differs, a *[Failure] where it does not.
func (v *Verify) Check(ctx context.Context, path string, ref *Reference) (*Checked, error) {
	return v.check(ctx, v.at(path), ref.r)
}

// at opens the model at path.
func (v *Verify) at(path string) access {
	return func(ctx context.Context, level session.Level) (session.Session, func(), error) {
		s, err := v.open(ctx, path, level)
		if err != nil {
			return nil, nil, err
		}
		return s, func() { s.Close() }, nil
	}
}

// Samples returns what the original was run on.
func (r *Reference) Samples() []*dataset.Sample { return r.r.samples }

// Source says where the samples come from: data or synthetic.
func (r *Reference) Source() string { return r.r.source }

// Distance compares one output under the tolerance in force.
func (v *Verify) Distance(output string, want, got *onnx.Tensor) (*compare.Distance, error) {
	return v.distance(output, want, got)
}

// LevelName says how far the engine's own optimizations went, in messages.
func LevelName(l session.Level) string { return levelName(l) }

// Inputs returns samples for the model that s holds without running it: those
// of the data, else generated ones with symbolic dimensions of the given size.
func (v *Verify) Inputs(ctx context.Context, s session.Session, size int64) ([]*dataset.Sample, error) {
	count := v.Samples
	if count == 0 {
		count = 4
	}
	set := v.Data
	if set == nil {
		var err error
		set, err = dataset.Open(fmt.Sprintf("synthetic:%d", count), dataset.Options{
			Inputs: ports(v.shaped(s.Inputs())), Dims: fillDims(v.shaped(s.Inputs()), v.Dims, size), Seed: v.Seed})
		if err != nil {
			return nil, err
		}
		defer set.Close()
	}
	var out []*dataset.Sample
	err := take(ctx, set, count, &out)
	return out, err
}

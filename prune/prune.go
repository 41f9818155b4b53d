package prune

import (
	"context"
	"fmt"
	"math"

	"github.com/lapidary-ml/lapidary/internal/compare"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// Scope says over what weights are ranked against each other.
type Scope string

// The scopes.
const (
	Global Scope = "global" // all weights of the model together
	Layer  Scope = "layer"  // the weights of each tensor by themselves
)

// Options steers pruning.
type Options struct {
	Sparsity float64  // share of the weights to be zero, in [0, 1)
	Scope    Scope    // "" is Global
	Include  []string // operators or names of nodes or weights to prune, no others; patterns as of path.Match
	Exclude  []string // likewise, to leave alone

	Rewrite  rewrite.Options
	Step     report.Step     // what to record in the model
	Verify   *produce.Verify // how to run the result; nil: not at all
	InPlace  bool
	External onnxfile.External
	Progress func(stage string)
}

// Result says what was done.
type Result struct {
	*produce.Result
	Weights []Weight `json:"weights"`
	Before  float64  `json:"zeros_before"` // share of zeros among the weights that were considered
	After   float64  `json:"zeros_after"`
}

// Weight is one weight tensor.
type Weight struct {
	Name      string  `json:"name"`
	Node      string  `json:"node"` // the first node that reads it
	Op        string  `json:"op"`
	Shape     []int64 `json:"shape"`
	Elements  int64   `json:"elements"`
	Before    int64   `json:"zeros_before"`
	After     int64   `json:"zeros_after"`
	Threshold float64 `json:"threshold"` // magnitudes below it are zero
}

func (o *Options) validate() error {
	if math.IsNaN(o.Sparsity) || o.Sparsity < 0 || o.Sparsity >= 1 {
		return fmt.Errorf("sparsity %v is not a share from 0 to below 1", o.Sparsity)
	}
	if o.Scope == "" {
		o.Scope = Global
	}
	if o.Scope != Global && o.Scope != Layer {
		return fmt.Errorf("scope %q is unknown; want global or layer", o.Scope)
	}
	return checkPatterns(append(append([]string(nil), o.Include...), o.Exclude...))
}

// finite accepts any outputs that are finite wherever the original's are:
// pruning is meant to change them, and how much is for validate to judge.
func finite(string, onnx.DType) compare.Class {
	return compare.Class{Name: "finite", ATol: math.Inf(1), Why: "pruning changes the outputs on purpose"}
}

// File writes the pruned form of the model at src to dst, after running it.
func File(ctx context.Context, dst, src string, o Options) (*Result, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	if o.Verify != nil {
		v := *o.Verify
		v.Tolerance = finite
		o.Verify = &v
	}
	var done *magnitude
	r, err := produce.File(ctx, dst, src, func(ctx context.Context, m *onnx.Model, ro rewrite.Options) (*rewrite.Log, error) {
		done = &magnitude{o: o}
		return rewrite.Run(ctx, m, []rewrite.Pass{done}, nil, ro)
	}, produce.Options{Step: o.Step, Rewrite: o.Rewrite, Verify: o.Verify, InPlace: o.InPlace, External: o.External, Progress: o.Progress})
	if err != nil {
		return nil, err
	}
	out := &Result{Result: r, Weights: done.weights}
	var all, before, after int64
	for _, w := range out.Weights {
		all, before, after = all+w.Elements, before+w.Before, after+w.After
	}
	if all > 0 {
		out.Before, out.After = float64(before)/float64(all), float64(after)/float64(all)
	}
	return out, nil
}

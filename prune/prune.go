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

// passName is how logs and --disable call pruning by magnitude.
const passName = Magnitude

// Options steers pruning.
type Options struct {
	Sparsity float64  // share of the weights to be zero, in [0, 1); N:M settles it
	Scope    Scope    // "" is as the importance has it: Global for magnitude, Row for the others, Layer for their blocks; N:M has none
	Include  []string // operators or names of nodes or weights to prune, no others; patterns as of path.Match
	Exclude  []string // likewise, to leave alone

	MaskOptions
	DataOptions

	Rewrite  rewrite.Options
	Step     report.Step     // what to record in the model; the digest of Calibration is filled in
	Verify   *produce.Verify // how to run the result; nil: not at all
	Guard    *produce.Guard  // what the result is held against; nil: nothing
	InPlace  bool
	External onnxfile.External
	Progress func(stage string)

	masks masks
}

func (o *Options) progress(stage string) {
	if o.Progress != nil {
		o.Progress(stage)
	}
}

// Result says what was done.
type Result struct {
	*produce.Result
	Pattern     string         `json:"pattern"`
	Importance  string         `json:"importance"`
	Repair      []string       `json:"repair,omitempty"` // repairs that were tried
	Weights     []Weight       `json:"weights"`
	Before      float64        `json:"zeros_before"` // share of zeros among the weights that were considered
	After       float64        `json:"zeros_after"`
	Calibration *Calibration   `json:"calibration,omitempty"` // absent where nothing was measured
	Audit       []Audited      `json:"audit,omitempty"`       // of every weight of the output; absent for unstructured
	Sparse      *SparseStorage `json:"sparse,omitempty"`      // absent where it was not asked for
}

// Calibration describes the data on which layers were measured.
type Calibration struct {
	Samples   int64  `json:"samples"`
	Passes    int    `json:"passes"` // over the data; more than one where memory is limited
	Digest    string `json:"digest"` // SHA-256 over the samples, as dataset.Set.Digest
	Synthetic bool   `json:"synthetic,omitempty"`
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
	Threshold float64 `json:"threshold,omitempty"` // magnitudes below it are zero; absent where there is none

	Importance string     `json:"importance"`           // by which its weights were ranked
	Unmeasured string     `json:"unmeasured,omitempty"` // why its magnitudes are all that was looked at
	Error      *float64   `json:"error,omitempty"`      // share of the power of its output that is lost, on rows that nothing was fitted to
	Repairs    []Repaired `json:"repairs,omitempty"`    // in the order in which they were tried
}

func (o *Options) validate() error {
	if math.IsNaN(o.Sparsity) || o.Sparsity < 0 || o.Sparsity >= 1 {
		return fmt.Errorf("sparsity %v is not a share from 0 to below 1", o.Sparsity)
	}
	if err := o.validateMask(); err != nil {
		return err
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
	out := &Result{Pattern: o.masks.pattern.String(), Importance: o.Importance, Repair: o.masks.repairs}
	if o.measured() {
		o.progress("reading the calibration data")
		digest, err := o.Calibration.Digest(ctx)
		if err != nil {
			return nil, fmt.Errorf("calibration data: %w", err)
		}
		o.Step.Calibration = []string{digest}
		out.Calibration = &Calibration{Digest: digest, Synthetic: o.Synthetic}
	}
	w := newWork(&o)
	defer w.close()
	var err error
	out.Result, err = produce.File(ctx, dst, src, w.transform, produce.Options{Step: o.Step, Rewrite: o.Rewrite, Verify: o.verify(),
		Guard: o.Guard, InPlace: o.InPlace, External: o.External, Progress: o.Progress})
	if err != nil {
		return nil, err
	}
	w.describe(out)
	if p := o.masks.pattern; p.grouped() || p.blocked() {
		if out.Audit, err = Audit(dst, o.Pattern); err != nil {
			return nil, err
		}
	}
	return out, nil
}

package fuse

import (
	"context"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// Options steers fusing; the zero value applies every rule.
type Options struct {
	KeepInputs bool             // leave inputs with a default value overridable
	MaxGrowth  int64            // bytes by which folding one node may grow the model; 0: 1 MiB, negative: none
	Dims       map[string]int64 // sizes of symbolic dimensions of the inputs
	// InputShapes gives inputs whole shapes by name; −1 leaves a dimension as it is.
	InputShapes     map[string][]int64
	InlineFunctions bool            // replace every call of a local function by its body
	Unroll          int64           // write out loops of at most so many iterations; 0: none
	Reorder         bool            // order nodes for a lower peak of activation memory
	Opset           int64           // raise the standard opset to this version; 0: keep it
	Rewrite         rewrite.Options // rule selection and limits
	FoldLarge       Large           // computes constants beyond the interpreter; nil: they stay
	Target          Target          // what the result is to run on
	Enable          []string        // rules to run that are off unless asked for, here or in Rewrite.Only

	// Moves that change what the model computes, off unless asked for.
	TrimTail            []Tail // operators to cut off the outputs
	DropConstantOutputs bool   // remove outputs that do not depend on any input

	Step     report.Step     // what to record in the model
	Verify   *produce.Verify // how to check the result; nil: not at all
	Guard    *produce.Guard  // what the result must not lose; nil: nothing is compared
	InPlace  bool
	External onnxfile.External
	Progress func(stage string)
	// SaveOptimized asks for the engine's own graph as a second file.
	SaveOptimized *produce.SaveOptimized

	prints *prints // of weights, over all rewritings of one file
}

// defaultGrowth is how much one folded node may grow a model.
const defaultGrowth = 1 << 20

func (o Options) foldLimit() int64 {
	switch {
	case o.MaxGrowth == 0:
		return defaultGrowth
	case o.MaxGrowth < 0:
		return 0
	}
	return o.MaxGrowth
}

// Result says what was done.
type Result = produce.Result

// File writes the fused form of the model at src to dst, after running both.
func File(ctx context.Context, dst, src string, o Options) (*Result, error) {
	o.prints = newPrints()
	if o.Guard != nil {
		g := *o.Guard
		g.Asked = append(slices.Clone(g.Asked), o.asked()...)
		o.Guard = &g
	}
	return produce.File(ctx, dst, src, func(ctx context.Context, m *onnx.Model, ro rewrite.Options) (*rewrite.Log, error) {
		o.Rewrite = ro
		return Model(ctx, m, o)
	}, produce.Options{Step: o.Step, Rewrite: o.Rewrite, Verify: o.Verify, Guard: o.Guard, InPlace: o.InPlace, External: o.External,
		SaveOptimized: o.SaveOptimized, Cut: o.cut(), Progress: o.Progress})
}

// asked returns the passes that run because somebody asked for them.
func (o Options) asked() []string {
	out := slices.Clone(o.Enable)
	if o.Opset > 0 {
		out = append(out, raise{}.Name())
	}
	if o.InlineFunctions {
		out = append(out, inlineFunctions{}.Name())
	}
	if o.Reorder {
		out = append(out, reorder{}.Name())
	}
	if o.Unroll > 0 {
		out = append(out, unroll{}.Name())
	}
	return out
}

// Model fuses m in place, without running it.
func Model(ctx context.Context, m *onnx.Model, o Options) (*rewrite.Log, error) {
	if o.prints == nil {
		o.prints = newPrints()
	}
	list, err := passes(o)
	if err != nil {
		return nil, err
	}
	if err := fixDims(m, o.Dims); err != nil {
		return nil, err
	}
	if err := fixShapes(m, o.InputShapes); err != nil {
		return nil, err
	}
	log, err := rewrite.Run(ctx, m, list, order, o.Rewrite)
	if err == nil && len(o.Dims)+len(o.InputShapes) > 0 {
		err = reportDynamic(m, log)
	}
	if err == nil {
		attentionNotice(log)
		o.Target.notice(m, log)
		noteConstantOutputs(m, log)
	}
	return log, err
}

package main

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/lapidary-ml/lapidary/fuse"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
	"github.com/spf13/cobra"
)

// fuseFlags are the flags that say what fuse does to a model.
type fuseFlags struct {
	rf         rewriteFlags
	ef         engineFlags
	df         dataFlags
	gf         guardFlags
	keepInputs bool
	target     string
	enable     []string
	shapes     map[string]string
	inline     bool
	unroll     int64
	opset      int64
	reorder    bool
	growth     int64 // KiB
	trim       []string
	dropConst  bool
	lowRank    float64
	minSQNR    float64
}

func (f *fuseFlags) register(c *cobra.Command) {
	f.rf.register(c)
	f.rf.registerRules(c)
	f.ef.register(c)
	f.df.register(c, "inputs for the check of the result")
	f.gf.register(c)
	p := c.Flags()
	p.BoolVar(&f.keepInputs, "keep-inputs", false, "leave inputs with a default value overridable")
	p.StringVar(&f.target, "target", fuse.TargetNames[0], "what the result is to run on: "+strings.Join(fuse.TargetNames, ", ")+", or auto (by --device)")
	p.StringSliceVar(&f.enable, "enable", nil, "rules to apply that are off unless asked for, beside the others: conv-merge, matmul-merge, norm-matmul")
	p.StringToStringVar(&f.shapes, "input-shape", nil, "whole shape of an input, as `NAME=1x3x224x224`; -1 leaves a dimension")
	p.BoolVar(&f.inline, "inline-functions", false, "replace calls of local functions by their bodies")
	p.Int64Var(&f.unroll, "unroll", 0, "write out loops of at most `N` iterations")
	p.Int64Var(&f.opset, "opset", 0, "raise the standard opset to at least `N`")
	p.BoolVar(&f.reorder, "reorder", false, "order nodes so that less memory is needed at once by an engine that keeps the file's order (ONNX Runtime does not)")
	p.Int64Var(&f.growth, "max-growth", 1024, "KiB by which folding one node may grow the model")
	p.StringSliceVar(&f.trim, "trim-tail", nil, "operators to cut off the outputs: argmax, softmax; the outputs then carry what these read")
	p.BoolVar(&f.dropConst, "drop-constant-outputs", false, "remove the outputs that do not depend on any input")
	p.Float64Var(&f.lowRank, "low-rank", 0, "replace weights by a product of two smaller ones with at most this share of the multiplications, in (0, 1); needs --data; 0: off")
	p.Float64Var(&f.minSQNR, "min-sqnr", 40, "dB that every output must keep with --low-rank")
}

// options turns the flags into fuse's options for a model, and returns the engine
// that checks the result, nil for none; done releases what they hold.
func (f *fuseFlags) options(ctx context.Context, a *app, model string) (o fuse.Options, e *engine, done func(), err error) {
	var known []string
	for _, r := range fuse.RuleNames() {
		known = append(known, r[0])
	}
	if o.Rewrite, err = f.rf.rules(known); err != nil {
		return o, nil, nil, err
	}
	if o.TrimTail, err = fuse.ParseTails(f.trim); err != nil {
		return o, nil, nil, usageError{err}
	}
	if err := f.checkLowRank(); err != nil {
		return o, nil, nil, err
	}
	if o.InputShapes, err = parseShapes(f.shapes); err != nil {
		return o, nil, nil, err
	}
	if f.unroll < 0 || f.opset < 0 {
		return o, nil, nil, usagef("--unroll and --opset must not be negative")
	}
	for _, name := range f.enable {
		if !slices.Contains(known, name) {
			return o, nil, nil, usagef("there is no rule %q to enable", name)
		}
	}
	o.Enable = f.enable
	if o.Target, err = a.fuseTarget(ctx, &f.target, f.ef); err != nil {
		return o, nil, nil, err
	}
	if e, o.Verify, done, err = a.verificationBy(ctx, &f.rf, f.ef, &f.df, model); err != nil {
		return o, nil, nil, err
	}
	if o.Verify != nil {
		o.FoldLarge = fuse.ByRuntime(o.Verify.Open, o.Verify.Session)
		o.Verify.Shapes = o.InputShapes
	}
	o.KeepInputs, o.DropConstantOutputs, o.Dims = f.keepInputs, f.dropConst, f.df.dims
	o.InlineFunctions, o.Unroll, o.Opset, o.Reorder = f.inline, f.unroll, f.opset, f.reorder
	if o.MaxGrowth = f.growth << 10; f.growth == 0 {
		o.MaxGrowth = -1
	}
	return o, e, done, nil
}

// parseShapes reads shapes such as 1x3x224x224; a scalar is empty.
func parseShapes(given map[string]string) (map[string][]int64, error) {
	out := map[string][]int64{}
	for name, text := range given {
		shape := []int64{}
		for _, part := range strings.FieldsFunc(text, func(r rune) bool { return r == 'x' }) {
			n, err := strconv.ParseInt(part, 10, 64)
			if err != nil {
				return nil, usagef("--input-shape %s=%s: %q is not a size; write sizes with x between them, as 1x3x224x224", name, text, part)
			}
			shape = append(shape, n)
		}
		out[name] = shape
	}
	return out, nil
}

// checkLowRank checks the flags of low-rank factorization against each other.
func (f *fuseFlags) checkLowRank() error {
	switch {
	case f.lowRank == 0:
		return nil
	case f.lowRank < 0 || f.lowRank >= 1:
		return usagef("--low-rank %v is not a share between 0 and 1", f.lowRank)
	case f.rf.noVerify:
		return usagef("--low-rank changes what the model computes and is measured as it goes; it cannot be had with --no-verify")
	case f.df.spec == "":
		return usagef("--low-rank is judged by the error on data; give some with --data")
	}
	return nil
}

// transformation prepares fuse for bisecting.
func (f *fuseFlags) transformation(ctx context.Context, a *app, model string) (*transformation, error) {
	if len(f.trim) > 0 || f.dropConst || f.lowRank != 0 {
		return nil, usagef("--trim-tail, --drop-constant-outputs and --low-rank change the outputs on purpose; leave them out to look for a wrong rewrite")
	}
	o, _, done, err := f.options(ctx, a, model)
	if err != nil {
		return nil, err
	}
	with := func(o fuse.Options) produce.Transform {
		return func(ctx context.Context, m *onnx.Model, ro rewrite.Options) (*rewrite.Log, error) {
			o.Rewrite = ro
			return fuse.Model(ctx, m, o)
		}
	}
	t := &transformation{apply: with(o), rewrite: o.Rewrite, verify: o.Verify, done: done}
	o.Dims, o.InputShapes = nil, nil
	t.fixed = with(o)
	return t, nil
}

func (a *app) fuseCommand() *cobra.Command {
	var f fuseFlags
	var list bool
	var variants []string
	c := &cobra.Command{
		Use:   "fuse MODEL -o OUT",
		Short: "Simplify a model without changing what it computes",
		Long: `fuse folds constants, removes operators that do nothing and results computed
twice, moves arithmetic into weights, and recognises activations, normalizations
and attention in the arithmetic that spells them out.

Inputs that have a default value (weights that a caller could override) become
constants; --keep-inputs leaves them. The result has standard operators of the
model's own opset, unless --target names a runtime: then it may have that
runtime's own operators, those that the installed one is found to have. Original
and result are run on the same inputs with the engine's own optimizations off and
on; a rewrite that changes a result is left out, alone, and named. So is one for
which the engine itself fuses less, or which makes the model slower on this
device. --explain says what was done where, and why the rest was left; lapidary
bisect finds a wrong rewrite.

With --variant NAME:DIM=N,… one model is written per variant, its symbolic
dimensions fixed: OUT-NAME.onnx. --trim-tail, --drop-constant-outputs and
--low-rank change what the model computes, and do nothing unless asked for.`,
		Example: "  lapidary fuse model.onnx -o fused.onnx\n  lapidary fuse model.onnx -o fused.onnx --dim N=1 --explain\n" +
			"  lapidary fuse model.onnx -o fused.onnx --variant one:N=1 --variant batch:N=32\n  lapidary fuse --list-rules",
		Args: func(c *cobra.Command, args []string) error {
			if list {
				return cobra.NoArgs(c, args)
			}
			return cobra.ExactArgs(1)(c, args)
		},
		RunE: func(c *cobra.Command, args []string) error {
			if list {
				return a.listRules()
			}
			return a.fuse(c, args[0], &f, variants)
		},
	}
	f.register(c)
	c.Flags().BoolVar(&list, "list-rules", false, "print the rules that there are, and what each does")
	c.Flags().StringArrayVar(&variants, "variant", nil, "write a model with dimensions fixed, as `NAME:DIM=N,DIM=N`; may be repeated")
	return c
}

func (a *app) fuse(c *cobra.Command, model string, f *fuseFlags, variants []string) error {
	ctx := c.Context()
	dst, err := f.rf.target(model)
	if err != nil {
		return err
	}
	o, e, done, err := f.options(ctx, a, model)
	if err != nil {
		return err
	}
	defer done()
	if o.External, err = f.rf.externalMode(); err != nil {
		return err
	}
	if o.Guard, err = f.gf.guard(a, e, o.Target.Name); err != nil {
		return err
	}
	if o.SaveOptimized, err = f.gf.saving(e, dst); err != nil {
		return err
	}
	s := a.spin()
	defer s.finish()
	o.Step, o.InPlace, o.Progress = step(c, "list-rules"), f.rf.inPlace, s.stage
	if len(variants) > 0 {
		return a.fuseVariants(ctx, dst, model, f, o, variants, s)
	}
	r, err := f.produce(ctx, dst, model, o)
	s.finish()
	if err != nil {
		return err
	}
	if err := a.printRewritten("fuse", r, &f.rf, nil); err != nil {
		return err
	}
	return unsaved(r.Optimized)
}

// produce writes the fused model, factored where that was asked for.
func (f *fuseFlags) produce(ctx context.Context, dst, src string, o fuse.Options) (*produce.Result, error) {
	if f.lowRank == 0 {
		return fuse.File(ctx, dst, src, o)
	}
	return fuse.LowRankFile(ctx, dst, src, o, fuse.LowRank{Ratio: f.lowRank, MinSQNR: f.minSQNR})
}

package main

import (
	"slices"
	"strconv"
	"strings"

	"github.com/lapidary-ml/lapidary/fuse"
	"github.com/spf13/cobra"
)

func (a *app) fuseCommand() *cobra.Command {
	var o fuse.Options
	var rf rewriteFlags
	var ef engineFlags
	var df dataFlags
	var gf guardFlags
	var growth int64
	var shapes map[string]string
	c := &cobra.Command{
		Use:   "fuse MODEL -o OUT",
		Short: "Simplify a model without changing what it computes",
		Long: `fuse folds constants, removes operators that do nothing and results computed
twice, and folds normalizations and biases into the weights before them.

Inputs that have a default value (weights that a caller could override) become
constants; --keep-inputs leaves them. The result has standard operators of the
model's own opset, unless --target names a runtime: then it may have that
runtime's own operators, those that the installed one is found to have. Original and result are run on the same
inputs with the engine's own optimizations off and on; a rewrite that changes a
result is left out, alone, and named. So is one for which the engine itself
fuses less, or which makes the model slower on this device.`,
		Example: "  lapidary fuse model.onnx -o fused.onnx\n  lapidary fuse model.onnx -o fused.onnx --dim N=1 --explain",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			o.MaxGrowth = growth << 10
			if growth == 0 {
				o.MaxGrowth = -1
			}
			var err error
			if o.InputShapes, err = parseShapes(shapes); err != nil {
				return err
			}
			return a.fuse(c, args[0], o, &rf, ef, &df, &gf)
		},
	}
	rf.register(c)
	rf.registerRules(c)
	ef.register(c)
	df.register(c, "inputs for the check of the result")
	gf.register(c)
	c.Flags().BoolVar(&o.KeepInputs, "keep-inputs", false, "leave inputs with a default value overridable")
	c.Flags().String("target", fuse.TargetNames[0], "what the result is to run on: "+strings.Join(fuse.TargetNames, ", ")+", or auto (by --device)")
	c.Flags().StringSliceVar(&o.Enable, "enable", nil, "rules to apply that are off unless asked for, beside the others: conv-merge, matmul-merge, norm-matmul")
	c.Flags().StringToStringVar(&shapes, "input-shape", nil, "whole shape of an input, as `NAME=1x3x224x224`; -1 leaves a dimension")
	c.Flags().BoolVar(&o.InlineFunctions, "inline-functions", false, "replace calls of local functions by their bodies")
	c.Flags().Int64Var(&o.Unroll, "unroll", 0, "write out loops of at most `N` iterations")
	c.Flags().Int64Var(&o.Opset, "opset", 0, "raise the standard opset to at least `N`")
	c.Flags().BoolVar(&o.Reorder, "reorder", false, "order nodes so that less memory is needed at once by an engine that keeps the file's order (ONNX Runtime does not)")
	c.Flags().Int64Var(&growth, "max-growth", 1024, "KiB by which folding one node may grow the model")
	return c
}

func (a *app) fuse(c *cobra.Command, model string, o fuse.Options, rf *rewriteFlags, ef engineFlags, df *dataFlags, gf *guardFlags) error {
	ctx := c.Context()
	dst, err := rf.target(model)
	if err != nil {
		return err
	}
	if o.External, err = rf.externalMode(); err != nil {
		return err
	}
	var known []string
	for _, r := range fuse.RuleNames() {
		known = append(known, r[0])
	}
	if o.Rewrite, err = rf.rules(known); err != nil {
		return err
	}
	for _, name := range o.Enable {
		if !slices.Contains(known, name) {
			return usagef("there is no rule %q to enable", name)
		}
	}
	if o.Target, err = a.fuseTarget(ctx, c, ef); err != nil {
		return err
	}
	e, verify, done, err := a.verificationBy(ctx, rf, ef, df, model)
	if err != nil {
		return err
	}
	defer done()
	if o.Guard, err = gf.guard(a, e, o.Target.Name); err != nil {
		return err
	}
	if o.SaveOptimized, err = gf.saving(e, dst); err != nil {
		return err
	}
	if verify != nil {
		verify.Shapes = o.InputShapes
		o.FoldLarge = fuse.ByRuntime(verify.Open, verify.Session)
	}
	s := a.spin()
	defer s.finish()
	o.Dims, o.Verify, o.Step, o.InPlace, o.Progress = df.dims, verify, step(c), rf.inPlace, s.stage
	r, err := fuse.File(ctx, dst, model, o)
	s.finish()
	if err != nil {
		return err
	}
	if err := a.printRewritten("fuse", r, rf, nil); err != nil {
		return err
	}
	return unsaved(r.Optimized)
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

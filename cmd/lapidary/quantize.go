package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/quantize"
	"github.com/spf13/cobra"
)

// quantizeFlags are the flags that say what quantize does to a model.
type quantizeFlags struct {
	o  quantize.Options
	rf rewriteFlags
	ef engineFlags
	df dataFlags
	wf weightFlags
	to string

	memory int64 // MiB
}

func (f *quantizeFlags) register(c *cobra.Command) {
	f.rf.register(c)
	f.ef.register(c)
	f.df.register(c, "calibration data, and inputs for the check of the result")
	f.wf.register(c, &f.o.WeightOptions)
	p, o := c.Flags(), &f.o
	p.StringVar(&f.to, "to", "int8", "what to quantize to: int8, int4 (weights only) or fp16")
	p.BoolVar(&o.Dynamic, "dynamic", false, "int8: measure the ranges of activations while the model runs")
	p.BoolVar(&o.PerTensor, "per-tensor", false, "int8: one scale per weight tensor instead of one per output channel")
	p.BoolVar(&o.ReduceRange, "reduce-range", false, "int8: weights in 7 bits, for x86 processors without VNNI")
	p.StringVar(&o.Method, "calibrate", "auto", "static int8: how the range of a tensor is found: "+strings.Join(quantize.Methods(), ", "))
	p.StringVar(&o.Statistics, "statistics", "", "`FILE` that keeps what calibration measured: an interrupted one goes on from it, a later one with the same model and data uses it")
	p.IntVar(&o.Workers, "calibration-workers", 0, "calibration runs at once, each in a process of its own; 0: 1")
	p.Int64Var(&f.memory, "max-memory", 0, "MiB of activations in memory at once during calibration; 0: no limit")
	p.StringSliceVar(&o.Include, "include", nil, "operators, nodes or weights to quantize, no others; * and ? match")
	p.StringSliceVar(&o.Exclude, "exclude", nil, "operators, nodes or weights to leave alone; * and ? match")
}

func (f *quantizeFlags) validate() error {
	f.o.To = quantize.Target(f.to)
	if f.o.To != quantize.Int8 && f.o.To != quantize.Float16 && f.o.To != quantize.Int4 {
		return usagef("--to %q is unknown; want int8, int4 or fp16", f.to)
	}
	if err := f.wf.validate(&f.o); err != nil {
		return err
	}
	switch {
	case !slices.Contains(quantize.Methods(), f.o.Method):
		return usagef("--calibrate %q is unknown; want one of %s", f.o.Method, strings.Join(quantize.Methods(), ", "))
	case f.memory < 0 || f.o.Workers < 0:
		return usagef("--max-memory and --calibration-workers must not be negative")
	}
	f.o.MaxMemory = f.memory << 20
	if f.o.To == quantize.Float16 && (f.o.Dynamic || f.o.PerTensor || f.o.ReduceRange) {
		return usagef("--dynamic, --per-tensor and --reduce-range are for int8, not for fp16")
	}
	return nil
}

// options turns the flags into quantize's options for a model; done releases what they hold.
func (f *quantizeFlags) options(ctx context.Context, a *app, model string) (o quantize.Options, done func(), err error) {
	if err := f.validate(); err != nil {
		return o, nil, err
	}
	o = f.o
	verify, release, err := a.verification(ctx, &f.rf, f.ef, &f.df, model)
	if err != nil {
		return o, nil, err
	}
	done = release
	o.Verify = verify
	if o.Calibration, err = f.df.open(model); err != nil {
		release()
		return o, nil, err
	}
	if o.Calibration == nil {
		return o, done, f.wf.probe(ctx, a, f, &o)
	}
	done = func() { o.Calibration.Close(); release() }
	o.Synthetic, o.Batch = o.Calibration.Synthetic(), f.df.batch
	e, err := a.engine(ctx, f.ef)
	if err != nil {
		done()
		return o, nil, err
	}
	o.Open, o.Session = e.open, e.options
	return o, done, nil
}

// transformation prepares quantize for bisecting.
func (f *quantizeFlags) transformation(ctx context.Context, a *app, model string) (*transformation, error) {
	o, done, err := f.options(ctx, a, model)
	if err != nil {
		return nil, err
	}
	t := &transformation{done: done}
	t.apply, t.verify, err = quantize.Transform(o)
	return t, err
}

func (a *app) quantizeCommand() *cobra.Command {
	var f quantizeFlags
	c := &cobra.Command{
		Use:   "quantize MODEL -o OUT --to int8|int4|fp16",
		Short: "Store and compute weights and activations in fewer bits",
		Long: `quantize writes a model in int8 or in FP16. With --data, int8 is static: the
ranges of activations are measured on the data. Without, or with --dynamic, they
are measured while the model runs. FP16 keeps float32 inputs and outputs, and
float32 where an operator needs its range. INT4, and int8 with --weight-only,
code the weights of matrix products and embeddings in blocks, and leave all that
is computed in floating point. Run fuse first: it folds normalizations into the
weights.`,
		Example: "  lapidary quantize model.onnx -o model.int8.onnx --to int8 --data calibration.npz\n" +
			"  lapidary quantize model.onnx -o model.int4.onnx --to int4 --method gptq --data calibration.npz\n" +
			"  lapidary quantize model.onnx -o model.fp16.onnx --to fp16",
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return a.quantize(c, args[0], &f) },
	}
	f.register(c)
	return c
}

func (a *app) quantize(c *cobra.Command, model string, f *quantizeFlags) error {
	ctx := c.Context()
	if err := f.validate(); err != nil {
		return err
	}
	dst, err := f.rf.target(model)
	if err != nil {
		return err
	}
	external, err := f.rf.externalMode()
	if err != nil {
		return err
	}
	o, done, err := f.options(ctx, a, model)
	if err != nil {
		return err
	}
	defer done()
	s := a.spin()
	defer s.finish()
	o.External, o.Step, o.InPlace, o.Progress = external, step(c), f.rf.inPlace, s.stage
	o.Calibrated = func(done, total int64) { s.stage(fmt.Sprintf("calibrating %d/%d", done, total)) }
	r, err := quantize.File(ctx, dst, model, o)
	s.finish()
	if err != nil {
		return err
	}
	if err := a.printRewritten("quantize", r.Result, &f.rf, r); err != nil || a.json() {
		return err
	}
	a.printQuantized(r, f.rf.explained() || a.verbose)
	return nil
}

func (a *app) printQuantized(r *quantize.Result, layers bool) {
	w := a.env.stdout
	fmt.Fprintf(w, "  %s: %d nodes quantized, %d kept in float32\n", r.Scheme, r.Quantized, r.Kept)
	if c := r.Calibration; c != nil {
		fmt.Fprintf(w, "  calibrated by %s on %d samples (sha256 %s)", c.Method, c.Samples, c.Digest)
		switch {
		case c.Passes == 0:
			fmt.Fprint(w, ", all from the file of statistics")
		case c.Reused > 0:
			fmt.Fprintf(w, ", %d of them from the file of statistics", c.Reused)
		}
		if c.Passes > 1 {
			fmt.Fprintf(w, ", in %d passes", c.Passes)
		}
		fmt.Fprintln(w)
	}
	if !layers {
		return
	}
	for _, l := range r.Layers {
		text := fmt.Sprintf("    %-10s %-12s %s", l.Type, l.Op, l.Output)
		for _, p := range []*quantize.Params{l.Input, l.Weight, l.Result} {
			if p != nil {
				text += fmt.Sprintf(", %s %s scale %.3g zero point %d", p.Tensor, p.Type, p.Scale, p.ZeroPoint)
			}
		}
		if l.Weights != nil {
			text += weightText(l.Weights)
		}
		if l.Reason != "" {
			text += ": " + l.Reason
		}
		fmt.Fprintln(w, strings.TrimRight(text, " "))
	}
}

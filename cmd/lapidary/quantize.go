package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/device"
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

	sf      searchFlags
	memory  int64  // MiB
	purpose string // speed or size
	target  string // cpu-…, or auto
}

func (f *quantizeFlags) register(c *cobra.Command) {
	f.rf.register(c)
	f.ef.register(c)
	f.df.register(c, "calibration data, and inputs for the check of the result")
	f.wf.register(c, &f.o.WeightOptions)
	p, o := c.Flags(), &f.o
	p.StringVar(&f.to, "to", "int8", "what to quantize to: int8, int4 (weights only), fp16 or bf16")
	registerHalf(p, o)
	p.BoolVar(&o.Dynamic, "dynamic", false, "int8: measure the ranges of activations while the model runs")
	p.BoolVar(&o.PerTensor, "per-tensor", false, "int8: one scale per weight tensor instead of one per output channel")
	p.BoolVar(&o.ReduceRange, "reduce-range", false, "int8: weights in 7 bits, for x86 processors without VNNI")
	p.StringVar(&o.Method, "calibrate", "auto", "static int8: how the range of a tensor is found: "+strings.Join(quantize.Methods(), ", "))
	p.StringVar(&o.Statistics, "statistics", "", "`FILE` that keeps what calibration measured: an interrupted one goes on from it, a later one with the same model and data uses it")
	p.IntVar(&o.Workers, "calibration-workers", 0, "calibration runs at once, each in a process of its own; 0: 1")
	p.Int64Var(&f.memory, "max-memory", 0, "MiB of activations in memory at once during calibration; 0: no limit")
	f.sf.register(p, &o.SearchOptions)
	p.StringVar(&f.target, "target", "auto", "static int8: what the model is for: "+strings.Join(quantizeTargets()[1:], ", ")+"; auto is this processor. Without VNNI, layers whose sums overflow get weights in 7 bits; for cuda and tensorrt pairs stand where TensorRT takes them in, and nothing is timed")
	registerCodes(p, &o.CodeOptions)
	p.BoolVar(&o.PredictISA, "predict-isa", false, "static int8: report what the model loses on processors without VNNI")
	p.StringVar(&f.purpose, "for", "speed", "int8: speed leaves in float32 what is not faster in int8 here, and refuses a model that is slower; size quantizes all it can")
	registerRecover(p, &o.RecoverOptions)
	p.StringSliceVar(&o.Include, "include", nil, "operators, nodes or weights to quantize, no others; * and ? match")
	p.StringSliceVar(&o.Exclude, "exclude", nil, "operators, nodes or weights to leave alone; * and ? match")
}

func (f *quantizeFlags) validate() error {
	f.o.To = quantize.Target(f.to)
	if err := validateHalf(&f.o); err != nil {
		return err
	}
	if err := f.wf.validate(&f.o); err != nil {
		return err
	}
	switch {
	case !slices.Contains(quantize.Methods(), f.o.Method):
		return usagef("--calibrate %q is unknown; want one of %s", f.o.Method, strings.Join(quantize.Methods(), ", "))
	case f.purpose != "speed" && f.purpose != "size":
		return usagef("--for %q is unknown; want speed or size", f.purpose)
	case !slices.Contains(quantizeTargets(), f.target):
		return usagef("--target %q is unknown; want one of %s", f.target, strings.Join(quantizeTargets(), ", "))
	case f.memory < 0 || f.o.Workers < 0:
		return usagef("--max-memory and --calibration-workers must not be negative")
	}
	if err := f.o.RecoverOptions.Check(); err != nil {
		return usageError{err}
	}
	if err := f.validateUse(); err != nil {
		return err
	}
	f.o.MaxMemory = f.memory << 20
	if err := f.sf.options(&f.o.SearchOptions); err != nil {
		return err
	}
	if err := f.validateCodes(); err != nil {
		return err
	}
	f.o.Speed = f.purpose == "speed" && f.o.To == quantize.Int8 && !f.o.WeightOnly && f.o.Accelerator == ""
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
	o.Times = a.timesCache(e)
	o.Saturates = o.Accelerator == "" && (f.target == "cpu-avx2" || f.target == "auto" && saturates(e.machine.CPU))
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

// quantizeTargets are what int8 models are made for.
func quantizeTargets() []string {
	return append([]string{"auto", "cpu-vnni", "cpu-avx2", "cpu-arm"}, quantize.Accelerators()...)
}

// saturates reports whether a processor adds products of int8 in 16 bits.
func saturates(c device.CPU) bool {
	if runtime.GOARCH != "amd64" {
		return false
	}
	return !slices.ContainsFunc(c.ISA, func(name string) bool {
		return strings.Contains(name, "vnni") || strings.HasPrefix(name, "amx")
	})
}

func (a *app) quantizeCommand() *cobra.Command {
	var f quantizeFlags
	c := &cobra.Command{
		Use:   "quantize MODEL -o OUT --to int8|int4|fp16|bf16",
		Short: "Store and compute weights and activations in fewer bits",
		Long: `quantize writes a model in int8, FP16 or BF16. With --data, int8 is static: the
ranges of activations are measured on the data. Without, or with --dynamic, they
are measured while the model runs. FP16 and BF16 keep float32 inputs and outputs,
and float32 where an operator needs its range or its bits: with --data the ranges
decide, and a run under emulated rounding. INT4, and int8 with --weight-only, code
the weights of matrix products and embeddings in blocks, and leave all that is
computed in floating point. Run fuse first: it folds normalizations into the
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
	o.Fates = f.rf.explained()
	o.Calibrated = func(done, total int64) { s.stage(fmt.Sprintf("calibrating %d/%d", done, total)) }
	r, err := quantize.File(ctx, dst, model, o)
	s.finish()
	var slow *quantize.NotFaster
	if errors.As(err, &slow) {
		return gateError{fmt.Errorf("%s: %w; write it all the same with --for size", model, slow)}
	}
	var nothing *quantize.Nothing
	if errors.As(err, &nothing) {
		return gateError{fmt.Errorf("%s: %w", model, nothing)}
	}
	if err != nil {
		return err
	}
	files, err := writeSearch(dst, r.Search)
	a.wrote(files...)
	if err == nil {
		err = f.sf.writeLayers(r)
	}
	if err != nil {
		return err
	}
	if err := a.printRewritten("quantize", r.Result, &f.rf, r); err != nil {
		return err
	}
	if !a.json() {
		a.printQuantized(r, f.rf.explain, a.verbose)
		printSearch(a.env.stdout, r.Search, files)
		printSensitivity(a.env.stdout, r.Sensitivity)
		printPredictions(a.env.stdout, r.Predictions)
	}
	if r.Search != nil && !r.Search.Met {
		return gateError{&quantize.OverBudget{Search: r.Search}}
	}
	return nil
}

func (a *app) printQuantized(r *quantize.Result, explain string, verbose bool) {
	w := a.env.stdout
	fmt.Fprintf(w, "  %s%s: %d nodes quantized, %d kept in float32\n", r.Scheme, codesText(r.Codes), r.Quantized, r.Kept)
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
	if len(r.Checks) > 0 {
		most := 0.
		for _, c := range r.Checks {
			most = max(most, c.Noise/c.Expected)
		}
		fmt.Fprintf(w, "  %d layers checked by themselves, with the engine's optimizations off and on: errors up to %.1f times what rounding explains\n", len(r.Checks), most)
	}
	printRecovery(w, r.Recovery)
	switch {
	case explain != "" && explain != "false" && explain != explainAll:
		printLayersNamed(w, r, explain)
		return
	case explain != explainAll && !verbose:
		return
	}
	for _, l := range r.Layers {
		text := fmt.Sprintf("    %-10s %-12s %s", l.Type, l.Op, l.Output)
		for _, p := range []*quantize.Params{l.Input, l.Weight, l.Result} {
			if p != nil {
				text += fmt.Sprintf(", %s %s scale %.3g zero point %d", p.Tensor, p.Type, p.Scale, p.ZeroPoint)
			}
		}
		text += fateText(l.Fate)
		if l.Weights != nil {
			text += weightText(l.Weights)
		}
		if why := l.Reason + l.Note; why != "" { // a node has one of them
			text += ": " + why
		}
		fmt.Fprintln(w, strings.TrimRight(text, " "))
	}
}

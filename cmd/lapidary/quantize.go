package main

import (
	"fmt"
	"strings"

	"github.com/lapidary-ml/lapidary/quantize"
	"github.com/spf13/cobra"
)

func (a *app) quantizeCommand() *cobra.Command {
	var o quantize.Options
	var rf rewriteFlags
	var ef engineFlags
	var df dataFlags
	var to string
	c := &cobra.Command{
		Use:   "quantize MODEL -o OUT --to int8|fp16",
		Short: "Store and compute weights and activations in fewer bits",
		Long: `quantize writes a model in int8 or in FP16. With --data, int8 is static: the
ranges of activations are measured on the data. Without, or with --dynamic, they
are measured while the model runs. FP16 keeps float32 inputs and outputs, and
float32 where an operator needs its range. Run fuse first: it folds
normalizations into the weights.`,
		Example: "  lapidary quantize model.onnx -o model.int8.onnx --to int8 --data calibration.npz\n" +
			"  lapidary quantize model.onnx -o model.fp16.onnx --to fp16",
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			o.To = quantize.Target(to)
			if o.To != quantize.Int8 && o.To != quantize.Float16 {
				return usagef("--to %q is unknown; want int8 or fp16", to)
			}
			if o.To == quantize.Float16 && (o.Dynamic || o.PerTensor || o.ReduceRange) {
				return usagef("--dynamic, --per-tensor and --reduce-range are for int8, not for fp16")
			}
			return a.quantize(c, args[0], o, &rf, ef, &df)
		},
	}
	rf.register(c)
	ef.register(c)
	df.register(c, "calibration data, and inputs for the check of the result")
	p := c.Flags()
	p.StringVar(&to, "to", "int8", "what to quantize to: int8 or fp16")
	p.BoolVar(&o.Dynamic, "dynamic", false, "int8: measure the ranges of activations while the model runs")
	p.BoolVar(&o.PerTensor, "per-tensor", false, "int8: one scale per weight tensor instead of one per output channel")
	p.BoolVar(&o.ReduceRange, "reduce-range", false, "int8: weights in 7 bits, for x86 processors without VNNI")
	p.StringSliceVar(&o.Include, "include", nil, "operators, nodes or weights to quantize, no others; * and ? match")
	p.StringSliceVar(&o.Exclude, "exclude", nil, "operators, nodes or weights to leave alone; * and ? match")
	return c
}

func (a *app) quantize(c *cobra.Command, model string, o quantize.Options, rf *rewriteFlags, ef engineFlags, df *dataFlags) error {
	ctx := c.Context()
	dst, err := rf.target(model)
	if err != nil {
		return err
	}
	if o.External, err = rf.externalMode(); err != nil {
		return err
	}
	verify, done, err := a.verification(ctx, rf, ef, df, model)
	if err != nil {
		return err
	}
	defer done()
	if o.Calibration, err = df.open(model); err != nil {
		return err
	}
	if o.Calibration != nil {
		defer o.Calibration.Close()
		o.Synthetic, o.Batch = o.Calibration.Synthetic(), df.batch
		e, err := a.engine(ctx, ef)
		if err != nil {
			return err
		}
		o.Open, o.Session = e.open, e.options
	}
	s := a.spin()
	defer s.finish()
	o.Verify, o.Step, o.InPlace, o.Progress = verify, step(c), rf.inPlace, s.stage
	o.Calibrated = func(done, total int64) { s.stage(fmt.Sprintf("calibrating %d/%d", done, total)) }
	r, err := quantize.File(ctx, dst, model, o)
	s.finish()
	if err != nil {
		return err
	}
	if err := a.printRewritten("quantize", r.Result, rf, r); err != nil || a.json() {
		return err
	}
	a.printQuantized(r, rf.explain || a.verbose)
	return nil
}

func (a *app) printQuantized(r *quantize.Result, layers bool) {
	w := a.env.stdout
	fmt.Fprintf(w, "  %s: %d nodes quantized, %d kept in float32\n", r.Scheme, r.Quantized, r.Kept)
	if c := r.Calibration; c != nil {
		fmt.Fprintf(w, "  calibrated by %s on %d samples (sha256 %s)\n", c.Method, c.Samples, c.Digest)
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
		if l.Reason != "" {
			text += ": " + l.Reason
		}
		fmt.Fprintln(w, strings.TrimRight(text, " "))
	}
}

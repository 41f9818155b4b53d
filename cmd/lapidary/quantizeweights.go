package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/lapidary-ml/lapidary/quantize"
	"github.com/spf13/cobra"
)

// weightFlags are the flags of quantizing weights only.
type weightFlags struct {
	c *cobra.Command
}

func (f *weightFlags) register(c *cobra.Command, o *quantize.WeightOptions) {
	f.c = c
	p := c.Flags()
	p.BoolVar(&o.WeightOnly, "weight-only", false, "int8: code weights only, in blocks, and compute in floating point")
	p.IntVar(&o.Bits, "bits", 0, "weights only: bits of a code, 2 to 8, where the runtime has kernels; 0: those of --to")
	p.IntVar(&o.BlockSize, "block-size", 128, "weights only: weights that share a scale: 16, 32, 64, 128 or 256")
	p.BoolVar(&o.Asymmetric, "asymmetric", false, "weights only: a zero point for each block")
	p.StringVar(&o.WeightMethod, "method", "auto", "weights only: how codes are found: "+strings.Join(quantize.WeightMethods(), ", "))
	p.StringVar(&o.Form, "form", "auto", "weights only: operators of the result: "+strings.Join(quantize.WeightForms(), ", "))
	p.Int64Var(&o.Accuracy, "accuracy-level", 0, "weights only: what MatMulNBits computes in: 0 the runtime's choice, 1 float32, 4 int8 activations")
}

// validate finds flags that are not of what is asked for.
func (f *weightFlags) validate(o *quantize.Options) error {
	if o.To == quantize.Int4 || o.To == quantize.Int8 && o.WeightOnly {
		if o.Dynamic || o.PerTensor || o.ReduceRange || o.Statistics != "" {
			return usagef("--dynamic, --per-tensor, --reduce-range and --statistics are for activations in int8, not for weights only")
		}
		return nil
	}
	for _, name := range []string{"weight-only", "bits", "block-size", "asymmetric", "method", "form", "accuracy-level"} {
		if f.c != nil && f.c.Flags().Changed(name) {
			return usagef("--%s is for quantizing weights only; add --to int4, or --to int8 --weight-only", name)
		}
	}
	return nil
}

// probe gives quantize the engine to ask for kernels. Where the result is not
// run either, there need not be one.
func (f *weightFlags) probe(ctx context.Context, a *app, q *quantizeFlags, o *quantize.Options) error {
	if o.To != quantize.Int4 && !o.WeightOnly {
		return nil
	}
	e, err := a.engine(ctx, q.ef)
	if err != nil {
		if q.rf.noVerify {
			return nil
		}
		return err
	}
	o.Open, o.Session = e.open, e.options
	return nil
}

// weightText describes how weights are coded, in a line.
func weightText(w *quantize.WeightLayer) string {
	text := fmt.Sprintf(", %s in blocks of %d, %s", w.Method, w.BlockSize, w.Form)
	if w.Why != "" {
		text += " (" + w.Why + ")"
	}
	return text
}

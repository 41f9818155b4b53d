package main

import (
	"github.com/lapidary-ml/lapidary/quantize"
	"github.com/spf13/pflag"
)

// registerHalf adds the flags of fp16 and bf16.
func registerHalf(p *pflag.FlagSet, o *quantize.Options) {
	p.BoolVar(&o.HalfIO, "io-half", false, "fp16, bf16: the float32 inputs and outputs of the model too")
	p.Float64Var(&o.HalfError, "half-error", 0, "fp16, bf16 with --data: the most error of an output under emulated rounding, as part of its largest magnitude; 0: 0.01 for fp16, 0.05 for bf16")
	p.Float64Var(&o.HalfMargin, "half-margin", 0, "fp16, bf16 with --data: by how much values may outgrow those seen before a node stays in float32; 0: 4")
}

// validateHalf checks the target, and what it goes with.
func validateHalf(o *quantize.Options) error {
	half := o.To == quantize.Float16 || o.To == quantize.BFloat16
	switch {
	case !half && o.To != quantize.Int8 && o.To != quantize.Int4:
		return usagef("--to %q is unknown; want int8, int4, fp16 or bf16", o.To)
	case half && (o.Dynamic || o.PerTensor || o.ReduceRange):
		return usagef("--dynamic, --per-tensor and --reduce-range are for int8, not for %s", o.To)
	case !half && (o.HalfIO || o.HalfError != 0 || o.HalfMargin != 0):
		return usagef("--io-half, --half-error and --half-margin are for fp16 and bf16, not for %s", o.To)
	case o.HalfError < 0 || o.HalfMargin < 0 || o.HalfMargin > 0 && o.HalfMargin < 1:
		return usagef("--half-error must not be negative, and --half-margin not below 1")
	}
	return nil
}

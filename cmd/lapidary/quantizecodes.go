package main

import (
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/quantize"
	"github.com/spf13/pflag"
)

// registerCodes adds the flags of the codes of static int8.
func registerCodes(p *pflag.FlagSet, o *quantize.CodeOptions) {
	p.StringVar(&o.Activations, "activations", "", "static int8: type of the codes of activations: "+strings.Join(quantize.ActivationTypes(), ", ")+
		"; default: uint8, or int8 for cuda and tensorrt. Codes of 16 bits are for processors with kernels of them")
	p.StringVar(&o.Weights, "weights", "", "int8: type of the codes of weights: "+strings.Join(quantize.WeightTypes(), " or ")+"; default: int8")
	p.StringVar(&o.Representation, "representation", "", "static int8: form of the model: qdq, pairs of conversions around operators, or qoperator, operators on codes; default: qdq")
}

// validateCodes checks the codes, and what they go with.
func (f *quantizeFlags) validateCodes() error {
	if slices.Contains(quantize.Accelerators(), f.target) {
		f.o.Accelerator = f.target
		for _, name := range []string{"for", "predict-isa"} {
			if f.changed(name) {
				return usagef("--%s is about the processor that models run on here, which is not %s", name, f.target)
			}
		}
	}
	if err := f.o.CodeOptions.Check(); err != nil {
		return usageError{err}
	}
	return nil
}

func (f *quantizeFlags) changed(name string) bool {
	return f.wf.c != nil && f.wf.c.Flags().Changed(name)
}

// validateUse finds flags that what is asked for would not use.
func (f *quantizeFlags) validateUse() error {
	int8 := f.o.To == quantize.Int8 && !f.o.WeightOnly
	static := int8 && !f.o.Dynamic && f.df.spec != ""
	half := f.o.To == quantize.Float16 || f.o.To == quantize.BFloat16
	for _, x := range []struct {
		used  bool
		what  string // completes "--flag …"
		flags []string
	}{
		{static, "is for static int8 only; give --to int8 and --data, without --dynamic and --weight-only", []string{
			"calibrate", "recover", "recover-samples", "target", "predict-isa", "max-drop", "max-kl", "min-sqnr", "layers", "checkpoint",
			"activations", "representation"}},
		{int8, "is for int8 activations only; give --to int8 without --weight-only", []string{"for", "weights"}},
		{static || half && f.df.spec != "", "keeps the ranges of activations, which nothing measures here; give --data, without --dynamic and --weight-only", []string{"statistics"}},
		{f.df.spec != "" && !(int8 && f.o.Dynamic), "is about calibration, and there is none; give --data, without --dynamic", []string{"max-memory", "calibration-workers"}},
		{f.df.spec != "", "decides by ranges, which nothing measures here; give --data", []string{"half-error", "half-margin"}},
	} {
		for _, name := range x.flags {
			if !x.used && f.changed(name) {
				return usagef("--%s %s", name, x.what)
			}
		}
	}
	return nil
}

// codesText names codes that are not the usual ones.
func codesText(c *quantize.Codes) string {
	if c == nil {
		return ""
	}
	var parts []string
	if c.Accelerator != "" {
		parts = append(parts, "for "+c.Accelerator)
	}
	if c.Activations != "uint8" || c.Weights != "int8" {
		parts = append(parts, c.Activations+" activations, "+c.Weights+" weights")
	}
	if c.Representation == "qoperator" {
		parts = append(parts, c.Representation)
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

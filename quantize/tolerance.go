package quantize

import (
	"math"

	"github.com/lapidary-ml/lapidary/internal/compare"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/produce"
)

// coarse tells a broken rewriting from rounding noise. A wrong layout, axis or
// zero point leaves noise as large as the signal or larger, 3 dB and less;
// int8 networks that are worth something keep 10 dB and more on each sample. Where
// between them a model is too inaccurate to use is for validate to judge.
var coarse = compare.Class{Name: "int8-sane", ATol: math.Inf(1), MinSQNR: 4,
	Why: "tells a broken rewriting from rounding noise"}

// halfModel is the class float16 with four times its room for single elements:
// the rounding of many layers adds up where a probability is steepest, while the
// noise as a whole must stay 40 dB below the signal.
var halfModel = compare.Class{Name: "float16-model", RTol: 2e-2, ATol: 2e-2, MinSQNR: 40,
	Why: "weights and activations rounded at every layer of a deep network"}

// brainModel is likewise for bfloat16, whose rounding is eight times as coarse.
var brainModel = compare.Class{Name: "bfloat16-model", RTol: 0.16, ATol: 0.16, MinSQNR: 22,
	Why: "weights and activations rounded at every layer of a deep network"}

// anything accepts any difference between numbers: class indices and tokens may
// change where two candidates are close, which is counted but no fault.
var anything = compare.Class{Name: "reported", ATol: math.Inf(1),
	Why: "indices may differ where two candidates are close"}

// tolerant returns o.Verify with the tolerance of the scheme, and with the
// calibration data as inputs where there is no other data: on generated inputs
// networks leave the ranges they were calibrated for.
func tolerant(o *Options) *produce.Verify {
	if o.Verify == nil {
		return nil
	}
	v := *o.Verify
	if v.Data == nil && o.measured() {
		v.Data = o.Calibration
	}
	if t := halfTypes[o.To]; t != nil && o.HalfIO {
		v.Open = portOpener(v.Open, t.dtype)
	}
	real := v.Data != nil
	v.Tolerance = func(_ string, d onnx.DType) compare.Class {
		switch {
		case !d.IsFloat():
			return anything
		case o.To == Float16:
			return halfModel
		case o.To == BFloat16:
			return brainModel
		case real, o.weightOnly() && o.Bits >= 4:
			return coarse
		}
		return anything
	}
	return &v
}

// named returns a tolerance class that exists.
func named(name string) compare.Class {
	c, err := compare.ParseClass(name)
	if err != nil {
		panic("quantize: " + err.Error())
	}
	return c
}

// judge adds a notice for each output that is far from the original's, though
// near enough to be written.
func judge(r *Result) {
	if r.Checked == nil || halfTypes[Target(r.Scheme)] != nil {
		return
	}
	least := named("int8").MinSQNR
	for _, c := range r.Checked.Outputs {
		switch {
		case c.SQNR != nil && *c.SQNR < least:
			r.Log.Notice("output %q: the least SQNR over %d %s samples is %.1f dB, below the %v dB of a good int8 model; see what it costs with validate",
				c.Name, r.Checked.Samples, r.Checked.Inputs, *c.SQNR, least)
		case c.SQNR == nil && c.MaxAbs > 0:
			r.Log.Notice("output %q differs from the original's by up to %v", c.Name, c.MaxAbs)
		}
	}
	if r.Checked.Inputs == "synthetic" {
		r.Log.Notice("checked on generated inputs only, which say little about accuracy; give real ones with --data")
	}
}

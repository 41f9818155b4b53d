package quantize

import (
	"context"
	"errors"
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/calibrate"
	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// Target is the type that a model is quantized to.
type Target string

// The targets.
const (
	Int8     Target = "int8"
	Float16  Target = "fp16"
	BFloat16 Target = "bf16"
)

// Options steers quantizing; the zero value is dynamic int8, per channel.
type Options struct {
	To          Target   // "" is Int8
	Dynamic     bool     // Int8: measure activations while the model runs, even if Calibration is given
	PerTensor   bool     // Int8: one scale per weight tensor instead of one per output channel
	ReduceRange bool     // Int8: weights in 7 bits, which processors without VNNI multiply without saturating
	Include     []string // operators or names of nodes or weights to quantize, no others; patterns as of path.Match
	Exclude     []string // likewise, to leave alone

	Calibration   *dataset.Set    // samples for static Int8; nil: dynamic
	Synthetic     bool            // Calibration was generated, which is recorded
	Batch         int             // calibration samples run at once; 0: 1
	Method        string          // static Int8: how a range is found, of [Methods]; "" is auto
	Workers       int             // calibration runs at once, each in a session of its own; 0: 1
	MaxMemory     int64           // bytes of activations in memory at once during calibration; 0: no limit
	Statistics    string          // file that keeps what calibration measured, to go on from or to use again; "" is none
	SnapshotEvery int             // batches between two writes of Statistics; 0: 64
	Open          session.Opener  // runs the model on the calibration data; needed with Calibration
	Session       session.Options // for Open

	// Speed leaves in float32 what is not faster in int8, by times of operators
	// on this machine, and refuses a result that is slower than the original
	// with a [produce.Slower]. It is for static Int8 on the device of Session.
	Speed bool
	Times string // file that keeps the times, for this machine, engine and number of threads; "" is none

	CodeOptions    // static Int8; Weights of dynamic Int8 too
	RecoverOptions // static Int8
	SearchOptions  // likewise
	ISAOptions     // likewise
	HalfOptions    // Float16, BFloat16
	WeightOptions  // Int4, and Int8 with WeightOnly

	// Fates asks, for static Int8 on the CPU, what the engine makes of each
	// quantized node and of the pairs around it; needs Verify.
	Fates bool

	Rewrite  rewrite.Options
	Step     report.Step     // what to record in the model; the digest of Calibration is filled in
	Verify   *produce.Verify // how to run the result; nil: not at all
	InPlace  bool
	External onnxfile.External
	Progress func(stage string)
	// Calibrated is told after each batch how many samples of how many are
	// done; may be nil.
	Calibrated func(done, total int64)

	method calibrate.Method // that Method names
	key    string           // of Statistics
}

// Methods returns the names of the calibration methods.
func Methods() []string { return calibrate.Methods() }

// Result says what was done.
type Result struct {
	*produce.Result
	Scheme      string       `json:"scheme"`          // static-int8, dynamic-int8, fp16 or bf16
	Codes       *Codes       `json:"codes,omitempty"` // static and dynamic int8
	Layers      []Layer      `json:"layers"`
	Quantized   int          `json:"quantized"` // nodes that the scheme took
	Kept        int          `json:"kept"`      // nodes with weights that stay in floating point; fp16, bf16: all nodes that stay in float32
	Weights     Sizes        `json:"weights"`
	Calibration *Calibration `json:"calibration,omitempty"`
	Recovery    *Recovery    `json:"recovery,omitempty"`
	Search      *Search      `json:"search,omitempty"` // absent without a budget
	Predictions []Prediction `json:"predictions,omitempty"`
	Checks      []NodeCheck  `json:"checks,omitempty"`      // of quantized layers by themselves
	Sensitivity []Single     `json:"sensitivity,omitempty"` // layers, the one that costs most first
}

// Codes are what [CodeOptions] came to.
type Codes struct {
	Activations    string `json:"activations"`
	Weights        string `json:"weights"`
	Representation string `json:"representation,omitempty"` // of static int8
	Accelerator    string `json:"accelerator,omitempty"`
}

// Layer is what became of one node.
type Layer struct {
	Node   string  `json:"node"` // as messages name it
	Op     string  `json:"op"`
	Output string  `json:"output"`           // its first output in the original model
	Type   string  `json:"type"`             // of its codes, such as int8, or what it computes in: float16, bfloat16 or float32
	Input  *Params `json:"input,omitempty"`  // static int8: of the first activation
	Weight *Params `json:"weight,omitempty"` // int8
	Result *Params `json:"result,omitempty"` // static int8: of the output, absent where it stays float
	Reason string  `json:"reason,omitempty"` // why the node stays in float32
	Note   string  `json:"note,omitempty"`   // fp16, bf16: what became of its constants

	Weights *WeightLayer `json:"weights,omitempty"` // weights only: how they are coded
	Fate    *Fate        `json:"fate,omitempty"`    // static int8, where asked for

	at *onnx.Node // of the result; nil where it has none
}

// Params is how real numbers x are coded: x = Scale·(code − ZeroPoint).
type Params struct {
	Tensor    string  `json:"tensor"`
	Type      string  `json:"type"`  // uint8, int8, uint16, int16
	Scale     float64 `json:"scale"` // per channel: the largest
	ZeroPoint int64   `json:"zero_point"`
	Channels  int     `json:"channels,omitempty"` // number of scales, absent for one
	Min       float64 `json:"min"`                // of the real numbers: of a weight those that it has, of an activation those that have codes
	Max       float64 `json:"max"`

	// Of an activation, where its distribution was measured: the share of the
	// elements outside of what has codes, and the mean squared error of coding
	// over the mean square, as the distribution foretells it.
	Clipped *float64 `json:"clipped,omitempty"`
	Error   *float64 `json:"error,omitempty"`
}

// Sizes counts the bytes of the weights that the scheme replaced.
type Sizes struct {
	Before int64 `json:"bytes_before"`
	After  int64 `json:"bytes_after"`
}

// Calibration describes the data on which ranges were measured.
type Calibration struct {
	Method    string `json:"method"`           // of Methods
	Samples   int64  `json:"samples"`          // measured on
	Tensors   int    `json:"tensors"`          // measured
	Passes    int    `json:"passes"`           // over the data; more than one where memory is limited
	Reused    int64  `json:"reused,omitempty"` // samples whose statistics came from a file
	Digest    string `json:"digest"`           // SHA-256 over the samples, as dataset.Set.Digest
	Synthetic bool   `json:"synthetic,omitempty"`
}

func (o *Options) validate() error {
	if o.To == "" {
		o.To = Int8
	}
	if err := o.CodeOptions.Check(); err != nil {
		return err
	}
	switch {
	case !o.static() && !(CodeOptions{Activations: o.Activations, Representation: o.Representation, Accelerator: o.Accelerator}).usual():
		return errors.New("types of codes of activations, representations and accelerators are of static int8")
	case o.Weights == "uint8" && (o.To != Int8 || o.WeightOnly):
		return errors.New("codes of weights in uint8 are of int8 activations, static or dynamic")
	case o.Accelerator != "" && (o.Speed || o.Saturates || o.PredictISA):
		return fmt.Errorf("times and saturating sums of the processor here say nothing of %s", o.Accelerator)
	case o.To != Int8 && o.To != Int4 && halfTypes[o.To] == nil:
		return fmt.Errorf("target %q is unknown; want int8, int4, fp16 or bf16", o.To)
	case halfTypes[o.To] != nil && (o.Dynamic || o.PerTensor || o.ReduceRange):
		return fmt.Errorf("dynamic, per-tensor and reduced-range quantization are of int8, not of %s", o.To)
	case o.Batch < 0:
		return fmt.Errorf("calibration batch of %d samples; want 1 or more", o.Batch)
	}
	o.CodeOptions.fill()
	if o.weightOnly() {
		if err := o.validateWeights(); err != nil {
			return err
		}
	}
	if o.measured() && o.Open == nil {
		return errors.New("calibration needs an engine to run the model on its data")
	}
	if o.Method == "" {
		o.Method = "auto"
	}
	var err error
	if o.method, err = calibrate.ParseMethod(o.Method); err != nil {
		return err
	}
	if err := o.RecoverOptions.Check(); err != nil {
		return err
	}
	return checkPatterns(append(append([]string(nil), o.Include...), o.Exclude...))
}

// static reports whether the ranges of activations are measured beforehand.
func (o *Options) static() bool {
	return o.To == Int8 && !o.Dynamic && !o.WeightOnly && o.Calibration != nil
}

// measured reports whether the model runs on calibration data.
func (o *Options) measured() bool {
	return o.static() || (halfTypes[o.To] != nil || o.weightOnly()) && o.Calibration != nil
}

// File writes the quantized form of the model at src to dst, after running it.
func File(ctx context.Context, dst, src string, o Options) (*Result, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	s := schemeFor(&o)
	out := &Result{Scheme: s.name()}
	if o.measured() {
		o.progress("reading the calibration data")
		digest, err := o.Calibration.Digest(ctx)
		if err != nil {
			return nil, fmt.Errorf("calibration data: %w", err)
		}
		o.Step.Calibration = []string{digest}
		out.Calibration = &Calibration{Method: o.Method, Digest: digest, Synthetic: o.Synthetic}
	}
	var done *outcome
	transform := func(ctx context.Context, m *onnx.Model, ro rewrite.Options) (*rewrite.Log, error) {
		var err error
		if o.measured() && (o.Statistics != "" || o.Checkpoint != "") && o.key == "" {
			if o.key, err = statisticsKey(src, m, out.Calibration.Digest, &o); err != nil {
				return nil, err
			}
		}
		done, err = quantizeModel(ctx, m, s, ro)
		if err != nil {
			return nil, err
		}
		if len(done.log.Fired) == 0 && ro.Whole() {
			return nil, nothingOf(s.name(), done.log)
		}
		return done.log, nil
	}
	po := produce.Options{Runs: o.measured(), Step: o.Step, Rewrite: o.Rewrite, Verify: tolerant(&o), InPlace: o.InPlace, External: o.External, Progress: o.Progress}
	made := map[*produce.Result]*outcome{}
	r, err := fastest(s, func(g *produce.Guard) (*produce.Result, error) {
		po.Guard = g
		r, err := produce.File(ctx, dst, src, transform, po)
		made[r] = done
		return r, err
	}, &o)
	if err != nil {
		return nil, err
	}
	done = made[r]
	out.Result, out.Layers, out.Weights = r, done.layers, done.sizes
	for _, l := range out.Layers {
		if l.Reason == "" {
			out.Quantized++
		} else {
			out.Kept++
		}
	}
	s.describe(out)
	judge(out)
	if o.Fates && o.static() && o.Accelerator == "" && o.Verify != nil {
		o.progress("reading the engine's graph")
		if err := addFates(ctx, dst, out.Layers, o.Verify); err != nil {
			out.Log.Notice("what the engine makes of the model is not known: %v", err)
		}
	}
	return out, ctx.Err()
}

func (o *Options) progress(stage string) {
	if o.Progress != nil {
		o.Progress(stage)
	}
}

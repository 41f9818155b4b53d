package quantize

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
	"github.com/lapidary-ml/lapidary/internal/upgrade"
)

// Int4 is the target of weights in 4 bits; what is computed with them stays in
// floating point.
const Int4 Target = "int4"

// weightsName is how logs call it.
const weightsName = "weight-only"

// WeightOptions steers the quantization of weights alone.
type WeightOptions struct {
	WeightOnly   bool   // Int8: of weights only, in blocks; Int4 always is
	Bits         int    // of a code, 2 to 8; 0: those of the target
	BlockSize    int    // weights that share a scale: 16, 32, 64, 128 or 256; 0: 128
	Asymmetric   bool   // a zero point for each block
	WeightMethod string // of [WeightMethods]; "" is auto: what is best on held-out data, rtn without data
	Form         string // of [WeightForms]; "" is auto: MatMulNBits where the engine has it
	Accuracy     int64  // accuracy_level of MatMulNBits: 0 as the runtime likes, 1 float32, 4 activations in int8
}

// WeightMethods returns the names of the ways to find codes.
func WeightMethods() []string { return []string{"auto", "rtn", "gptq", "awq", "hqq"} }

// WeightForms returns the names of the forms that a model with such weights has.
func WeightForms() []string { return []string{"auto", string(formNBits), string(formPlain)} }

// weightOnly reports whether only weights are quantized.
func (o *Options) weightOnly() bool { return o.To == Int4 || o.To == Int8 && o.WeightOnly }

// WeightLayer says how the weights of a node are coded.
type WeightLayer struct {
	Method    string             `json:"method"` // rtn, gptq, awq or hqq
	Why       string             `json:"why,omitempty"`
	Bits      int                `json:"bits"`
	BlockSize int                `json:"block_size"`
	Form      string             `json:"form"`            // matmulnbits, dequantize or gather
	Error     map[string]float64 `json:"error,omitempty"` // by method, share of the power of the output, on held-out rows
}

// validate checks the options and fills in what they leave open.
func (w *WeightOptions) validate(to Target) error {
	if w.Bits == 0 {
		w.Bits = map[Target]int{Int4: 4, Int8: 8}[to]
	}
	if w.BlockSize == 0 {
		w.BlockSize = 128
	}
	if w.WeightMethod == "" {
		w.WeightMethod = "auto"
	}
	if w.Form == "" {
		w.Form = "auto"
	}
	switch {
	case w.Bits < 2 || w.Bits > 8:
		return fmt.Errorf("weights of %d bits; want 2 to 8", w.Bits)
	case !slices.Contains([]int{16, 32, 64, 128, 256}, w.BlockSize):
		return fmt.Errorf("blocks of %d weights; want 16, 32, 64, 128 or 256", w.BlockSize)
	case !slices.Contains(WeightMethods(), w.WeightMethod):
		return fmt.Errorf("method %q is unknown; want one of %s", w.WeightMethod, strings.Join(WeightMethods(), ", "))
	case !slices.Contains(WeightForms(), w.Form):
		return fmt.Errorf("form %q is unknown; want one of %s", w.Form, strings.Join(WeightForms(), ", "))
	case w.Form == string(formPlain) && w.Bits != 4 && w.Bits != 8:
		return fmt.Errorf("DequantizeLinear has no codes of %d bits at opset %d; want 4 or 8", w.Bits, plainOpset)
	case w.Accuracy < 0 || w.Accuracy > 4:
		return fmt.Errorf("accuracy level %d; want 0 to 4", w.Accuracy)
	}
	return nil
}

// validateWeights checks what concerns weights only.
func (o *Options) validateWeights() error {
	switch {
	case o.Dynamic || o.PerTensor || o.ReduceRange:
		return errors.New("dynamic, per-tensor and reduced-range quantization are of activations too, not of weights only")
	case o.Statistics != "":
		return errors.New("a file of statistics keeps the ranges of activations, which weights alone do not need")
	case o.Calibration != nil && o.Open == nil:
		return errors.New("choosing codes by their outputs needs an engine to run the model")
	}
	if err := o.WeightOptions.validate(o.To); err != nil {
		return err
	}
	if o.Calibration == nil && (o.WeightMethod == "gptq" || o.WeightMethod == "awq") {
		return fmt.Errorf("method %s chooses codes by what the layers read; give it data, with --data", o.WeightMethod)
	}
	return nil
}

// weightOnly codes the constant operands of products in blocks along what the
// products sum over, and the tables of Gather along their rows.
type weightOnly struct {
	o       *Options
	kernels nbitsKernels
	form    form
	fits    map[string]*fitted // by the first output of the node; once
	samples int64
	passes  int
}

func newWeightOnly(o *Options) *weightOnly {
	return &weightOnly{o: o, kernels: nbitsKernels{open: o.Open, session: o.Session}}
}

func (s *weightOnly) name() string {
	return fmt.Sprintf("%s-int%d", weightsName, s.o.Bits)
}

// prepare decides on the form, raises the opset where it must, and finds codes
// by data the first time.
func (s *weightOnly) prepare(ctx context.Context, m *onnx.Model) ([]string, error) {
	var notices []string
	if s.form == "" {
		if err := s.choose(ctx); err != nil {
			return nil, err
		}
	}
	if s.form == formPlain {
		up, err := upgrade.To(m, plainOpset)
		if err != nil {
			return nil, err
		}
		notices = append(notices, up...)
	}
	if s.kernels.open == nil {
		notices = append(notices, "no runtime was asked which kernels it has")
	}
	if s.o.Synthetic {
		notices = append(notices, "codes were chosen on generated data, of which real data differs")
	}
	if s.fits == nil {
		found, err := s.search(ctx, m)
		if err != nil {
			return nil, err
		}
		notices = append(notices, found...)
	}
	return notices, nil
}

// choose settles the form of the output.
func (s *weightOnly) choose(ctx context.Context) error {
	want := form(s.o.Form)
	if want != "auto" {
		s.form = want
		return nil
	}
	s.form = formNBits
	if s.o.Open == nil {
		return nil
	}
	k := kernel{form: formNBits, bits: s.o.Bits, size: s.o.BlockSize, dtype: onnx.Float, zero: s.zeroKind(), accuracy: s.o.Accuracy}
	err := s.kernels.has(ctx, k)
	if err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	if s.o.Bits != 4 && s.o.Bits != 8 {
		return fmt.Errorf("%w; use 4 or 8 bits", err)
	}
	s.form = formPlain
	return nil
}

func (s *weightOnly) zeroKind() zeroKind {
	if s.o.Asymmetric {
		return codeZero
	}
	return noZero
}

func (s *weightOnly) pass(r *outcome) rewrite.Pass {
	return &weightsPass{s: s, r: r, params: map[paramsKey][3]*onnx.Value{}, scaled: map[scaledKey]*onnx.Value{}, counted: map[*onnx.Value]bool{}}
}

func (s *weightOnly) describe(r *Result) {
	if s.samples == 0 {
		r.Calibration = nil
		return
	}
	if r.Calibration != nil {
		r.Calibration.Method, r.Calibration.Samples, r.Calibration.Tensors, r.Calibration.Passes = s.o.WeightMethod, s.samples, len(s.fits), s.passes
	}
}

// fitted is what data said about the weights of one node.
type fitted struct {
	method  string
	why     string
	steps   *steps
	codes   []byte
	clipped bool

	asymmetric bool      // HQQ has zero points also where none were asked for
	gain       []float32 // of the rows of the weights; the input is divided by it
	errors     map[string]float64
}

// blocksOf returns how the weights of an operand are cut: a block is not longer
// than it needs to be.
func (s *weightOnly) blocksOf(op operand) blocks {
	size := s.o.BlockSize
	for size > 16 && size/2 >= op.k {
		size /= 2
	}
	return blocks{bits: s.o.Bits, size: size, asymmetric: s.o.Asymmetric, dtype: op.t.DType}
}

// Package explain asks what two models look at, by several methods, and how far their answers agree.
//
// Both models see exactly the same perturbed inputs in the same order and batch size: what differs between their maps is
// the model, not the masks. Identical models therefore give a rank correlation of exactly 1.
//
// A [Method] turns one sample and one model into a map; [Methods] lists them. [Compare] draws the maps of both models for all
// samples, holds them against each other, and asks of each how faithful it is and what the method itself cannot tell apart.
package explain

import (
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Sample is one input to be explained: a tensor per model input, with a batch axis of 1 where the model has one.
type Sample struct {
	ID     string
	Inputs map[string]*onnx.Tensor
}

// Layout says how the explained input is cut into features.
type Layout int

const (
	// Auto takes NCHW or NHWC for rank 4, by where 1, 3 or 4 channels are (NCHW when in doubt), else Flat.
	Auto Layout = iota
	// NCHW is [batch, channels, height, width]: a feature is a cell of a grid, through all channels.
	NCHW
	// NHWC is [batch, height, width, channels].
	NHWC
	// Flat is anything else: a feature is one position of the first axis after the batch (a column, a token, a time step)
	// through all further axes, or a run of neighbouring positions where there are more than MaxFeatures.
	Flat
)

// Fill is what a hidden feature is replaced by.
type Fill int

const (
	// FillMean is the mean over the samples: per channel for images, per column for tables, per last axis for series.
	FillMean Fill = iota
	// FillZero is 0.
	FillZero
	// FillBlur is the sample itself, blurred by a box of three cells; images only.
	FillBlur
	// FillToken is Options.Token; the default for 32- and 64-bit integer inputs, which are taken to be tokens.
	FillToken
)

// String returns the fill's name as it stands in reports.
func (f Fill) String() string {
	switch f {
	case FillMean:
		return "mean"
	case FillZero:
		return "zero"
	case FillBlur:
		return "blur"
	case FillToken:
		return "token"
	}
	return fmt.Sprintf("fill(%d)", int(f))
}

// Options says how to explain and compare; the zero value is the default of every field.
type Options struct {
	Method Method // the zero value is the first of [Methods]

	Input       string // the input to perturb; "" is the first one with floating-point elements, else the first
	Output      string // the output to explain; "" is the first one with floating-point elements
	Layout      Layout
	Grid        int     // cells along height and width; 0 means 7
	MaxFeatures int     // for Flat; 0 means 64
	Fill        Fill    // FillMean becomes FillToken for 32- and 64-bit integers
	Token       int64   // replacement token, such as the id of [MASK]
	NamedToken  bool    // Token was asked for: gradients by an embedding start at its row too, and not at zeros
	Keep        []int64 // tokens that are never hidden, such as those of [CLS], [SEP] and [PAD]
	Window      int     // occlusion: side of the sliding window, in pixels of an image, else in features; 0 hides the features themselves
	Stride      int     // occlusion: step of the window; 0 means half of it
	Rows        int     // rows of the data that feature-ablation and kernel-shap take hidden features from; 0 means 16 for tables and else the fill, negative the fill

	Perturbations int // coalitions or masks per map of the methods that draw them; 0 is the method's own number

	Batch int // perturbed inputs per run, where both models' batch axes are free; 0 means 32, 1 never batches

	Top        float64 // share of features that count as most important; 0 means 0.1
	Seed       uint64
	Resamples  int                   // bootstrap resamples over samples; 0 means 2000
	Confidence float64               // 0 means 0.95
	Jitter     float64               // noise floor: inputs are shifted by up to this share of the data's range; 0 means 1/255
	NoiseFloor int                   // samples spent on the noise floor; 0 means 8, negative none
	SkipCurves bool                  // leave out the deletion and insertion curves, and so the faithfulness figures
	Reference  *Model                // a copy of the baseline with a change of no consequence, to calibrate by where inputs cannot be moved; may be nil
	KeepMaps   bool                  // keep every sample's maps in the result, not only those of flips
	Projection bool                  // explain the projection on the baseline's output even where the output is a row of classes
	Progress   func(done, total int) // called after each sample; may be nil
}

// Check says what is wrong with options.
func (o Options) Check() error {
	_, err := o.filled()
	return err
}

func (o Options) filled() (Options, error) {
	if o.Method.Attribute == nil {
		o.Method = Methods()[0]
	}
	if o.Grid == 0 {
		o.Grid = 7
	}
	if o.Stride == 0 {
		o.Stride = max(1, o.Window/2)
	}
	if o.MaxFeatures == 0 {
		o.MaxFeatures = 64
	}
	if o.Batch == 0 {
		o.Batch = 32
	}
	if o.Top == 0 {
		o.Top = 0.1
	}
	if o.Confidence == 0 {
		o.Confidence = 0.95
	}
	if o.Jitter == 0 {
		o.Jitter = 1.0 / 255
	}
	if o.NoiseFloor == 0 {
		o.NoiseFloor = 8
	}
	switch {
	case o.Grid < 1 || o.Grid > 256:
		return o, fmt.Errorf("a grid of %d cells, want 1 to 256", o.Grid)
	case o.Window < 0 || o.Stride < 0:
		return o, fmt.Errorf("a window of %d and a stride of %d, want at least 1", o.Window, o.Stride)
	case o.Window == 0 && o.Stride > 1:
		return o, fmt.Errorf("a stride of %d needs a window", o.Stride)
	case o.Window > 0 && o.Stride > o.Window:
		return o, fmt.Errorf("a stride of %d leaves gaps between windows of %d", o.Stride, o.Window)
	case o.Perturbations < 0:
		return o, fmt.Errorf("%d perturbations, want at least 1", o.Perturbations)
	case o.MaxFeatures < 2:
		return o, fmt.Errorf("at most %d features, want at least 2", o.MaxFeatures)
	case o.Batch < 1:
		return o, fmt.Errorf("a batch of %d, want at least 1", o.Batch)
	case !(o.Top > 0 && o.Top <= 1):
		return o, fmt.Errorf("a top share of %v is outside (0, 1]", o.Top)
	case !(o.Confidence > 0 && o.Confidence < 1):
		return o, fmt.Errorf("confidence %v is outside (0, 1)", o.Confidence)
	case !(o.Jitter > 0 && o.Jitter <= 1):
		return o, fmt.Errorf("a jitter of %v is outside (0, 1]", o.Jitter)
	case o.Layout < Auto || o.Layout > Flat:
		return o, fmt.Errorf("layout %d is unknown", o.Layout)
	case o.Fill < FillMean || o.Fill > FillToken:
		return o, fmt.Errorf("fill %d is unknown", o.Fill)
	case o.Resamples != 0 && o.Resamples < 100:
		return o, fmt.Errorf("%d resamples are too few, want at least 100", o.Resamples)
	}
	return o, nil
}

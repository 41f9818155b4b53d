package explain

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// Method is one way to attribute what a model computes for a sample to parts of that sample: a function in a file of its own, and
// a line in [Methods].
type Method struct {
	Name string // as flags and reports have it
	Doc  string // one line for people

	// Random says that the method draws perturbations from [Options].Seed. Its noise floor is that of independent seeds.
	Random bool
	// Rows says that hidden features are taken from rows of the data, and the mean over them is explained, where there are some.
	Rows bool
	// Complete says that attributions add up to f(x) - f(background), so that what they lack is reported.
	Complete bool
	// Splits and Slopes say that [Model].Split and [Model].Gradient are needed.
	Splits, Slopes bool
	// ByInput says that the slopes are by the elements of the explained input: those of tokens are taken by their embedding, for
	// which [Model].Embed is needed.
	ByInput bool

	// Runs returns how many inferences one map of one model takes at most, besides that of the sample itself.
	Runs func(p *partition, rows int, o Options) int
	// Attribute explains one sample in one model. Everything random comes from p.random, so that both models see the same.
	Attribute func(ctx context.Context, p *problem) (*attribution, error)
}

// Methods returns all methods. The first is what is used where none is asked for: it takes every input and every model.
func Methods() []Method {
	return []Method{occlusion, featureAblation, kernelSHAP, rise, reciproCAM, integratedGradients, gradientInput, smoothGrad, gradCAM}
}

// MethodNames returns the names of all methods, for messages.
func MethodNames() []string {
	var names []string
	for _, m := range Methods() {
		names = append(names, m.Name)
	}
	return names
}

// Lookup returns the method of that name; "" and "auto" are the first of [Methods].
func Lookup(name string) (Method, error) {
	if name == "" || name == "auto" {
		return Methods()[0], nil
	}
	for _, m := range Methods() {
		if m.Name == name {
			return m, nil
		}
	}
	return Method{}, fmt.Errorf("explanation method %q is unknown; want auto, or some of %s", name, strings.Join(MethodNames(), ", "))
}

// Model is one of the two models, with what methods may ask of it.
type Model struct {
	Session session.Session
	// Split cuts the model at its last feature map for samples like s; nil where the caller has no graph. Its errors say why a
	// model cannot be cut.
	Split func(ctx context.Context, output string, s Sample) (*Split, error)
	// Gradient differentiates an output for samples like s; nil where the caller cannot. Its errors say why there is no gradient.
	Gradient func(ctx context.Context, output string, s Sample) (Gradient, error)
	// Embed cuts the model at the embedding of an input of tokens; nil where the caller has no graph. Its errors say why a model
	// cannot be cut, or has no gradient behind the cut.
	Embed func(ctx context.Context, output, input string) (*Embedding, error)
}

// Split is a model cut at a feature map [1, channels, height, width] through which all of its output passes. The caller closes
// both sessions.
type Split struct {
	Body    session.Session // from the model's inputs to the feature map
	Feature string          // its output
	Tail    session.Session // from the feature map to the model's output, under the model's own name
	Input   string          // its input
}

// FeatureMap stands for the feature map at which [SplitModel] cuts, in [Gradient].Slope.
const FeatureMap = ""

// Gradient differentiates a model.
type Gradient interface {
	// Slope runs the model on in. It returns the value of a tensor, an input of that name or [FeatureMap], and the gradient
	// ∂⟨seed, output⟩/∂(tensor) in its shape; seed has one weight for each element of the output.
	Slope(ctx context.Context, in map[string]*onnx.Tensor, seed []float64, tensor string) (value, gradient *onnx.Tensor, err error)
	// StraightThrough returns the nodes, of what was differentiated so far, whose rounding counted as the identity: with them the
	// gradient is that of a surrogate, not of the function that the model computes.
	StraightThrough() []string
}

// attribution is a map with what it was computed from.
type attribution struct {
	rows, cols int
	values     []float64 // rows × cols, in units of the target
	base       float64   // target of the sample
	runs       int       // perturbations
	dead       int       // perturbations that changed the input and left the whole output exactly as it was
	moved      int       // perturbations that changed the input
	stdErr     *float64  // Monte-Carlo standard error, root mean square over the values; nil where nothing was drawn
	residual   *float64  // |Σ values - (f(x) - f(background))|, as a share of the larger of |f(x) - f(background)| and the largest value
}

// broken says whether the map holds a value that is not a number.
func (a *attribution) broken() bool {
	return slices.ContainsFunc(append(slices.Clone(a.values), a.base), notFinite)
}

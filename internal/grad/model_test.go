package grad

import (
	"maps"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/ort"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

const testdata = "../../testdata/"

// wholeModel is a real model whose gradient is held against a difference along a random direction.
type wholeModel struct {
	path      string
	of        string
	low, high float64 // of the inputs
	step      float64 // as a share of the largest input
	within    float64 // relative
	large     bool    // takes long in double precision
}

var whole = []wholeModel{
	{path: testdata + "digits-cnn.onnx", low: 0, high: 1, step: 3e-7, within: 0.001},
	{path: testdata + "digits-vit.onnx", low: 0, high: 1, step: 1e-4, within: 0.001},
	{path: "models/mnist-8.onnx", low: 0, high: 255, step: 1e-5, within: 0.001},
	{path: "models/mnist-cnn.onnx", low: -0.4, high: 2.8, step: 1e-5, within: 0.001},
	{path: "models/squeezenet1.1.onnx", low: -120, high: 150, step: 1e-7, within: 0.01, large: true},
	{path: "models/ultraface-rfb-320.onnx", low: -1, high: 1, step: 1e-6, within: 0.01, large: true},
	{path: "models/ultraface-slim-320.onnx", low: -1, high: 1, step: 1e-6, within: 0.01},
	{path: "models/iris-mlp.onnx", low: 0.1, high: 7, step: 1e-5, within: 0.001},
}

func opened(t testing.TB, path string) *onnx.Model {
	t.Helper()
	if !strings.HasPrefix(path, testdata) {
		path = zootest.Path(t, path)
	}
	m, err := onnxfile.Open(path, onnxfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// TestWholeModels compares ⟨gradient, direction⟩, by ONNX Runtime in single precision, with the difference of the output along
// the direction, computed in double precision, so that the step can be small enough to cross few kinks.
func TestWholeModels(t *testing.T) {
	open := ort.Opener(zootest.Library(t))
	for _, w := range whole {
		t.Run(filepath.Base(w.path), func(t *testing.T) {
			if w.large && !zootest.All() {
				t.Skip("takes long: set LAPIDARY_CORPUS=all")
			}
			m := opened(t, w.path)
			r, err := Build(m, Options{Of: w.of, Only: true})
			if err != nil {
				t.Fatal(err)
			}
			d, err := begin(m) // at an opset that can be evaluated
			if err != nil {
				t.Fatal(err)
			}
			m = d.m
			rng := rand.New(rand.NewPCG(3, 5))
			in := map[string]*onnx.Tensor{}
			for _, v := range m.Graph.Inputs() {
				if v.Const == nil {
					in[v.Name()] = drawn(t, batchOne(v), rng, w.low, w.high)
				}
			}
			w.checkDirection(t, open, m, r, in, rng)
		})
	}
}

// batchOne returns an input with 1 for every dimension that is not fixed.
func batchOne(v *onnx.Value) *onnx.Value {
	dims := slices.Clone(v.Shape())
	for i, d := range dims {
		if !d.Known() {
			dims[i] = onnx.Fixed(1)
		}
	}
	return onnx.NewGraph("").AddInput(v.Name(), onnx.TensorType(v.DType(), dims))
}

func (w wholeModel) checkDirection(t *testing.T, open session.Opener, m *onnx.Model, r *Result, in map[string]*onnx.Tensor, rng *rand.Rand) {
	t.Helper()
	all, weights := seeded(t, in, r.Seed, evaluated(t, m, in)[r.Of])
	out := runIn(t, open, r.Model, all)
	for name, output := range r.Gradients {
		g, x := elements(t, out[output]), elements(t, in[name])
		largest, slope := 0.0, 0.0
		for _, v := range x {
			largest = max(largest, math.Abs(v))
		}
		direction := make([]float64, len(x))
		for i := range direction { // towards the gradient, so that the difference stands out from rounding
			direction[i] = rng.NormFloat64() + 3*sign(g[i])
			slope += direction[i] * g[i]
		}
		at := func(h float64) float64 {
			moved, sum := slices.Clone(x), 0.0
			for i, d := range direction {
				moved[i] += h * d
			}
			shifted := maps.Clone(in)
			shifted[name] = tensor(t, name, in[name].DType, in[name].Shape, moved)
			for i, v := range elements(t, evaluated(t, m, shifted)[r.Of]) {
				sum += weights[i] * v
			}
			return sum
		}
		h := w.step * largest
		want := (at(h) - at(-h)) / (2 * h)
		t.Logf("by %q: slope %.7g, difference %.7g", name, slope, want)
		if !(math.Abs(slope-want) <= w.within*math.Abs(want)) || slope == 0 {
			t.Errorf("by %q: slope %.7g along a direction, the difference is %.7g", name, slope, want)
		}
	}
}

func sign(x float64) float64 {
	switch {
	case x > 0:
		return 1
	case x < 0:
		return -1
	}
	return 0
}

// zoo says of each model of the corpus by what it can be differentiated, or why it cannot.
var zoo = map[string]struct{ by, refused string }{
	"fns-candy":            {refused: `node "crop" (Crop) cannot be raised`},
	"iris-forest":          {refused: "no output with floating-point elements"},
	"iris-logreg":          {refused: "no output with floating-point elements"},
	"iris-mlp":             {by: "input"},
	"magika-fast":          {by: "model/one_hot_to_float/one_hot:0"},
	"mnist-8":              {by: "Input3"},
	"mnist-cnn":            {by: "0"},
	"silero-vad":           {refused: `node "If_0" (If): there is no gradient through the bodies of control flow`},
	"silero-vad-16k":       {refused: `node "/model/If" (If): there is no gradient through the bodies of control flow`},
	"squeezenet1.1":        {by: "data_0"},
	"squeezenet1.1-fp16":   {by: "data_0"},
	"stories260K":          {by: "h0"},
	"tf-bert-qa-tiny":      {by: "tf_bert_for_question_answering/bert/embeddings/LayerNorm/batchnorm/add_1:0"},
	"tiny-gpt2-beamsearch": {refused: "is not among the opset imports"},
	"ultraface-rfb-320":    {by: "input"},
	"ultraface-slim-320":   {by: "input"},
}

// TestZoo builds the gradient of every model of the corpus, by its input or, where that is of tokens, by their embedding.
func TestZoo(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(zootest.Dir(t), "models", "*.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".onnx")
		t.Run(name, func(t *testing.T) {
			want, known := zoo[name]
			if !known {
				t.Fatal("it is not in the list")
			}
			o := Options{}
			if want.by != "" {
				o.Wrt = []string{want.by}
			}
			r, err := Build(opened(t, "models/"+filepath.Base(f)), o)
			switch {
			case want.refused != "":
				if err == nil || !strings.Contains(err.Error(), want.refused) {
					t.Errorf("error %v, want one with %q", err, want.refused)
				}
			case err != nil:
				t.Error(err)
			case len(r.StraightThrough) != 0:
				t.Errorf("straight through %q", r.StraightThrough)
			}
		})
	}
}

package validate

import (
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/explain"
	"github.com/lapidary-ml/lapidary/internal/measure"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/zootest"
	"github.com/lapidary-ml/lapidary/quantize"
)

// explained runs the explanation section alone.
func explained(t *testing.T, o Options, methods ...string) *report.Report {
	t.Helper()
	o.Accuracy.Off, o.Latency.Off, o.IncludeSamples = true, true, true
	o.Explain.Methods = methods
	var notices []string
	o.Notice = func(text string) { notices = append(notices, text) }
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Explanation != nil && (len(notices) != 1 || !strings.Contains(notices[0], "inferences at most, about")) {
		t.Errorf("notices %q, want what it costs", notices)
	}
	return r
}

// all returns the section's methods in order.
func all(e *report.Explanation) []*report.Explanation {
	out := []*report.Explanation{e}
	for i := range e.Others {
		out = append(out, &e.Others[i])
	}
	return out
}

// The same model twice has exactly the same maps by every method, of what each needs: a table, images, a feature map.
func TestEveryMethod(t *testing.T) {
	for _, tt := range []struct {
		model, data string
		methods     []string
		skipped     string
	}{
		{"digits-cnn.onnx", "digits-val.npz", []string{"occlusion", "feature-ablation", "kernel-shap", "rise", "recipro-cam"}, ""},
		{"digits-vit.onnx", "digits-val.npz", []string{"occlusion", "recipro-cam"}, "recipro-cam: the baseline: it has no feature map that is pooled or flattened"},
		{"tabular-mlp.onnx", "tabular-val.csv", []string{"kernel-shap", "feature-ablation", "rise", "recipro-cam"}, "recipro-cam: the baseline"},
	} {
		t.Run(tt.model, func(t *testing.T) {
			o := runtimeOptions(t, testdata+tt.model, testdata+tt.model, testdata+tt.data)
			o.Explain.Samples, o.Explain.Perturbations = 4, 100
			r := explained(t, o, tt.methods...)
			for _, e := range all(r.Explanation) {
				if *e.Spearman != 1 || *e.SelfCheck != 1 || *e.TopKJaccard != 1 || *e.MassDisplacement != 0 || *e.CrossFaithfulness != 1 || e.Samples != 4 || e.Calibrated == nil {
					t.Errorf("%s: %+v, want a similarity of exactly 1", e.Method, e)
				}
				if (e.SSIM == nil) != strings.HasPrefix(tt.model, "tabular") || e.SSIM != nil && *e.SSIM != 1 {
					t.Errorf("%s: SSIM %v", e.Method, e.SSIM)
				}
			}
			var why []string
			for _, s := range r.Skipped {
				if strings.HasPrefix(s.Section, "explanation") {
					why = append(why, s.Reason)
				}
			}
			if tt.skipped == "" && len(why) > 0 || tt.skipped != "" && (len(why) != 1 || !strings.Contains(why[0], tt.skipped)) {
				t.Errorf("skipped %q, want %q", why, tt.skipped)
			}
			if _, err := r.JSON(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A method that cannot be used is named, has no figures, and so fails its gate; it is not replaced by the next one.
func TestPrimaryMethodIsNotReplaced(t *testing.T) {
	o := runtimeOptions(t, testdata+"digits-vit.onnx", testdata+"digits-vit.onnx", testdata+"digits-val.npz")
	o.Explain.Samples = 2
	r := explained(t, o, "recipro-cam", "occlusion")
	if e := r.Explanation; e.Method != "recipro-cam" || e.Spearman != nil || len(e.Others) != 1 || *e.Others[0].Spearman != 1 {
		t.Errorf("explanation %+v", e)
	}
	if v := judged(t, r, map[string]string{"min-explanation-rho": "0.1"}); v != report.Fail {
		t.Errorf("verdict %s, want fail", v)
	}
	if r := explained(t, o, "recipro-cam"); r.Explanation != nil {
		t.Errorf("explanation %+v, want none", r.Explanation)
	}
}

// similarityOfAll is the median rank correlation over all samples, those whose prediction changed too.
func similarityOfAll(t *testing.T, e *report.Explanation) float64 {
	t.Helper()
	var rho []float64
	for _, m := range e.Maps {
		v, _ := explain.Spearman(m.Baseline, m.Candidate)
		rho = append(rho, v)
	}
	for _, f := range e.Flips {
		if f.Map == nil || f.Baseline == f.Candidate {
			t.Fatalf("%s: flip %+v, want two classes and both maps", e.Method, f)
		}
		v, _ := explain.Spearman(f.Map.Baseline, f.Map.Candidate)
		rho = append(rho, v)
	}
	if *e.Flipped != len(e.Flips) || len(rho) == 0 {
		t.Fatalf("%s: %d flips, %d listed, %d maps", e.Method, *e.Flipped, len(e.Flips), len(rho))
	}
	return measure.Median(rho)
}

// shuffled permutes the elements of a weight.
func shuffled(t *testing.T, v *onnx.Value) {
	t.Helper()
	w, err := v.Const.Float64s()
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	rng.Shuffle(len(w), func(i, j int) { w[i], w[j] = w[j], w[i] })
	replaceWeight(t, v, w)
}

func replaceWeight(t *testing.T, v *onnx.Value, w []float64) {
	t.Helper()
	c, err := onnx.FromFloat64s(v.Const.Name, v.Const.DType, v.Const.Shape, w)
	if err != nil {
		t.Fatal(err)
	}
	v.SetConst(c)
}

// The sanity check of Adebayo et al., 2018: explanations that a shuffled last layer does not change explain nothing of the model.
func TestShuffledHead(t *testing.T) {
	bad := edited(t, testdata+"digits-cnn.onnx", func(m *onnx.Model) { shuffled(t, head(m)) })
	o := runtimeOptions(t, testdata+"digits-cnn.onnx", bad, testdata+"digits-val.npz")
	o.Explain.Samples, o.Explain.Perturbations = 12, 200
	for _, e := range all(explained(t, o, "occlusion", "feature-ablation", "kernel-shap", "rise", "recipro-cam").Explanation) {
		rho := similarityOfAll(t, e)
		t.Logf("%s: %.3f with a shuffled last layer, %d of 12 predictions changed", e.Method, rho, *e.Flipped)
		if rho > 0.6 {
			t.Errorf("%s: rank correlation %.3f with a shuffled last layer, want less", e.Method, rho)
		}
	}
}

// coarsened rounds every weight to so many bits, with one scale for a tensor.
func coarsened(t *testing.T, m *onnx.Model, bits int) {
	t.Helper()
	for _, v := range m.Graph.Initializers() {
		if n, _ := v.Const.Elements(); v.Const.DType != onnx.Float || n < 64 || len(v.Const.Shape) < 2 {
			continue
		}
		w, err := v.Const.Float64s()
		if err != nil {
			t.Fatal(err)
		}
		top := math.Exp2(float64(bits-1)) - 1
		scale := max(slices.Max(w), -slices.Min(w)) / top
		for i := range w {
			w[i] = scale * math.Round(w[i]/scale)
		}
		replaceWeight(t, v, w)
	}
}

// calibration opens the last of the data, which is not explained, for a model.
func calibration(t *testing.T, path, data string, o dataset.Options) *dataset.Set {
	t.Helper()
	m, err := onnxfile.Open(path, onnxfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for _, v := range m.Graph.Inputs() {
		if v.Const == nil {
			o.Inputs = append(o.Inputs, dataset.Port{Name: strings.Clone(v.Name()), Type: v.Type})
		}
	}
	o.Skip, o.Limit = 100, 16
	s, err := dataset.Open(data, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// The fewer bits the weights have, the less the maps are like those of the original.
func TestFewerBits(t *testing.T) {
	last := map[string]float64{}
	for _, bits := range []int{8, 4, 2} {
		path := edited(t, testdata+"digits-cnn.onnx", func(m *onnx.Model) { coarsened(t, m, bits) })
		o := runtimeOptions(t, testdata+"digits-cnn.onnx", path, testdata+"digits-val.npz")
		o.Explain.Samples, o.Explain.Perturbations = 8, 200
		for _, e := range all(explained(t, o, "occlusion", "kernel-shap", "rise", "recipro-cam").Explanation) {
			rho := similarityOfAll(t, e)
			t.Logf("%d bits: %s %.3f", bits, e.Method, rho)
			if before, ok := last[e.Method]; ok && rho >= before || bits == 8 && rho < 0.95 {
				t.Errorf("%s: rank correlation %.3f with weights of %d bits, %.3f with twice as many", e.Method, rho, bits, before)
			}
			last[e.Method] = rho
		}
	}
}

// What is quantized more is explained more differently, also in models of the corpus: int8 is nearer to the original than weights of 2 bits.
func TestQuantizedOrder(t *testing.T) {
	if !zootest.All() {
		t.Skip("takes minutes: set LAPIDARY_CORPUS=all")
	}
	pixels, err := dataset.ParsePreprocess("layout=nchw,channels=bgr,mean=104.007:116.669:122.679")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		model, data string
		methods     []string
		options     dataset.Options
		token       int64
	}{
		{"squeezenet1.1", "imagenet", []string{"recipro-cam", "occlusion"}, dataset.Options{Preprocess: pixels}, 0},
		{"magika-fast", "magika-fast.npz", []string{"occlusion"}, dataset.Options{}, 256},
	} {
		t.Run(tt.model, func(t *testing.T) {
			path := zootest.Path(t, "models/"+tt.model+".onnx")
			o := runtimeOptions(t, path, "", zootest.Path(t, "data/"+tt.data))
			o.Dataset, o.Explain.Token = tt.options, tt.token
			o.Explain.Samples, o.Explain.Perturbations, o.Explain.Grid = 4, 64, 5
			int8 := filepath.Join(t.TempDir(), "int8.onnx")
			q := quantize.Options{Dynamic: tt.token > 0}
			if !q.Dynamic {
				q.Open, q.Calibration = o.Open, calibration(t, path, o.Data, tt.options)
			}
			if _, err := quantize.File(t.Context(), int8, path, q); err != nil {
				t.Fatal(err)
			}
			o.Candidate = int8
			near := explained(t, o, tt.methods...)
			o.Candidate = edited(t, path, func(m *onnx.Model) { coarsened(t, m, 2) })
			far := explained(t, o, tt.methods...)
			for i, e := range all(near.Explanation) {
				a, b := similarityOfAll(t, e), similarityOfAll(t, all(far.Explanation)[i])
				t.Logf("%s: int8 %.3f, 2 bits %.3f", e.Method, a, b)
				if a <= b || a < 0.8 {
					t.Errorf("%s: rank correlation %.3f with int8, %.3f with 2 bits: want more, and at least 0.8", e.Method, a, b)
				}
				if c := e.Calibrated; c == nil || *c.Spearman < 0.9 || (tt.token > 0) != strings.Contains(c.How, "float16") {
					t.Errorf("%s: calibrated %+v", e.Method, c)
				}
			}
		})
	}
}

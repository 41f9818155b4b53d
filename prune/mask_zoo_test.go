package prune_test

import (
	"context"
	"math"
	"path/filepath"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/ort"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/internal/zootest"
	"github.com/lapidary-ml/lapidary/prune"
)

// nll is the mean of −log p(label) over rows of the first output, which are
// distributions or logits.
func nll(t *testing.T, open session.Opener, model string, set *dataset.Set) float64 {
	t.Helper()
	s, err := open(t.Context(), model, session.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	sum, rows := 0.0, 0
	for sample, err := range set.Samples(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.Run(t.Context(), sample.Inputs)
		if err != nil {
			t.Fatal(err)
		}
		labels, err := sample.Label.Ints()
		if err != nil {
			t.Fatal(err)
		}
		f, err := r.Outputs[s.Outputs()[0].Name].Float64s()
		if err != nil {
			t.Fatal(err)
		}
		n := len(f) / len(labels)
		for i, label := range labels {
			sum += surprise(f[i*n:(i+1)*n], label)
			rows++
		}
	}
	return sum / float64(rows)
}

// surprise is −log p(label) for a distribution or logits.
func surprise(row []float64, label int64) float64 {
	total, exps, top := 0.0, 0.0, math.Inf(-1)
	distribution := true
	for _, x := range row {
		total += x
		top = max(top, x)
		distribution = distribution && x >= 0
	}
	if distribution && math.Abs(total-1) < 1e-3 {
		return -math.Log(max(row[label], 1e-12))
	}
	for _, x := range row {
		exps += math.Exp(x - top)
	}
	return top + math.Log(exps) - row[label]
}

// TestZooLoss holds the ways to choose masks against each other on real models, by
// the loss on data that nothing was calibrated on.
func TestZooLoss(t *testing.T) {
	for _, c := range []struct {
		model, data, pattern string
		samples, held        int64
		close                bool // Wanda costs next to nothing: SparseGPT is held against magnitudes only
	}{
		{"stories260K", "stories.npz", "unstructured", 24, 32, false}, {"stories260K", "stories.npz", "2:4", 24, 32, false},
		{"magika-fast", "magika-fast.npz", "unstructured", 76, 76, true}, {"magika-fast", "magika-fast.npz", "2:4", 76, 76, false},
	} {
		t.Run(c.model+" "+c.pattern, func(t *testing.T) {
			if c.model != "stories260K" && !zootest.All() {
				t.Skip("takes long; set LAPIDARY_CORPUS=all")
			}
			src, data := zootest.Path(t, "models/"+c.model+".onnx"), zootest.Path(t, "data/"+c.data)
			l := &losses{open: ort.Opener(zootest.Library(t)), src: src, pattern: c.pattern,
				fit:  openData(t, src, data, dataset.Options{Limit: c.samples, Shuffle: true, Seed: 1}),
				held: openData(t, src, data, dataset.Options{Skip: c.samples, Limit: c.held, Shuffle: true, Seed: 1})}
			l.base = nll(t, l.open, src, l.held)
			m, _ := l.rise(t, prune.Magnitude, "none")
			_, wandas := l.rise(t, prune.Wanda, "obs")
			w, _ := l.rise(t, prune.Wanda, "none")
			if w > m {
				t.Errorf("loss rises by %.4f with Wanda, %.4f by magnitude", w, m)
			}
			s, ours := l.rise(t, prune.SparseGPT, "obs")
			if !(s < m) || !c.close && !(s < w) {
				t.Errorf("loss rises by %.4f with SparseGPT, %.4f with Wanda, %.4f by magnitude", s, w, m)
			}
			if !(ours < wandas) {
				t.Errorf("the mean error of the outputs of layers is %.4f with SparseGPT, %.4f with that of Wanda and the same repair", ours, wandas)
			}
			if zootest.All() {
				l.rise(t, prune.Magnitude, "auto")
				l.rise(t, prune.SparseGPT, "auto")
			}
		})
	}
}

// losses prunes one model in different ways.
type losses struct {
	open         session.Opener
	src, pattern string
	fit, held    *dataset.Set
	base         float64
}

// rise returns what pruning adds to the loss, and the mean error of the layers'
// outputs where that was measured.
func (l *losses) rise(t *testing.T, importance, repair string) (loss, layers float64) {
	t.Helper()
	o := prune.Options{Sparsity: 0.5, Verify: &produce.Verify{Open: l.open, Data: l.fit, Samples: 1}}
	o.Pattern, o.Importance, o.Repair, o.Calibration, o.Open = l.pattern, importance, repair, l.fit, l.open
	if l.pattern == "unstructured" && importance == prune.Magnitude {
		o.Scope = prune.Layer
	}
	dst := filepath.Join(t.TempDir(), "pruned.onnx")
	r, err := prune.File(context.Background(), dst, l.src, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range r.Audit {
		if !a.Valid {
			t.Errorf("%s: %d of %d groups are invalid", a.Name, a.Invalid, a.Groups)
		}
	}
	measured := 0
	for _, w := range r.Weights {
		if w.Error != nil {
			layers, measured = layers+*w.Error, measured+1
		}
	}
	loss = nll(t, l.open, dst, l.held) - l.base
	layers /= float64(max(measured, 1))
	t.Logf("%-9s repair %-4s: %.1f %% zeros, loss %.4f + %.4f, layers %.4f", importance, repair, 100*r.After, l.base, loss, layers)
	return loss, layers
}

// TestZooMasks prunes every model that has data, and those with subgraphs.
func TestZooMasks(t *testing.T) {
	open := ort.Opener(zootest.Library(t))
	for _, c := range []struct{ model, data string }{{"mnist-8", "mnist.npz"}, {"mnist-cnn", "mnist.npz"}, {"iris-mlp", "iris.npz"}, {"silero-vad", "silero.npz"}} {
		if !zootest.Chosen(c.model) && c.model != "mnist-cnn" {
			continue
		}
		for _, importance := range []string{prune.Wanda, prune.SparseGPT} {
			t.Run(c.model+" "+importance, func(t *testing.T) {
				src := zootest.Path(t, "models/"+c.model+".onnx")
				set := openData(t, src, zootest.Path(t, "data/"+c.data), dataset.Options{Limit: 40, Seed: 1})
				o := prune.Options{Verify: &produce.Verify{Open: open, Data: set}}
				o.Pattern, o.Importance, o.Calibration, o.Open = "2:4", importance, set, open
				dst := filepath.Join(t.TempDir(), "pruned.onnx")
				r, err := prune.File(context.Background(), dst, src, o)
				if err != nil {
					t.Fatal(err)
				}
				for _, a := range r.Audit {
					if !a.Valid {
						t.Errorf("%s: %d of %d groups are invalid", a.Name, a.Invalid, a.Groups)
					}
				}
				for _, w := range r.Weights {
					t.Logf("%s %v by %s %s %+v", w.Name, w.Shape, w.Importance, w.Unmeasured, w.Repairs)
				}
				if len(r.Weights) == 0 || len(r.Audit) < len(r.Weights) {
					t.Errorf("%d weights, %d audited", len(r.Weights), len(r.Audit))
				}
			})
		}
	}
}

// TestZooHalf prunes a float16 model without an engine.
func TestZooHalf(t *testing.T) {
	src := zootest.Path(t, "models/squeezenet1.1-fp16.onnx")
	o := prune.Options{}
	o.Pattern = "2:4"
	r, err := prune.File(context.Background(), filepath.Join(t.TempDir(), "p.onnx"), src, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range r.Weights {
		if len(w.Shape) != 4 {
			t.Errorf("%s has shape %v", w.Name, w.Shape)
		}
	}
	for _, a := range r.Audit {
		if !a.Valid {
			t.Errorf("%s is not 2:4", a.Name)
		}
	}
	if len(r.Weights) < 20 || r.After < 0.45 {
		t.Errorf("%d weights, %.3f zero", len(r.Weights), r.After)
	}
}

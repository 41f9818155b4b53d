package quantize_test

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/internal/zootest"
	"github.com/lapidary-ml/lapidary/quantize"
)

// recovered quantizes a model with some steps of recovery.
func recovered(t *testing.T, ctx context.Context, src, steps string, open session.Opener, calib *dataset.Set) (string, *quantize.Result, error) {
	t.Helper()
	dst := filepath.Join(t.TempDir(), "q.onnx")
	r, err := quantize.File(ctx, dst, src, quantize.Options{Open: open, Calibration: calib,
		RecoverOptions: quantize.RecoverOptions{Recover: steps, HeldOut: 16}})
	return dst, r, err
}

// TestRecover: on data that calibration never saw, a recovered model is no worse
// than one that is not, and what was done is told. Large models are for
// LAPIDARY_CORPUS=all.
func TestRecover(t *testing.T) {
	open := opener(t)
	for _, c := range []struct {
		model, calib, eval string
		pre                string
		n, m               int64
	}{
		{"../testdata/digits-cnn.onnx", "../testdata/digits-calib.npz", "../testdata/digits-val.npz", "", 64, 200},
		{"../testdata/digits-vit.onnx", "../testdata/digits-calib.npz", "../testdata/digits-val.npz", "", 32, 100},
		{"../testdata/tabular-mlp.onnx", "../testdata/tabular-calib.npz", "../testdata/tabular-val.npz", "", 128, 400},
		{"models/mnist-cnn.onnx", "data/mnist.npz", "", "scale=1/255,mean=0.1307,std=0.3081", 64, 200},
		{"models/squeezenet1.1.onnx", "data/imagenet", "", "layout=nchw,channels=bgr,mean=104.007:116.669:122.679,std=1", 32, 32},
		{"models/ultraface-rfb-320.onnx", "data/imagenet", "", "resize=320x240,layout=nchw,mean=127,std=128", 32, 24},
		{"models/magika-fast.onnx", "data/magika-fast.npz", "", "", 64, 100},
	} {
		t.Run(strings.TrimSuffix(filepath.Base(c.model), ".onnx"), func(t *testing.T) {
			src := c.model
			calib, eval := dataset.Options{Limit: c.n}, dataset.Options{Limit: c.m}
			if large := c.model != "models/mnist-cnn.onnx"; c.eval == "" && large && !zootest.All() {
				t.Skip("takes a while; set LAPIDARY_CORPUS=all")
			}
			if c.eval == "" {
				src, c.calib = zootest.Path(t, c.model), zootest.Path(t, c.calib)
				c.eval, eval.Skip = c.calib, c.n
			}
			if c.pre != "" {
				p, err := dataset.ParsePreprocess(c.pre)
				if err != nil {
					t.Fatal(err)
				}
				calib.Preprocess, eval.Preprocess = p, p
				calib.Shuffle, eval.Shuffle = true, true
			}
			src = fused(t, src)
			calibration, evaluation := openData(t, src, c.calib, calib), openData(t, src, c.eval, eval)
			plain, _, err := recovered(t, t.Context(), src, "none", open, calibration)
			if err != nil {
				t.Fatal(err)
			}
			better, r, err := recovered(t, t.Context(), src, "auto", open, calibration)
			if err != nil {
				t.Fatal(err)
			}
			before, after := signalToNoise(t, open, src, plain, evaluation), signalToNoise(t, open, src, better, evaluation)
			t.Logf("%.2f → %.2f dB on %d other samples, %d held out, %d models tried", before, after, evaluation.Len(), r.Recovery.Samples, r.Recovery.Trials)
			for _, s := range r.Recovery.Steps {
				t.Logf("%-9s kept %-5v %6.2f → %6.2f dB, %d layers: %s", s.Name, s.Kept, s.Before, s.After, len(s.Layers), s.Note)
			}
			if after < before {
				t.Errorf("the signal to noise ratio fell from %.2f to %.2f dB", before, after)
			}
		})
	}
}

// signalToNoise is that of the first output over all samples, in dB.
func signalToNoise(t *testing.T, open session.Opener, float, quantized string, data *dataset.Set) float64 {
	t.Helper()
	var s [2]session.Session
	for i, path := range []string{float, quantized} {
		var err error
		if s[i], err = open(t.Context(), path, session.Options{Level: session.LevelOff}); err != nil {
			t.Fatal(err)
		}
		defer s[i].Close()
	}
	var signal, noise float64
	for sample, err := range data.Samples(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		var out [2][]float64
		for i := range s {
			r, err := s[i].Run(t.Context(), sample.Inputs)
			if err != nil {
				t.Fatal(err)
			}
			if out[i], err = r.Outputs[s[0].Outputs()[0].Name].Float64s(); err != nil {
				t.Fatal(err)
			}
		}
		for k, want := range out[0] {
			signal += want * want
			noise += (out[1][k] - want) * (out[1][k] - want)
		}
	}
	return 10 * math.Log10(signal/noise)
}

// TestRecoverRepeats: the same bytes every time, and nothing after an interruption.
func TestRecoverRepeats(t *testing.T) {
	open := opener(t)
	src := fused(t, "../testdata/digits-cnn.onnx")
	calib := openData(t, src, "../testdata/digits-calib.npz", dataset.Options{Limit: 32})
	var first []byte
	for range 2 {
		dst, _, err := recovered(t, t.Context(), src, "auto", open, calib)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(dst)
		if err != nil {
			t.Fatal(err)
		}
		if first != nil && !bytes.Equal(first, b) {
			t.Error("a second run gives another model")
		}
		first = b
	}
	ctx, cancel := context.WithCancel(t.Context())
	dst := filepath.Join(t.TempDir(), "q.onnx")
	_, err := quantize.File(ctx, dst, src, quantize.Options{Open: open, Calibration: calib,
		RecoverOptions: quantize.RecoverOptions{Recover: "auto"},
		Progress: func(stage string) {
			if strings.HasPrefix(stage, "recovering") {
				cancel()
			}
		}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("it was not interrupted: %v", err)
	}
	if _, err := os.Stat(dst); err == nil {
		t.Error("an interrupted run left a file")
	}
}

// TestRecoverDeclines: too little data, or generated data, decides nothing.
func TestRecoverDeclines(t *testing.T) {
	open := opener(t)
	src := fused(t, "../testdata/digits-cnn.onnx")
	for _, c := range []struct {
		limit     int64
		synthetic bool
		want      string
	}{{12, false, "16 calibration samples or more"}, {32, true, "generated data"}} {
		dst := filepath.Join(t.TempDir(), "q.onnx")
		r, err := quantize.File(t.Context(), dst, src, quantize.Options{Open: open, Synthetic: c.synthetic,
			Calibration:    openData(t, src, "../testdata/digits-calib.npz", dataset.Options{Limit: c.limit}),
			RecoverOptions: quantize.RecoverOptions{Recover: "auto"}})
		if err != nil {
			t.Fatal(err)
		}
		if r.Recovery != nil || !strings.Contains(strings.Join(r.Log.Notices, "\n"), c.want) || r.Calibration.Samples != c.limit {
			t.Errorf("%d samples, synthetic %v: %+v, %v", c.limit, c.synthetic, r.Recovery, r.Log.Notices)
		}
	}
}

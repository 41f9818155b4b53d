package quantize_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/fuse"
	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/internal/zootest"
	"github.com/lapidary-ml/lapidary/quantize"
)

// TestZoo quantizes real models by every scheme and prints what became of them;
// on more data, and the large ones by every scheme, with LAPIDARY_CORPUS=all.
func TestZoo(t *testing.T) {
	open := opener(t)
	zoo := zootest.Dir(t)
	few, pictures, val := int64(12), int64(6), int64(60)
	if zootest.All() {
		few, pictures, val = 32, 32, 200
	}
	for _, c := range []struct {
		model, data string
		pre         string
	}{
		{"mnist-8", "mnist.npz", ""}, {"mnist-cnn", "mnist.npz", ""}, {"iris-mlp", "iris.npz", ""},
		{"magika-fast", "magika-fast.npz", ""}, {"stories260K", "stories.npz", ""},
		{"silero-vad", "silero.npz", ""}, {"squeezenet1.1", "", "layout=nchw,channels=bgr,mean=104.007:116.669:122.679,std=1"},
		{"ultraface-rfb-320", "", "resize=320x240,layout=nchw,mean=127,std=128"},
	} {
		for _, scheme := range []string{"static", "dynamic", "fp16"} {
			t.Run(c.model+"/"+scheme, func(t *testing.T) {
				if c.pre != "" && scheme == "dynamic" && !zootest.All() {
					t.Skip("convolutions have no dynamic int8; set LAPIDARY_CORPUS=all")
				}
				src := filepath.Join(zoo, "models", c.model+".onnx")
				spec, count := "synthetic:8", int64(0)
				if c.data != "" {
					spec, count = filepath.Join(zoo, "data", c.data), few
				}
				do := dataset.Options{Limit: count, Seed: 1, Shuffle: c.pre != ""}
				if c.pre != "" {
					spec, do.Limit = filepath.Join(zoo, "data", "imagenet"), pictures
					p, err := dataset.ParsePreprocess(c.pre)
					if err != nil {
						t.Fatal(err)
					}
					do.Preprocess = p
				}
				set := openData(t, src, spec, do)
				o := quantize.Options{Verify: &produce.Verify{Open: open, Data: set}}
				switch scheme {
				case "static":
					o.Calibration, o.Open, o.Synthetic = set, open, strings.HasPrefix(spec, "synthetic")
					o.ReduceRange = strings.HasPrefix(c.model, "squeezenet") // which saturates without VNNI
				case "fp16":
					o.To = quantize.Float16
				}
				if c.model == "ultraface-rfb-320" {
					src = fused(t, src)
				}
				dst := filepath.Join(t.TempDir(), "q.onnx")
				r, err := quantize.File(context.Background(), dst, src, o)
				var nothing *quantize.Nothing
				if errors.As(err, &nothing) && slices.Contains(nothingInZoo, c.model+"/"+scheme) {
					t.Log(err)
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("%d → %d bytes, %d quantized, %d kept, %d rolled back: %v", r.Input.Bytes, r.Output.Bytes, r.Quantized, r.Kept, len(r.RolledBack), r.Checked)
				if sample, err := set.At(t.Context(), 0); err == nil && sample.Label != nil && len(sample.Label.Shape) == 0 && c.model != "ultraface-rfb-320" {
					do.Limit, do.Skip = val, do.Limit
					val := openData(t, src, spec, do)
					before, after := accuracy(t, open, src, val), accuracy(t, open, dst, val)
					t.Logf("accuracy on %d samples %.2f → %.2f %%", val.Len(), before, after)
					if before-after > 2+100/float64(val.Len()) {
						t.Errorf("accuracy fell from %.2f to %.2f %%", before, after)
					}
				}
				t.Logf("a run takes %.2f of the original's time, roughly", median(t, open, dst, set)/median(t, open, src, set))
				for _, b := range r.RolledBack {
					t.Errorf("%s: %s", b.Firing.Key, b.Reason)
				}
			})
		}
	}
}

// nothingInZoo are the models and schemes that have nothing for each other.
var nothingInZoo = []string{"mnist-8/dynamic", "squeezenet1.1/dynamic", "ultraface-rfb-320/dynamic", "silero-vad/static", "silero-vad/dynamic"}

// fused returns the fused form of a model whose weights callers may override.
func fused(t *testing.T, src string) string {
	t.Helper()
	dst := filepath.Join(t.TempDir(), "fused.onnx")
	if _, err := fuse.File(context.Background(), dst, src, fuse.Options{}); err != nil {
		t.Fatal(err)
	}
	return dst
}

// median is the middle time of a run on the first sample, in seconds.
func median(t *testing.T, open session.Opener, model string, set *dataset.Set) float64 {
	t.Helper()
	s, err := open(t.Context(), model, session.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	sample, err := set.At(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	times, err := s.(session.Timer).Time(t.Context(), sample.Inputs, 21)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(times)
	return times[len(times)/2].Seconds()
}

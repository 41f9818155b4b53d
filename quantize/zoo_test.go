package quantize_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/fuse"
	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/quantize"
)

// TestZoo quantizes real models by every scheme and prints what became of them.
func TestZoo(t *testing.T) {
	open := opener(t)
	zoo := os.Getenv("LAPIDARY_ZOO")
	if zoo == "" {
		zoo = filepath.Join("..", "..", "shared", "zoo")
	}
	if _, err := os.Stat(zoo); err != nil {
		t.Skipf("no model zoo: %v", err)
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
				src := filepath.Join(zoo, "models", c.model+".onnx")
				spec, count := "synthetic:8", int64(0)
				if c.data != "" {
					spec, count = filepath.Join(zoo, "data", c.data), 32
				}
				do := dataset.Options{Limit: count, Seed: 1, Shuffle: c.pre != ""}
				if c.pre != "" {
					spec, do.Limit = filepath.Join(zoo, "data", "imagenet"), 32
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
				case "fp16":
					o.To = quantize.Float16
				}
				if c.model == "ultraface-rfb-320" {
					src = fused(t, src)
				}
				r, err := quantize.File(context.Background(), filepath.Join(t.TempDir(), "q.onnx"), src, o)
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("%d → %d bytes, %d quantized, %d kept, %d rolled back: %v", r.Input.Bytes, r.Output.Bytes, r.Quantized, r.Kept, len(r.RolledBack), r.Checked)
			})
		}
	}
}

// fused returns the fused form of a model whose weights callers may override.
func fused(t *testing.T, src string) string {
	t.Helper()
	dst := filepath.Join(t.TempDir(), "fused.onnx")
	if _, err := fuse.File(context.Background(), dst, src, fuse.Options{}); err != nil {
		t.Fatal(err)
	}
	return dst
}

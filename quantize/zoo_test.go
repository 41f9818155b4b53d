package quantize_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

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
		state       map[string]string
	}{
		{"mnist-8", "mnist.npz", nil}, {"mnist-cnn", "mnist.npz", nil}, {"iris-mlp", "iris.npz", nil},
		{"magika-fast", "magika-fast.npz", nil}, {"stories260K", "stories.npz", nil},
		{"silero-vad", "silero.npz", nil}, {"squeezenet1.1", "", nil}, {"ultraface-rfb-320", "", nil},
	} {
		for _, scheme := range []string{"static", "dynamic", "fp16"} {
			t.Run(c.model+"/"+scheme, func(t *testing.T) {
				src := filepath.Join(zoo, "models", c.model+".onnx")
				spec, count := "synthetic:8", int64(0)
				if c.data != "" {
					spec, count = filepath.Join(zoo, "data", c.data), 32
				}
				set := openData(t, src, spec, dataset.Options{Limit: count, State: c.state, Seed: 1})
				o := quantize.Options{Verify: &produce.Verify{Open: open, Data: set}}
				switch scheme {
				case "static":
					o.Calibration, o.Open, o.Synthetic = set, open, c.data == ""
				case "fp16":
					o.To = quantize.Float16
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

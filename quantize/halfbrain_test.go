package quantize_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/quantize"
)

// TestBrain: bfloat16 of models for which the runtime here has kernels or not.
func TestBrain(t *testing.T) {
	for _, c := range []struct{ model, calib, val string }{
		{"digits-cnn", "digits-calib.npz", "digits-val.npz"}, {"digits-vit", "digits-calib.npz", "digits-val.npz"},
	} {
		src := filepath.Join("..", "testdata", c.model+".onnx")
		open := opener(t)
		calib, val := filepath.Join("..", "testdata", c.calib), filepath.Join("..", "testdata", c.val)
		o := quantize.Options{To: quantize.BFloat16, Open: open, Calibration: openData(t, src, calib, dataset.Options{Limit: 16}),
			Verify: &produce.Verify{Open: open}}
		h := quantizedHalf(t, src, calib, dataset.Options{Limit: 32}, o)
		if h.error > 5e-2 || float64(h.Output.Bytes) > 0.6*float64(h.Input.Bytes) {
			t.Errorf("%s: error %v, %d → %d bytes", c.model, h.error, h.Input.Bytes, h.Output.Bytes)
		}
		set := openData(t, src, val, dataset.Options{})
		if a, b := accuracy(t, open, src, set), accuracy(t, open, h.Output.Path, set); a-b > 0.5 {
			t.Errorf("%s: accuracy %.2f → %.2f", c.model, a, b)
		}
	}
}

// TestBrainUnasked: without an engine the opset is one in which operators take bfloat16.
func TestBrainUnasked(t *testing.T) {
	dst := filepath.Join(t.TempDir(), "half.onnx")
	r, err := quantize.File(t.Context(), dst, filepath.Join("..", "testdata", "digits-cnn.onnx"), quantize.Options{To: quantize.BFloat16})
	if err != nil {
		t.Fatal(err)
	}
	m, err := onnxfile.Open(dst, onnxfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if m.OpsetVersion("") != 22 || r.Quantized == 0 || !strings.Contains(fmt.Sprint(r.Log.Notices), "no engine was asked") {
		t.Errorf("opset %d, %d nodes, %q", m.OpsetVersion(""), r.Quantized, r.Log.Notices)
	}
	for _, why := range idleCasts(m) {
		t.Error(why)
	}
}

package quantize_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/ort"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/internal/zootest"
	"github.com/lapidary-ml/lapidary/quantize"
)

// opener returns the engine, or skips the test.
func opener(t *testing.T) session.Opener {
	t.Helper()
	return ort.Opener(zootest.Library(t))
}

func openData(t *testing.T, model, spec string, o dataset.Options) *dataset.Set {
	t.Helper()
	m, err := onnxfile.Open(model, onnxfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for _, v := range m.Graph.Inputs() {
		if v.Const == nil {
			o.Inputs = append(o.Inputs, dataset.Port{Name: v.Name(), Type: v.Type})
		}
	}
	s, err := dataset.Open(spec, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// accuracy is the share of samples whose largest first output is at the label.
func accuracy(t *testing.T, open session.Opener, model string, data *dataset.Set) float64 {
	t.Helper()
	s, err := open(context.Background(), model, session.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	right := 0
	for sample, err := range data.Samples(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.Run(context.Background(), sample.Inputs)
		if err != nil {
			t.Fatal(err)
		}
		want, err := sample.Label.Ints()
		if err != nil {
			t.Fatal(err)
		}
		if int64(argmax(t, r.Outputs[s.Outputs()[0].Name])) == want[0] {
			right++
		}
	}
	return 100 * float64(right) / float64(data.Len())
}

func argmax(t *testing.T, x *onnx.Tensor) int {
	t.Helper()
	f, err := x.Floats()
	if err != nil {
		t.Fatal(err)
	}
	best := 0
	for i, v := range f {
		if v > f[best] {
			best = i
		}
	}
	return best
}

func TestStaticAccuracy(t *testing.T) {
	open := opener(t)
	for _, c := range []struct{ model, calib, val string }{
		{"digits-cnn", "digits-calib.npz", "digits-val.npz"},
		{"digits-vit", "digits-calib.npz", "digits-val.npz"},
		{"tabular-mlp", "tabular-calib.npz", "tabular-val.npz"},
	} {
		t.Run(c.model, func(t *testing.T) {
			src := filepath.Join("..", "testdata", c.model+".onnx")
			calib := openData(t, src, filepath.Join("..", "testdata", c.calib), dataset.Options{Limit: 100})
			val := openData(t, src, filepath.Join("..", "testdata", c.val), dataset.Options{})
			dst := filepath.Join(t.TempDir(), "q.onnx")
			r, err := quantize.File(context.Background(), dst, src, quantize.Options{Calibration: calib, Open: open,
				Verify: &produce.Verify{Open: open}})
			if err != nil {
				t.Fatal(err)
			}
			if r.Quantized == 0 || len(r.RolledBack) > 0 {
				t.Errorf("%d nodes quantized, rolled back: %v", r.Quantized, r.RolledBack)
			}
			before, after := accuracy(t, open, src, val), accuracy(t, open, dst, val)
			t.Logf("%d → %d bytes, accuracy %.2f → %.2f %%, %d quantized, %d kept, %v", r.Input.Bytes, r.Output.Bytes, before, after, r.Quantized, r.Kept, r.Checked)
			if before-after > 0.5 {
				t.Errorf("accuracy fell from %.2f to %.2f %%", before, after)
			}
		})
	}
}

// TestSameBytes checks that the same input and options give the same file.
func TestSameBytes(t *testing.T) {
	open := opener(t)
	src := filepath.Join("..", "testdata", "digits-vit.onnx")
	for _, o := range []quantize.Options{{Open: open}, {}, {To: quantize.Float16}} {
		var first []byte
		for range 2 {
			if o.Open != nil {
				o.Calibration = openData(t, src, filepath.Join("..", "testdata", "digits-calib.npz"), dataset.Options{Limit: 8})
			}
			dst := filepath.Join(t.TempDir(), "q.onnx")
			if _, err := quantize.File(context.Background(), dst, src, o); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(dst)
			if err != nil {
				t.Fatal(err)
			}
			if first != nil && !bytes.Equal(first, b) {
				t.Errorf("%v: two runs gave different files", o.To)
			}
			first = b
		}
	}
}

package quantize_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/internal/zootest"
	"github.com/lapidary-ml/lapidary/quantize"
)

// TestWeightsCorpus quantizes a fifth of the corpus in both forms, all with
// LAPIDARY_CORPUS=all: every result is a valid model whose codes are what its
// operators read, and loads where the original does.
func TestWeightsCorpus(t *testing.T) {
	open := opener(t)
	for _, form := range []string{"matmulnbits", "dequantize"} {
		runs, changed := 0, 0
		for _, archive := range zootest.Archives(t) {
			for name, data := range zootest.Archive(t, archive) {
				if !strings.HasSuffix(name, ".onnx") || !zootest.Chosen(name) || len(data) > 1<<22 {
					continue
				}
				m, err := onnxfile.Decode(data)
				if err != nil {
					continue
				}
				if _, err := m.Repair(); err != nil || m.Check() != nil {
					continue
				}
				runs++
				n, err := coded(t, open, m, form)
				if err != nil {
					t.Errorf("%s:%s, %s: %v", archive, name, form, err)
				}
				if n > 0 {
					changed++
				}
			}
		}
		t.Logf("%s: %d of %d models have weights in blocks", form, changed, runs)
		if runs < 100 || changed < 5 {
			t.Errorf("%s: %d of %d models were quantized", form, changed, runs)
		}
	}
}

// coded quantizes m, writes it and loads it; it returns how many nodes were rewritten.
func coded(t *testing.T, open session.Opener, m *onnx.Model, form string) (int, error) {
	src := filepath.Join(t.TempDir(), "m.onnx")
	f, _, err := quantize.Transform(quantize.Options{To: quantize.Int4, Open: open, WeightOptions: quantize.WeightOptions{Form: form, BlockSize: 16}})
	if err != nil {
		return 0, err
	}
	c := m.Clone()
	log, err := f(context.Background(), c, rewrite.Options{Debug: true})
	if err != nil {
		if strings.Contains(err.Error(), "quantized already") || strings.Contains(err.Error(), "cannot be raised") || strings.Contains(err.Error(), "not known") {
			return 0, nil
		}
		return 0, err
	}
	if len(log.Fired) == 0 {
		return 0, nil
	}
	dst := filepath.Join(t.TempDir(), "q.onnx")
	if _, err := onnxfile.Write(dst, c, onnxfile.WriteOptions{}); err != nil {
		return 0, err
	}
	if _, err := onnxfile.Write(src, m, onnxfile.WriteOptions{}); err != nil {
		return 0, nil
	}
	s, err := open(t.Context(), src, session.Options{})
	if err != nil {
		return len(log.Fired), nil
	}
	s.Close()
	if s, err = open(t.Context(), dst, session.Options{}); err == nil {
		return len(log.Fired), s.Close()
	}
	return len(log.Fired), leftOut(t, open, src, dst, form, err)
}

// leftOut checks what becomes of a result that the runtime does not load, for a
// fault in its own fusions: verification leaves out the node that provokes it.
func leftOut(t *testing.T, open session.Opener, src, dst, form string, why error) error {
	r, err := quantize.File(t.Context(), dst, src, quantize.Options{To: quantize.Int4, Open: open, Verify: &produce.Verify{Open: open},
		WeightOptions: quantize.WeightOptions{Form: form, BlockSize: 16}})
	switch {
	case err != nil && (strings.Contains(err.Error(), "nothing was rewritten") || strings.Contains(err.Error(), "cannot be verified")):
		return nil // the opset alone, or the model
	case err != nil:
		return errors.Join(why, err)
	case len(r.RolledBack) == 0:
		return why
	}
	t.Logf("left out %s: %v", r.RolledBack[0].What(), why)
	return nil
}

// TestZooWeights quantizes real models to 4 and 8 bits and runs the results.
func TestZooWeights(t *testing.T) {
	open := opener(t)
	for _, c := range []struct {
		model, data string
		nodes       int
	}{
		{"iris-mlp", "iris.npz", 1}, {"magika-fast", "magika-fast.npz", 2}, {"stories260K", "stories.npz", 37}, {"mnist-8", "mnist.npz", 1},
	} {
		for _, bits := range []int{4, 8} {
			src := zootest.Path(t, "models/"+c.model+".onnx")
			set := openData(t, src, zootest.Path(t, "data/"+c.data), dataset.Options{Limit: 16})
			if c.model == "mnist-8" {
				src = fused(t, src)
			}
			r, err := quantize.File(t.Context(), filepath.Join(t.TempDir(), "q.onnx"), src, quantize.Options{To: quantize.Int4, Open: open,
				WeightOptions: quantize.WeightOptions{Bits: bits, BlockSize: 32, Asymmetric: true}, Verify: &produce.Verify{Open: open, Data: set}})
			if err != nil {
				t.Errorf("%s: %v", c.model, err)
				continue
			}
			t.Logf("%s, %d bits: %d → %d bytes, %d nodes: %v", c.model, bits, r.Input.Bytes, r.Output.Bytes, r.Quantized, r.Checked)
			if r.Quantized < c.nodes || len(r.RolledBack) > 0 {
				t.Errorf("%s, %d bits: %d nodes, want %d; rolled back %v", c.model, bits, r.Quantized, c.nodes, r.RolledBack)
			}
		}
	}
}

package quantize_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/nets"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/internal/zootest"
	"github.com/lapidary-ml/lapidary/quantize"
)

// TestHalfNets: small networks as exporters write them, norms and activations spelled
// out, masks and caches among them. Some are taken, all with LAPIDARY_CORPUS=all.
func TestHalfNets(t *testing.T) {
	some := []string{"bert", "llama-past", "whisper-encoder", "yolov8n", "unet"}
	for _, name := range nets.Names() {
		if !zootest.All() && !slices.Contains(some, name) {
			continue
		}
		if name == "lstm" || name == "gru" { // whose float16 forms end ONNX Runtime 1.30 while it loads them, and with it a test without workers
			continue
		}
		styles := nets.StylesOf(name)[:2]
		if !zootest.All() {
			styles = styles[len(name)%2:][:1] // one of the two
		}
		for _, style := range styles {
			t.Run(fmt.Sprintf("%s/%s", name, style), func(t *testing.T) {
				src, data := netFiles(t, name, style)
				open := opener(t)
				for to, most := range map[quantize.Target]float64{quantize.Float16: allowed, quantize.BFloat16: 5e-2} {
					o := quantize.Options{To: to, Open: open, Calibration: openData(t, src, data, dataset.Options{}),
						Verify: &produce.Verify{Open: open, Data: openData(t, src, data, dataset.Options{})}}
					h := quantizedHalf(t, src, data, dataset.Options{}, o)
					t.Logf("%s: %d → %d bytes, %d quantized, %d kept, %d casts, error %.2g", to, h.Input.Bytes, h.Output.Bytes, h.Quantized, h.Kept, h.count("Cast"), h.error)
					if h.error > most || h.Quantized == 0 && to == quantize.Float16 {
						t.Errorf("%s: error %v, %d nodes; %q", to, h.error, h.Quantized, h.Log.Notices)
					}
				}
			})
		}
	}
}

// netFiles writes a network and two samples for it.
func netFiles(t *testing.T, name string, style nets.Style) (model, data string) {
	t.Helper()
	m, err := nets.Build(name, nets.Options{Style: style, Spelled: true})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	model, data = filepath.Join(dir, "net.onnx"), filepath.Join(dir, "data")
	if _, err := onnxfile.Write(model, m, onnxfile.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(2) {
		in, err := nets.Inputs(m, seed, nil)
		if err != nil {
			t.Fatal(err)
		}
		folder := filepath.Join(data, fmt.Sprintf("test_data_set_%d", seed))
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		k := 0
		for _, v := range m.Graph.Inputs() {
			if v.Const != nil {
				continue
			}
			b, err := onnxfile.EncodeTensor(in[v.Name()])
			if err == nil {
				err = os.WriteFile(filepath.Join(folder, fmt.Sprintf("input_%d.pb", k)), b, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
			k++
		}
	}
	return model, data
}

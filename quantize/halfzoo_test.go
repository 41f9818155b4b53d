package quantize_test

import (
	"path/filepath"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/internal/zootest"
	"github.com/lapidary-ml/lapidary/quantize"
)

// TestHalfZoo: models with nested If and LSTM, with attention, and a plain network.
func TestHalfZoo(t *testing.T) {
	open := opener(t)
	zoo := zootest.Dir(t)
	for _, c := range []struct {
		model, data, pre string
	}{
		{"silero-vad", "silero.npz", ""},
		{"stories260K", "stories.npz", ""},
		{"squeezenet1.1", "imagenet", "layout=nchw,channels=bgr,mean=104.007:116.669:122.679,std=1"},
	} {
		for to, most := range map[quantize.Target]float64{quantize.Float16: allowed, quantize.BFloat16: 5e-2} {
			t.Run(c.model+"/"+string(to), func(t *testing.T) {
				if to == quantize.BFloat16 && c.model != "silero-vad" && !zootest.All() {
					t.Skip("takes a while; set LAPIDARY_CORPUS=all")
				}
				src, data := filepath.Join(zoo, "models", c.model+".onnx"), filepath.Join(zoo, "data", c.data)
				do := dataset.Options{Limit: 4}
				if c.pre != "" {
					p, err := dataset.ParsePreprocess(c.pre)
					if err != nil {
						t.Fatal(err)
					}
					do.Preprocess = p
				}
				o := quantize.Options{To: to, Open: open, Session: session.Options{Threads: 1}, Calibration: openData(t, src, data, do),
					Verify: &produce.Verify{Open: open, Data: openData(t, src, data, do)}}
				h := quantizedHalf(t, src, data, do, o)
				t.Logf("%d → %d bytes, %d quantized, %d kept, error %.2g, %d casts; %q", h.Input.Bytes, h.Output.Bytes, h.Quantized, h.Kept, h.error, h.count("Cast"), h.Log.Notices)
				if h.error > most || float64(h.Output.Bytes) > 0.6*float64(h.Input.Bytes) {
					t.Errorf("error %v, %d → %d bytes", h.error, h.Input.Bytes, h.Output.Bytes)
				}
			})
		}
	}
}

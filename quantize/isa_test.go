package quantize_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/quantize"
)

// TestPrediction: a network of small convolutions loses much where sums saturate;
// made for such processors, some layers in 7 bits win nearly all of it back.
func TestPrediction(t *testing.T) {
	src := "../testdata/digits-cnn.onnx"
	predict := func(saturates bool) (exact, paired quantize.Prediction) {
		r, err := quantize.File(context.Background(), filepath.Join(t.TempDir(), "q.onnx"), src, quantize.Options{
			Open: opener(t), Method: "minmax", Calibration: openData(t, src, "../testdata/digits-calib.npz", dataset.Options{Limit: 80}),
			ISAOptions: quantize.ISAOptions{PredictISA: true, Saturates: saturates}})
		if err != nil || len(r.Predictions) != 2 {
			t.Fatalf("%d predictions (%v)", len(r.Predictions), err)
		}
		return r.Predictions[0], r.Predictions[1]
	}
	exact, paired := predict(false)
	if paired.Quality.SQNR > exact.Quality.SQNR-5 || len(paired.Layers) == 0 || paired.Narrow != nil {
		t.Errorf("exact %+v, with saturation %+v", exact, paired)
	}
	exact7, paired7 := predict(true)
	if paired7.Quality.SQNR < exact7.Quality.SQNR-0.5 || exact7.Quality.SQNR < exact.Quality.SQNR-4 {
		t.Errorf("made for it: exact %+v, with saturation %+v", exact7, paired7)
	}
	if n := len(paired7.Narrow); n == 0 || n >= len(paired.Layers) {
		t.Errorf("%d of %d layers have weights in 7 bits", n, len(paired.Layers))
	}
}

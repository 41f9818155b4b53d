package quantize_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/quantize"
)

// calibrated quantizes digits-cnn and returns the model and the statistics.
func calibrated(t *testing.T, ctx context.Context, name string, change func(*quantize.Options)) (model, statistics []byte, r *quantize.Result, err error) {
	t.Helper()
	src := "../testdata/digits-cnn.onnx"
	dir := t.TempDir()
	o := quantize.Options{Open: opener(t), Calibration: openData(t, src, "../testdata/digits-calib.npz", dataset.Options{Limit: 60}),
		Batch: 7, Statistics: filepath.Join(dir, "statistics")}
	change(&o)
	dst := filepath.Join(dir, name+".onnx")
	if r, err = quantize.File(ctx, dst, src, o); err != nil {
		return nil, nil, nil, err
	}
	if model, err = os.ReadFile(dst); err == nil {
		statistics, err = os.ReadFile(o.Statistics)
	}
	if err != nil {
		t.Fatal(err)
	}
	return model, statistics, r, nil
}

// TestMeasuredAlike: workers, limits of memory and interruptions change neither
// the statistics nor the model.
func TestMeasuredAlike(t *testing.T) {
	ctx := context.Background()
	want, stats, first, err := calibrated(t, ctx, "plain", func(*quantize.Options) {})
	if err != nil {
		t.Fatal(err)
	}
	if first.Calibration.Passes != 1 || first.Calibration.Samples != 60 || first.Calibration.Reused != 0 {
		t.Errorf("%+v", first.Calibration)
	}
	t.Run("workers", func(t *testing.T) {
		model, got, _, err := calibrated(t, ctx, "plain", func(o *quantize.Options) { o.Workers = 3 })
		if err != nil || string(model) != string(want) || string(got) != string(stats) {
			t.Errorf("three workers give another model or other statistics (%v)", err)
		}
	})
	t.Run("memory", func(t *testing.T) {
		// The largest activation of a batch is 7·32·14·14 floats.
		model, _, r, err := calibrated(t, ctx, "plain", func(o *quantize.Options) { o.MaxMemory = 6 * 7 * 32 * 14 * 14 * 4 })
		if err != nil || r.Calibration.Passes < 2 || string(model) != string(want) {
			t.Errorf("%d passes give another model (%v)", r.Calibration.Passes, err)
		}
	})
	t.Run("interrupted", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "statistics")
		for _, at := range []int64{21, 42} {
			stopped, cancel := context.WithCancel(ctx)
			_, _, _, err := calibrated(t, stopped, "plain", func(o *quantize.Options) {
				o.Statistics, o.SnapshotEvery = file, 1
				o.Calibrated = func(done, _ int64) {
					if done >= at {
						cancel()
					}
				}
			})
			if cancel(); !errors.Is(err, context.Canceled) {
				t.Fatalf("it was not interrupted after %d samples: %v", at, err)
			}
		}
		model, got, r, err := calibrated(t, ctx, "plain", func(o *quantize.Options) { o.Statistics = file })
		if err != nil || string(model) != string(want) || string(got) != string(stats) {
			t.Errorf("what goes on from a file gives another model or other statistics (%v)", err)
		}
		if r.Calibration.Reused < 42 || r.Calibration.Reused == 60 {
			t.Errorf("%d samples came from the file", r.Calibration.Reused)
		}
		again, _, r, err := calibrated(t, ctx, "plain", func(o *quantize.Options) { o.Statistics = file })
		if err != nil || string(again) != string(want) || r.Calibration.Passes != 0 || r.Calibration.Reused != 60 {
			t.Errorf("all from the file: %+v (%v)", r.Calibration, err)
		}
		_, _, r, err = calibrated(t, ctx, "plain", func(o *quantize.Options) { o.Statistics, o.Batch = file, 6 })
		if err != nil || r.Calibration.Reused != 0 {
			t.Errorf("statistics of other batches were used (%v)", err)
		}
	})
}

// TestMethodsOfCalibration: every method gives a model that is about as good, in
// 7 bits, in which no processor saturates.
func TestMethodsOfCalibration(t *testing.T) {
	open := opener(t)
	src, data := "../testdata/digits-cnn.onnx", "../testdata/digits-val.npz"
	float := accuracy(t, open, src, openData(t, src, data, dataset.Options{}))
	got := map[string]float64{}
	for _, name := range quantize.Methods() {
		dst := filepath.Join(t.TempDir(), "q.onnx")
		_, err := quantize.File(context.Background(), dst, src, quantize.Options{Method: name, Open: open, ReduceRange: true,
			Calibration: openData(t, src, "../testdata/digits-calib.npz", dataset.Options{Limit: 80})})
		if err != nil {
			t.Fatal(err)
		}
		if got[name] = accuracy(t, open, dst, openData(t, src, data, dataset.Options{})); got[name] < float-1 {
			t.Errorf("%s: %.2f %% instead of %.2f %%", name, got[name], float)
		}
	}
	t.Logf("float %.2f %%, int8 %s", float, cmp.Diff(nil, got))
}

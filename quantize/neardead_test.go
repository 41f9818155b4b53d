package quantize_test

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/quantize"
)

// nearDead is a Conv one of whose channels hardly depends on its input, with a
// bias that is far beyond int32 in units of the product of the two scales.
const nearDead = `<ir_version: 8, opset_import: ["" : 17]>
main (float[N,2,4,4] x) => (float[N,3,4,4] y) <float[3,2,1,1] w = {1, -0.5, 1e-12, -2e-12, 0, 0}, float[3] b = {0.1, 3, -2}> {
  y = Conv (x, w, b)
}`

// TestNearDeadChannel: such a channel keeps its bias in the engine's integer
// kernels too, whatever the scales of the weights are (ONNX Runtime issues 11415
// and 21000).
func TestNearDeadChannel(t *testing.T) {
	open := opener(t)
	dir := t.TempDir()
	m, err := onnxtext.Parse("near-dead", []byte(nearDead))
	if err != nil {
		t.Fatal(err)
	}
	src, dst := filepath.Join(dir, "f.onnx"), filepath.Join(dir, "q.onnx")
	if _, err := onnxfile.Write(src, m, onnxfile.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	data := openData(t, src, "synthetic:24", dataset.Options{Seed: 3})
	for _, perTensor := range []bool{false, true} {
		if _, err := quantize.File(t.Context(), dst, src, quantize.Options{Open: open, Calibration: data, PerTensor: perTensor}); err != nil {
			t.Fatal(err)
		}
		for _, level := range []session.Level{session.LevelOff, session.LevelAll} {
			s, err := open(t.Context(), dst, session.Options{Level: level})
			if err != nil {
				t.Fatal(err)
			}
			sample, err := data.At(t.Context(), 0)
			if err != nil {
				t.Fatal(err)
			}
			r, err := s.Run(t.Context(), sample.Inputs)
			if err != nil {
				t.Fatal(err)
			}
			s.Close()
			y, err := r.Outputs["y"].Floats()
			if err != nil {
				t.Fatal(err)
			}
			// One step of the output's scale, which spans less than 10.
			for i, want := range map[int]float64{16: 3, 31: 3, 32: -2, 47: -2} {
				if math.Abs(float64(y[i])-want) > 0.04 {
					t.Errorf("per tensor %v, level %v: element %d is %v, want %v", perTensor, level, i, y[i], want)
				}
			}
		}
		os.Remove(dst)
	}
}

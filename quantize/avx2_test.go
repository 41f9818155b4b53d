package quantize_test

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/ort"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/internal/zootest"
	"github.com/lapidary-ml/lapidary/quantize"
)

// haswell is a processor with AVX2 and without VNNI, less what the emulator lacks.
const haswell = "Haswell,-pcid,-x2apic,-tsc-deadline,-hle,-invpcid,-rtm"

// TestPredictionOnAVX2: what is predicted for processors without VNNI is what the engine's own kernels for these give, under an emulator
// of one. LAPIDARY_ISA names further pairs of a float32 model and data, as "model.onnx data.npz;…".
func TestPredictionOnAVX2(t *testing.T) {
	emulator, err := exec.LookPath("qemu-x86_64")
	if err != nil {
		t.Skip("qemu-x86_64 (package qemu-user) is not here, which emulates a processor without VNNI")
	}
	cases := [][2]string{{"../testdata/digits-cnn.onnx", "../testdata/digits-calib.npz"}}
	for _, more := range strings.Split(os.Getenv("LAPIDARY_ISA"), ";") {
		if model, data, ok := strings.Cut(more, " "); ok {
			cases = append(cases, [2]string{model, data})
		}
	}
	for _, c := range cases {
		onAVX2(t, emulator, c[0], c[1])
	}
}

func onAVX2(t *testing.T, emulator, model, data string) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "q.onnx")
	r, err := quantize.File(context.Background(), out, model, quantize.Options{
		Open: opener(t), Method: "minmax", Calibration: openData(t, model, data, dataset.Options{Limit: 100}),
		ISAOptions: quantize.ISAOptions{PredictISA: true}})
	if err != nil || len(r.Predictions) != 2 {
		t.Fatalf("%d predictions (%v)", len(r.Predictions), err)
	}
	job, _ := json.Marshal(emulated{Library: zootest.Library(t), Model: model, Quantized: out, Data: data})
	cmd := exec.Command(emulator, "-cpu", haswell, os.Args[0], "-test.run", "^TestEmulated$", "-test.v")
	cmd.Env = append(os.Environ(), "LAPIDARY_EMULATED="+string(job))
	b, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("under the emulator: %v\n%s", err, b)
	}
	_, after, _ := strings.Cut(string(b), "SQNR ")
	text, _, _ := strings.Cut(after, "\n")
	var got float64
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	exact, paired := r.Predictions[0].Quality.SQNR, r.Predictions[1].Quality.SQNR
	t.Logf("%s: %.1f dB exactly; with saturation %.1f dB predicted, %.1f dB by the engine's kernels", filepath.Base(model), exact, paired, got)
	if math.Abs(got-paired) > 4 {
		t.Errorf("%s: %.1f dB predicted, %.1f dB by the engine's kernels for AVX2", model, paired, got)
	}
}

// emulated is what TestEmulated runs.
type emulated struct{ Library, Model, Quantized, Data string }

// TestEmulated prints the signal to noise of a quantized model on the processor that it runs on; TestPredictionOnAVX2 runs it under an emulator.
func TestEmulated(t *testing.T) {
	var e emulated
	if json.Unmarshal([]byte(os.Getenv("LAPIDARY_EMULATED")), &e) != nil {
		t.Skip("TestPredictionOnAVX2 runs this under an emulator")
	}
	var sessions [2]session.Session
	for i, path := range []string{e.Model, e.Quantized} {
		s, err := ort.Opener(e.Library)(t.Context(), path, session.Options{Threads: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		sessions[i] = s
	}
	var signal, noise float64
	for sample, err := range openData(t, e.Model, e.Data, dataset.Options{Limit: 30}).Samples(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		want, got := floatsOf(t, sessions[0], sample), floatsOf(t, sessions[1], sample)
		for i := range want {
			d := float64(want[i]) - float64(got[i])
			signal, noise = signal+float64(want[i])*float64(want[i]), noise+d*d
		}
	}
	t.Logf("SQNR %.2f\n", 10*math.Log10(signal/noise))
}

// floatsOf are all outputs of a model behind each other.
func floatsOf(t *testing.T, s session.Session, sample *dataset.Sample) []float32 {
	t.Helper()
	r, err := s.Run(t.Context(), sample.Inputs)
	if err != nil {
		t.Fatal(err)
	}
	var out []float32
	for _, p := range s.Outputs() {
		f, err := r.Outputs[p.Name].Floats()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, f...)
	}
	return out
}

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// mainJob is a trained model with the data that it is calibrated and validated on.
type mainJob struct {
	model, data string
	flags       []string // for every command that reads data
	calibrate   []string // the part of the data that calibrates
	validate    []string // the part of the data that validates
}

// mainJobs are trained models of the test corpus, as its README says to feed them.
var mainJobs = []mainJob{
	{"mnist-8", "mnist.npz", nil, []string{"--skip=2000", "--limit=200"}, []string{"--limit=2000"}},
	{"mnist-cnn", "mnist.npz", []string{"--preprocess=scale=1/255,mean=0.1307,std=0.3081"}, []string{"--skip=2000", "--limit=200"}, []string{"--limit=2000"}},
	{"squeezenet1.1", "imagenet", []string{"--preprocess=layout=nchw,channels=bgr,mean=104.007:116.669:122.679"}, []string{"--skip=400", "--limit=100"}, []string{"--limit=400"}},
	{"magika-fast", "magika-fast.npz", nil, []string{"--skip=120"}, []string{"--limit=120"}},
	{"stories260K", "stories.npz", nil, []string{"--skip=55"}, []string{"--limit=55"}},
	{"silero-vad", "silero.npz", nil, []string{"--skip=800", "--limit=100"}, []string{"--limit=800"}},
	{"ultraface-rfb-320", "imagenet", []string{"--preprocess=resize=320x240,layout=nchw,channels=rgb,mean=127,std=128"}, []string{"--skip=400", "--limit=50"}, []string{"--limit=100", "--task=unlabelled"}},
	{"iris-mlp", "iris.npz", nil, []string{"--shuffle", "--skip=120"}, []string{"--shuffle", "--limit=120"}},
	{"iris-forest", "iris.npz", nil, []string{"--shuffle", "--skip=120"}, []string{"--shuffle", "--limit=120"}},
}

// TestMainJob takes every trained model of the corpus through fuse, prune,
// quantize (int8 and FP16), validate and verify, with the built program that
// LAPIDARY_MAINJOB names, and prints a table. Verdicts are printed, not judged;
// every command must end as documented, and the evidence must verify.
func TestMainJob(t *testing.T) {
	bin := os.Getenv("LAPIDARY_MAINJOB")
	if bin == "" {
		t.Skip("LAPIDARY_MAINJOB=PROGRAM runs the main job on the trained models of the corpus (a quarter of an hour)")
	}
	zoo := zootest.Dir(t)
	fmt.Println("| model | step | bytes | accuracy or SQNR | latency ratio [95 %] | verdict |\n|---|---|---|---|---|---|")
	for _, j := range mainJobs {
		r := &jobRun{t: t, bin: bin, dir: t.TempDir(), j: j, zoo: zoo}
		r.run()
	}
}

// jobRun is one main job in a folder of its own.
type jobRun struct {
	t        *testing.T
	bin, dir string
	zoo      string
	j        mainJob
}

func (r *jobRun) path(name string) string { return filepath.Join(r.dir, name) }

// do runs the program and returns its standard output; codes are the exit codes that are accepted.
func (r *jobRun) do(codes []int, args ...string) []byte {
	r.t.Helper()
	c := exec.Command(r.bin, append(args, "--progress=never")...)
	var out, msg bytes.Buffer
	c.Stdout, c.Stderr, c.Dir = &out, &msg, r.dir
	err := c.Run()
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		r.t.Fatal(err)
	}
	for _, want := range codes {
		if code == want {
			return out.Bytes()
		}
	}
	r.t.Errorf("%s: %s: exit code %d\n%s", r.j.model, strings.Join(args, " "), code, msg.String())
	return nil
}

func (r *jobRun) run() {
	model, err := filepath.Abs(filepath.Join(r.zoo, "models", r.j.model+".onnx"))
	if err != nil {
		r.t.Fatal(err)
	}
	data, err := filepath.Abs(filepath.Join(r.zoo, "data", r.j.data))
	if err != nil {
		r.t.Fatal(err)
	}
	with := append([]string{"--data", data}, r.j.flags...)
	calibration := append(with[:len(with):len(with)], r.j.calibrate...)
	r.do([]int{0}, "profile", model, "--static")
	r.do([]int{0}, append([]string{"fuse", model, "-o", r.path("fused.onnx")}, calibration...)...)
	r.do([]int{0}, append([]string{"prune", r.path("fused.onnx"), "-o", r.path("pruned.onnx"), "--sparsity=0.2"}, calibration...)...)
	r.do([]int{0, 3}, append([]string{"quantize", r.path("pruned.onnx"), "-o", r.path("int8.onnx"), "--to=int8"}, calibration...)...)
	r.do([]int{0, 3}, append([]string{"quantize", r.path("fused.onnx"), "-o", r.path("fp16.onnx"), "--to=fp16"}, calibration...)...)
	r.do([]int{0}, "keygen", r.path("key"), "--unencrypted")
	for _, step := range []string{"fused", "int8", "fp16"} {
		if _, err := os.Stat(r.path(step + ".onnx")); err != nil {
			fmt.Printf("| %s | %s | not written: it would be slower, or there is nothing to quantize | | | |\n", r.j.model, step)
			continue
		}
		r.validate(model, step, with)
	}
}

func (r *jobRun) validate(model, step string, with []string) {
	args := append([]string{"validate", model, r.path(step + ".onnx"), "--report", r.path(step), "--sign", r.path("key.key"),
		"--latency-budget=10s", "--no-explain", "--max-drop=1pt", "--max-latency-ratio=1.05"}, with...)
	r.do([]int{0, 3, 4}, append(args, r.j.validate...)...)
	b, err := os.ReadFile(filepath.Join(r.path(step), "report.json"))
	if err != nil {
		r.t.Error(err)
		return
	}
	var rep report.Report
	if err := json.Unmarshal(b, &rep); err != nil {
		r.t.Error(err)
		return
	}
	r.do([]int{0, 3, 4}, "verify", filepath.Join(r.path(step), "evidence.sigstore.json"), "--key", r.path("key.pub"), "--model", r.path(step+".onnx"))
	fmt.Printf("| %s | %s | %d → %d | %s | %s | %s |\n", r.j.model, step, rep.Baseline.Bytes, rep.Candidate.Bytes, accuracyCell(rep.Accuracy), latencyCell(rep.Latency), rep.Verdict)
}

func accuracyCell(a *report.Accuracy) string {
	switch {
	case a == nil:
		return "–"
	case a.Identical && a.Baseline == nil:
		return "identical"
	case a.Baseline != nil && a.Candidate != nil:
		text := fmt.Sprintf("%s %s → %s of %d", a.Metric, report.FormatValue(report.UnitFraction, *a.Baseline), report.FormatValue(report.UnitFraction, *a.Candidate), a.N)
		if a.Identical {
			text += ", identical"
		}
		return text
	case a.SQNR != nil:
		return report.FormatValue(report.UnitDecibel, *a.SQNR)
	}
	return "–"
}

func latencyCell(l *report.Latency) string {
	switch {
	case l == nil || l.Ratio == nil:
		return "–"
	case l.CI95 == nil:
		return fmt.Sprintf("%.2f (no interval: noise)", *l.Ratio)
	}
	return fmt.Sprintf("%.2f [%.2f, %.2f]", *l.Ratio, l.CI95[0], l.CI95[1])
}

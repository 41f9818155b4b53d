package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// otherJobs are the models of the corpus with data that mainJobs leaves out; iris-logreg takes two features, and the data has four.
var otherJobs = []mainJob{
	{"squeezenet1.1-fp16", "imagenet", []string{"--preprocess=layout=nchw,channels=bgr,mean=104.007:116.669:122.679"}, []string{"--skip=400", "--limit=20"}, []string{"--limit=100"}},
	{"silero-vad-16k", "silero.npz", nil, []string{"--skip=800", "--limit=100"}, []string{"--limit=200"}},
	{"ultraface-slim-320", "imagenet", []string{"--preprocess=resize=320x240,layout=nchw,channels=rgb,mean=127,std=128"}, []string{"--skip=400", "--limit=20"}, []string{"--limit=20", "--task=unlabelled"}},
	{"fns-candy", "imagenet", []string{"--preprocess=resize=720x720,layout=nchw,channels=rgb"}, []string{"--skip=400", "--limit=4"}, []string{"--limit=4", "--task=unlabelled"}},
}

// TestValidateZoo takes every model of the corpus that has data, and every trained model of testdata, through fuse and quantize, and
// validates what comes out: a report with every section that applies must come of each, or the reason why one does not. It lists them.
func TestValidateZoo(t *testing.T) {
	if !zootest.All() {
		t.Skip("LAPIDARY_CORPUS=all validates every model of the corpus that has data (a quarter of an hour)")
	}
	zoo := zootest.Dir(t)
	zootest.Library(t)
	bin := filepath.Join(t.TempDir(), "lapidary")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("building the program: %v\n%s", err, out)
	}
	fmt.Println("| model | step | accuracy | latency | cold start | explanation | absent, and why | verdict |\n|---|---|---|---|---|---|---|---|")
	for _, j := range append(mainJobs, otherJobs...) {
		t.Run(j.model, func(t *testing.T) {
			r := &jobRun{t: t, bin: bin, dir: t.TempDir(), j: j, zoo: zoo}
			r.validateSteps(filepath.Join(zoo, "models", j.model+".onnx"), filepath.Join(zoo, "data", j.data))
		})
	}
	for model, data := range map[string]string{"digits-cnn": "digits", "digits-vit": "digits", "tabular-mlp": "tabular"} {
		j := mainJob{model: model, calibrate: []string{"--limit=64"}, validate: []string{"--limit=200"}}
		t.Run(model, func(t *testing.T) {
			r := &jobRun{t: t, bin: bin, dir: t.TempDir(), j: j}
			r.validateSteps(filepath.Join("..", "..", "testdata", model+".onnx"), filepath.Join("..", "..", "testdata", data+"-val.npz"))
		})
	}
}

// validateSteps fuses and quantizes a model and validates both results.
func (r *jobRun) validateSteps(model, data string) {
	for _, p := range []*string{&model, &data} {
		abs, err := filepath.Abs(*p)
		if err != nil {
			r.t.Fatal(err)
		}
		*p = abs
	}
	with := append([]string{"--data", data}, r.j.flags...)
	calibration := append(with[:len(with):len(with)], r.j.calibrate...)
	r.do([]int{0, 3}, append([]string{"fuse", model, "-o", r.path("fused.onnx"), "--no-measure"}, calibration...)...)
	quantized := []int{0, 3}
	if r.j.model == "fns-candy" { // its Crop is of an opset that no later one continues
		quantized = []int{1}
	}
	r.do(quantized, append([]string{"quantize", model, "-o", r.path("int8.onnx"), "--to=int8", "--for=size"}, calibration...)...)
	for _, step := range []string{"fused", "int8"} {
		if _, err := os.Stat(r.path(step + ".onnx")); err != nil {
			fmt.Printf("| %s | %s | not written: there is nothing to do, or it would not be the same | | | | | |\n", r.j.model, step)
			continue
		}
		args := append([]string{"validate", model, r.path(step + ".onnx"), "--report", r.path(step), "--latency-budget=3s", "--explain-samples=4"}, with...)
		r.do([]int{0, 3, 4}, append(args, r.j.validate...)...)
		r.sections(step)
	}
}

// sections checks and prints what a report holds.
func (r *jobRun) sections(step string) {
	r.t.Helper()
	b, err := os.ReadFile(filepath.Join(r.path(step), "report.json"))
	var rep report.Report
	if err == nil {
		err = json.Unmarshal(b, &rep)
	}
	if err != nil {
		r.t.Errorf("%s, %s: %v", r.j.model, step, err)
		return
	}
	absent := map[string]string{}
	var why []string
	for _, s := range rep.Skipped {
		absent[s.Section] = s.Reason
		if s.Section != "latency.energy" { // one reason for the whole machine
			why = append(why, s.Section+": "+s.Reason)
		}
	}
	for section, there := range map[string]bool{
		"accuracy": rep.Accuracy != nil && rep.Accuracy.N > 0 && len(rep.Accuracy.Outputs) > 0, "explanation": rep.Explanation != nil && rep.Explanation.Samples > 0,
		"latency":        rep.Latency != nil && rep.Latency.Ratio != nil && rep.Latency.P50 != nil && rep.Latency.Memory != nil && rep.Latency.ColdStart != nil,
		"latency.energy": rep.Latency != nil && rep.Latency.Energy != nil,
	} {
		if !there && absent[section] == "" {
			r.t.Errorf("%s, %s: the report has no %s and does not say why", r.j.model, step, section)
		}
	}
	if len(rep.Gates) == 0 || rep.Verdict == "" || rep.Data == nil || rep.Data.Digest == "" {
		r.t.Errorf("%s, %s: %d gates, verdict %q, data %+v", r.j.model, step, len(rep.Gates), rep.Verdict, rep.Data)
	}
	cold, explained := "–", "–"
	if l := rep.Latency; l != nil && l.ColdStart != nil && l.ColdStart.Ratio != nil {
		cold = report.FormatValue(report.UnitRatio, *l.ColdStart.Ratio)
	}
	if e := rep.Explanation; e != nil && e.Spearman != nil {
		explained = fmt.Sprintf("%.2f of %d", *e.Spearman, e.Samples)
	}
	fmt.Printf("| %s | %s | %s | %s | %s | %s | %s | %s |\n", r.j.model, step, accuracyCell(rep.Accuracy), latencyCell(rep.Latency), cold, explained, strings.Join(why, "; "), rep.Verdict)
}

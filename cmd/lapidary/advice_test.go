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
	"github.com/lapidary-ml/lapidary/profile"
)

// adviceJobs are the models whose advice is followed.
var adviceJobs = []mainJob{
	{"squeezenet1.1", "imagenet", []string{"--preprocess=layout=nchw,channels=bgr,mean=104.007:116.669:122.679"}, []string{"--skip=400", "--limit=32"}, nil},
	{"magika-fast", "magika-fast.npz", nil, []string{"--skip=120"}, nil},
	{"stories260K", "stories.npz", nil, []string{"--skip=55"}, nil},
	{"silero-vad", "silero.npz", nil, []string{"--skip=800", "--limit=32"}, nil},
}

// TestAdviceFollowed follows the advice on models of the corpus with the built
// program that LAPIDARY_FOLLOW names, on a quiet machine, and prints what was
// predicted beside what was achieved. What was called faster must be, by the
// whole interval; what was called smaller must be smaller; and what was said not
// to be faster must not be by a tenth.
func TestAdviceFollowed(t *testing.T) {
	bin := os.Getenv("LAPIDARY_FOLLOW")
	if bin == "" {
		t.Skip("LAPIDARY_FOLLOW=PROGRAM follows the advice on models of the corpus (ten minutes of a quiet machine)")
	}
	zoo := zootest.Dir(t)
	fmt.Println("| model | advice | verdict | predicted time | achieved time | predicted size | achieved size | right |\n|---|---|---|---|---|---|---|---|")
	for _, j := range adviceJobs {
		t.Run(j.model, func(t *testing.T) {
			r := &jobRun{t: t, bin: bin, dir: t.TempDir(), j: j, zoo: zoo}
			r.follow()
		})
	}
}

func (r *jobRun) follow() {
	model, data := zootest.Path(r.t, "models/"+r.j.model+".onnx"), zootest.Path(r.t, "data/"+r.j.data)
	if err := os.Symlink(model, r.path("m.onnx")); err != nil {
		r.t.Fatal(err)
	}
	with := append([]string{"--data", data}, r.j.flags...)
	out := r.do([]int{0}, append([]string{"profile", "m.onnx", "--format=json"}, with...)...)
	var p profile.Profile
	if err := json.Unmarshal(out, &p); err != nil || p.Advice == nil {
		r.t.Fatalf("%s: no advice: %v", r.j.model, err)
	}
	for _, x := range p.Advice.Items {
		args, output := followed(x, with, r.j.calibrate)
		if args == nil || x.Verdict == "unknown" {
			fmt.Printf("| %s | %s | %s | | not tried: %s | | | |\n", r.j.model, x.What, x.Verdict, x.Reason)
			continue
		}
		if x.What == "batch" {
			r.followBatch(x, args)
			continue
		}
		r.do([]int{0, 3}, args...)
		if _, err := os.Stat(r.path(output)); err != nil {
			fmt.Printf("| %s | %s | %s | %s | refused by the command | | | %v |\n", r.j.model, x.What, x.Verdict, predictedCell(x), x.Verdict == "no")
			if x.Verdict != "no" {
				r.t.Errorf("%s: %s was advised, and its command wrote nothing", r.j.model, x.What)
			}
			continue
		}
		r.compare(x, output, with)
	}
}

// followed returns the command that follows advice, also that for what is said
// not to help, and its output; nil where there is none.
func followed(x profile.Advised, data, calibrate []string) (args []string, output string) {
	all := append(append([]string{}, data...), calibrate...)
	switch x.What {
	case "fuse":
		args = append([]string{"fuse", "m.onnx", "-o", "m.fused.onnx"}, all...)
	case "static-int8":
		args = append([]string{"quantize", "m.onnx", "-o", "m.int8.onnx", "--to=int8", "--recover=none"}, all...) // what is recovered is accuracy, not time
		if x.Verdict != "faster" {
			args = append(args, "--for=size")
		}
	case "dynamic-int8":
		args = append([]string{"quantize", "m.onnx", "-o", "m.dynamic.onnx", "--to=int8", "--dynamic"}, all...)
		if x.Verdict != "faster" {
			args = append(args, "--for=size")
		}
	case "int4", "fp16":
		args = append([]string{"quantize", "m.onnx", "-o", "m." + x.What + ".onnx", "--to=" + x.What}, all...)
	case "prune-unstructured":
		args = append([]string{"prune", "m.onnx", "-o", "m.pruned.onnx", "--sparsity=0.5"}, all...)
	case "prune-channels":
		args = append([]string{"prune", "m.onnx", "-o", "m.narrow.onnx", "--pattern=channels", "--sparsity=0.3"}, all...)
	case "fix-dims", "batch":
		if x.Command == "" {
			return nil, ""
		}
		args = strings.Fields(x.Command)[1:]
	default:
		return nil, ""
	}
	if i := strings.Index(strings.Join(args, "\x00"), "-o\x00"); i >= 0 {
		output, _, _ = strings.Cut(strings.Join(args, "\x00")[i+3:], "\x00")
	}
	return args, output
}

func (r *jobRun) compare(x profile.Advised, output string, with []string) {
	folder := strings.TrimSuffix(output, ".onnx")
	args := append([]string{"validate", "m.onnx", output, "--report", folder, "--latency-budget=20s", "--no-explain", "--limit=16"}, with...)
	r.do([]int{0, 3, 4}, args...)
	var rep report.Report
	b, err := os.ReadFile(filepath.Join(r.path(folder), "report.json"))
	if err == nil {
		err = json.Unmarshal(b, &rep)
	}
	if err != nil || rep.Latency == nil || rep.Latency.Ratio == nil {
		r.t.Errorf("%s: %s: nothing was measured: %v", r.j.model, x.What, err)
		return
	}
	size := float64(rep.Candidate.Bytes) / float64(rep.Baseline.Bytes)
	ratio, high := *rep.Latency.Ratio, *rep.Latency.Ratio
	if ci := rep.Latency.CI95; ci != nil {
		high = ci[1]
	}
	// What is called faster must be proven to be; what is called not faster is wrong where it is proven to be by a tenth.
	slower := high >= 0.9
	right := map[string]bool{"faster": high < 1, "smaller": size < 0.9 && slower, "no": slower && size > 0.85}[x.Verdict]
	predicted := "–"
	if x.SizeRatio != nil {
		predicted = fmt.Sprintf("%.2f", *x.SizeRatio)
	}
	fmt.Printf("| %s | %s | %s | %s | %s | %s | %.2f | %v |\n", r.j.model, x.What, x.Verdict, predictedCell(x), latencyCell(rep.Latency), predicted, size, right)
	if !right {
		r.t.Errorf("%s: %s was called %s, and came to %.2f of the time and %.2f of the size", r.j.model, x.What, x.Verdict, ratio, size)
	}
}

// followBatch compares the time of an inference in a batch with that of one
// alone, both on generated inputs of the same sizes.
func (r *jobRun) followBatch(x profile.Advised, args []string) {
	const batch = 8 // as advised
	mean := func(args []string) float64 {
		out := r.do([]int{0}, append(args, "--format=json", "--roofline=never", "--no-nodes")...)
		var p profile.Profile
		if err := json.Unmarshal(out, &p); err != nil || p.Timed == nil {
			r.t.Fatalf("%s: the batch was not timed: %v", r.j.model, err)
		}
		return p.Timed.Latency.MeanMS
	}
	alone := strings.Split(strings.Replace(strings.Join(args, "\x00"), "=8", "=1", 1), "\x00")
	ratio := mean(args) / batch / mean(alone)
	right := ratio < 1 == (x.Verdict == "faster")
	fmt.Printf("| %s | batch | %s | %s | %.2f | – | – | %v |\n", r.j.model, x.Verdict, predictedCell(x), ratio, right)
	if !right {
		r.t.Errorf("%s: a batch of %d was called %s, and an inference in it takes %.2f of the time", r.j.model, batch, x.Verdict, ratio)
	}
}

func predictedCell(x profile.Advised) string {
	if x.Predicted == nil {
		return "–"
	}
	return fmt.Sprintf("%.2f [%.2f, %.2f]", x.Predicted.Ratio, x.Predicted.Low, x.Predicted.High)
}

// TestAdviceRuns pastes every command of the advice for a small model into a
// shell: it must be understood and do its work, or refuse a model that would not be
// faster.
func TestAdviceRuns(t *testing.T) {
	lib := zootest.Library(t)
	dir := filepath.Join(t.TempDir(), "a folder") // the commands quote it
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"tabular-mlp.onnx", "tabular-calib.npz"} {
		b, err := os.ReadFile(filepath.Join("..", "..", "testdata", name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), b, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	shell := func(command string, more ...string) (string, int) {
		c := exec.CommandContext(t.Context(), "sh", "-c", strings.Join(append([]string{command}, more...), " "))
		c.Dir, c.Env = dir, append(os.Environ(), "LAPIDARY_ORT_LIB="+lib, "LAPIDARY_NO_MEASURE=true")
		var msg strings.Builder
		c.Stderr = &msg
		out, err := c.Output()
		if err != nil {
			t.Logf("%s: %v\n%s", command, err, msg.String())
		}
		return string(out), c.ProcessState.ExitCode()
	}
	out, code := shell("lapidary profile \"$PWD/tabular-mlp.onnx\" --data tabular-calib.npz --format json --budget 200ms --processes 2")
	var p profile.Profile
	if err := json.Unmarshal([]byte(out), &p); code != 0 || err != nil || p.Advice == nil {
		t.Fatalf("no advice: exit code %d, %v, %s", code, err, out)
	}
	commands := 0
	for _, x := range p.Advice.Items {
		if x.Reason == "" || (x.Verdict == "faster" || x.Verdict == "smaller") != (x.Command != "") && x.Verdict != "unknown" {
			t.Errorf("%+v", x)
		}
		if x.Command == "" || strings.Contains(x.Command, " runtime install ") {
			continue
		}
		commands++
		more := []string{}
		if strings.Contains(x.Command, " profile ") {
			more = []string{"--roofline=never", "--no-nodes", "--budget=200ms", "--processes=2"}
		}
		if _, code := shell(x.Command, more...); code != 0 && code != exitGate {
			t.Errorf("%s: exit code %d", x.Command, code)
		}
	}
	if commands == 0 {
		t.Error("there is no command to follow for a model whose weights shrink in 8 bits at least")
	}
}

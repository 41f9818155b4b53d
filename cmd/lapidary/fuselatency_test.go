package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/nets"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// fuseLatency is a model whose latency fusing is measured to change.
type fuseLatency struct {
	model string   // a path in the corpus, ARCHIVE.zip:MEMBER, net:NAME, or a text under testdata/latency
	fuse  []string // flags of fuse
	data  []string // flags that choose the data
}

var fuseLatencies = []fuseLatency{
	{"models/ultraface-rfb-320.onnx", nil, []string{"--data=synthetic:4"}},
	{"models/ultraface-slim-320.onnx", nil, []string{"--data=synthetic:4"}},
	{"models/tf-bert-qa-tiny.onnx", []string{"--dim=batch_size=8"}, []string{"--data=synthetic:4", "--dim=batch_size=8"}},
	{"models/tf-bert-qa-tiny.onnx", []string{"--dim=batch_size=8", "--opset=20"}, []string{"--data=synthetic:4", "--dim=batch_size=8"}},
	{"models/tf-bert-qa-tiny.onnx", []string{"--dim=batch_size=8", "--target=ort-cpu"}, []string{"--data=synthetic:4", "--dim=batch_size=8"}},
	{"ort-transformers.zip:gpt2_past.onnx", []string{"--dim=batch_size=1", "--dim=seq_len=4", "--target=ort-cpu"}, []string{"--data=synthetic:4", "--dim=batch_size=1", "--dim=seq_len=4"}},
	{"net:gtcrn-stream", []string{"--opset=17"}, []string{"--data=synthetic:4"}},
	{"net:gtcrn-stream", []string{"--opset=17", "--target=ort-cpu"}, []string{"--data=synthetic:4"}},
	{"models/stories260K.onnx", []string{"--target=ort-cpu"}, []string{"--data=stories"}},
	{"models/magika-fast.onnx", nil, []string{"--data=magika-fast"}},
	{"models/squeezenet1.1.onnx", nil, []string{"--data=synthetic:4"}},
	{"focus-slices", nil, []string{"--data=synthetic:4"}},
	{"gelu-tanh-cubes", nil, []string{"--data=synthetic:4"}},
	{"gelu-erf-multiplied", nil, []string{"--data=synthetic:4"}},
	{"rmsnorm-reciprocal", nil, []string{"--data=synthetic:4"}},
	{"layernorm-multiplied", nil, []string{"--data=synthetic:4"}},
	{"softmax-spelled-out", nil, []string{"--data=synthetic:4"}},
	{"hardswish-spelled-out", nil, []string{"--data=synthetic:4"}},
	{"loop-invariant-product", nil, []string{"--data=synthetic:4"}},
}

// TestFuseLatency measures original against fused model by interleaved pairs in
// fresh processes, with the runtime's own optimizations on for both, by the
// built program that LAPIDARY_FUSE_LATENCY names, and prints a table.
func TestFuseLatency(t *testing.T) {
	bin := os.Getenv("LAPIDARY_FUSE_LATENCY")
	if bin == "" {
		t.Skip("LAPIDARY_FUSE_LATENCY=PROGRAM measures what fusing gains (five minutes of a quiet machine)")
	}
	fmt.Println("| model | fuse | nodes | latency ratio [95 %] | cold start ms |\n|---|---|---|---|---|")
	for _, c := range fuseLatencies {
		r := &jobRun{t: t, bin: bin, dir: t.TempDir(), j: mainJob{model: c.model}}
		r.latency(c)
	}
}

func (r *jobRun) latency(c fuseLatency) {
	model := r.source(c.model)
	var f struct {
		Input, Output struct{ Nodes int }
	}
	out := r.do([]int{0}, append([]string{"fuse", model, "-o", r.path("fused.onnx"), "--format=json"}, c.fuse...)...)
	if err := json.Unmarshal(out, &f); err != nil {
		r.t.Errorf("%s: %v", c.model, err)
		return
	}
	args := []string{"validate", model, r.path("fused.onnx"), "--report", r.path("report"), "--no-explain", "--latency-budget=15s"}
	for _, d := range c.data {
		if name, ok := strings.CutPrefix(d, "--data="); ok && !strings.HasPrefix(name, "synthetic") {
			d = "--data=" + zootest.Path(r.t, "data/"+name+".npz")
		}
		args = append(args, d)
	}
	r.do([]int{0, 3, 4}, args...)
	b, err := os.ReadFile(filepath.Join(r.path("report"), "report.json"))
	if err != nil {
		r.t.Error(err)
		return
	}
	var rep report.Report
	if err := json.Unmarshal(b, &rep); err != nil {
		r.t.Error(err)
		return
	}
	cold := "–"
	if s := rep.Latency.ColdStart; s != nil && s.BaselineMS != nil && s.CandidateMS != nil {
		cold = fmt.Sprintf("%.1f → %.1f", *s.BaselineMS, *s.CandidateMS)
	}
	fmt.Printf("| %s | %s | %d → %d | %s | %s |\n", c.model, strings.Join(c.fuse, " "), f.Input.Nodes, f.Output.Nodes, latencyCell(rep.Latency), cold)
}

// source returns the file of a model, made in the run's folder where it is a text or in an archive.
func (r *jobRun) source(name string) string {
	file := r.path("model.onnx")
	switch archive, member, packed := strings.Cut(name, ":"); {
	case packed && archive != "net":
		b := zootest.Archive(r.t, strings.TrimSuffix(archive, ".zip"))[member]
		if err := os.WriteFile(file, b, 0o600); err != nil {
			r.t.Fatal(err)
		}
	case archive == "net":
		m, err := nets.Build(member, nets.Options{Full: true})
		if err != nil {
			r.t.Fatal(err)
		}
		if _, err := onnxfile.Write(file, m, onnxfile.WriteOptions{}); err != nil {
			r.t.Fatal(err)
		}
	case strings.Contains(name, "/"):
		return zootest.Path(r.t, name)
	default:
		text, err := os.ReadFile(filepath.Join("testdata", "latency", name+".onnx.txt"))
		if err != nil {
			r.t.Fatal(err)
		}
		m, err := onnxtext.Parse(name, text)
		if err != nil {
			r.t.Fatal(err)
		}
		if _, err := onnxfile.Write(file, m, onnxfile.WriteOptions{}); err != nil {
			r.t.Fatal(err)
		}
	}
	return file
}

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// pruneTable is what of each trained model is removed for the table.
var pruneTable = map[string]string{"mnist-cnn": "channels", "squeezenet1.1": "channels", "magika-fast": "channels", "stories260K": "neurons", "ultraface-rfb-320": "channels"}

// TestPruneTable removes units of trained models, without repair and with it, using
// the built program that LAPIDARY_PRUNE names, and prints a table: MACs, accuracy
// and latency, each result against the original on data that was not calibrated on.
func TestPruneTable(t *testing.T) {
	bin := os.Getenv("LAPIDARY_PRUNE")
	if bin == "" {
		t.Skip("LAPIDARY_PRUNE=PROGRAM prunes the trained models of the corpus (half an hour of a quiet machine)")
	}
	fmt.Println("| model | units | removed | MACs | repair | accuracy | SQNR | latency ratio [95 %] |\n|---|---|---|---|---|---|---|---|")
	for _, j := range mainJobs {
		pattern := pruneTable[j.model]
		if only := os.Getenv("LAPIDARY_MODELS"); pattern == "" || only != "" && !strings.Contains(only, j.model) {
			continue
		}
		if j.model == "magika-fast" { // whose samples are sorted by class
			j.flags = append(slices.Clone(j.flags), "--shuffle")
		}
		r := &jobRun{t: t, bin: bin, dir: t.TempDir(), j: j, zoo: zootest.Dir(t)}
		for _, share := range []string{"0.1", "0.2", "0.3", "0.5"} {
			for _, repair := range []string{"none", "auto"} {
				pruneRow(r, pattern, share, repair)
			}
		}
	}
}

// pruneRow prints one row: one share of one model's units removed.
func pruneRow(r *jobRun, pattern, share, repair string) {
	model, data := filepath.Join(r.zoo, "models", r.j.model+".onnx"), filepath.Join(r.zoo, "data", r.j.data)
	with := append([]string{"--data", data}, r.j.flags...)
	out := r.do([]int{0}, slices.Concat([]string{"prune", model, "-o", r.path("p.onnx"), "--pattern", pattern, "--sparsity", share, "--repair", repair,
		"--importance", "activation", "--format", "json"}, with, r.j.calibrate)...)
	var p struct {
		Details struct {
			Structure struct{ Before, After struct{ MACs int64 } }
		}
	}
	if err := json.Unmarshal(out, &p); err != nil {
		r.t.Error(err)
		return
	}
	r.do([]int{0, 3, 4}, slices.Concat([]string{"validate", model, r.path("p.onnx"), "--report", r.path("report"), "--latency-budget=8s", "--no-explain"}, with, r.j.validate)...)
	b, err := os.ReadFile(filepath.Join(r.path("report"), "report.json"))
	var rep report.Report
	if err == nil {
		err = json.Unmarshal(b, &rep)
	}
	if err != nil {
		r.t.Error(err)
		return
	}
	sqnr := "–"
	if a := rep.Accuracy; a != nil && a.SQNR != nil {
		sqnr = fmt.Sprintf("%.1f dB", *a.SQNR)
	}
	fmt.Printf("| %s | %s | %s | %.2f | %s | %s | %s | %s |\n", r.j.model, pattern, share, float64(p.Details.Structure.After.MACs)/float64(max(p.Details.Structure.Before.MACs, 1)), repair,
		accuracyCell(rep.Accuracy), sqnr, latencyCell(rep.Latency))
}

//go:build cgo

package profile

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/ort"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// TestNodeTimes times real models node by node in ONNX Runtime. The times of
// nodes and what lies between them must add up to the time of a run under the
// profiler, and every product of the model must be found again in a node that
// ran. With LAPIDARY_QUIET, on a machine that does nothing else, all models are
// timed longer, and without the profiler's part they must add up to the time of a run
// without the profiler.
func TestNodeTimes(t *testing.T) {
	open := ort.Opener(zootest.Library(t))
	models := []string{"mnist-8", "squeezenet1.1", "silero-vad", "stories260K"}
	o := TimedOptions{Session: session.Options{Threads: 1}, Processes: 1, Runs: 100, Budget: 800 * time.Millisecond, ProfiledRuns: 60}
	quiet := os.Getenv("LAPIDARY_QUIET") != ""
	if quiet {
		models = nil
		files, _ := filepath.Glob(filepath.Join(zootest.Dir(t), "models", "*.onnx"))
		for _, f := range files {
			models = append(models, strings.TrimSuffix(filepath.Base(f), ".onnx"))
		}
		o.Budget, o.Runs, o.ProfiledRuns = 12*time.Second, 1000, 400
	}
	for _, name := range models {
		t.Run(name, func(t *testing.T) {
			if name == "tiny-gpt2-beamsearch" {
				t.Skip("its inputs are lengths and counts that must fit each other")
			}
			path := zootest.Path(t, "models/"+name+".onnx")
			p, err := Timed(t.Context(), path, open, zooSamples(t, path), o)
			if err != nil {
				t.Fatal(err)
			}
			if p.Skipped != "" {
				t.Fatalf("no times of nodes: %s", p.Skipped)
			}
			a, m := p.Accounting, p.Matching
			off := a.ReconciledMS/a.WallMS - 1
			t.Logf("wall %.4f ms, profiled %.4f (%.2f times, %.2f us an event, %.2f within); nodes %.4f + unattributed %.4f = %.4f, %+.1f %%",
				a.WallMS, a.ProfiledMS, a.Overhead, a.EventUS, a.WithinUS, a.NodesMS, a.Unattributed, a.ReconciledMS, 100*off)
			t.Logf("%+v", *m)
			if sum := a.ProfiledNodesMS + a.UnattributedProfiled; math.Abs(sum/a.ProfiledMS-1) > unreconciled {
				t.Errorf("nodes and what lies between them are %.4f ms under the profiler, the run %.4f", sum, a.ProfiledMS)
			}
			if a.ReconciledMS > a.ProfiledNodesMS+a.UnattributedProfiled {
				t.Errorf("%+v: more than under the profiler", a)
			}
			if quiet && math.Abs(off) > unreconciled {
				t.Errorf("nodes and what lies between them are %+.1f %% off the wall time", 100*off)
			}
			if m.By != "graph" {
				t.Errorf("matched by %s: %s", m.By, m.Silent)
			}
			checkMatched(t, path, p)
		})
	}
}

// checkMatched checks that products of the model that can have run are what some
// node stands for, and that nodes that stand for one node of their own operator
// have its shapes.
func checkMatched(t *testing.T, path string, p *TimedProfile) {
	t.Helper()
	o := openOriginals(path, zooSamples(t, path)[0])
	defer o.close()
	ran, entered := map[int]bool{}, map[*onnx.Graph]bool{}
	for _, n := range p.Nodes {
		for _, row := range n.Rows {
			ran[row], entered[o.nodes[row].Graph()] = true, true
		}
		blocked := strings.Contains(n.Name, "_nchwc") // channels are filled up to whole blocks
		if len(n.Rows) == 1 && n.Original != "" && !blocked && n.OriginalOp == "" && !slices.Contains(n.Outputs, "") {
			want := o.rows[n.Rows[0]].Outputs
			for i := range min(len(want), len(n.Outputs)) {
				if !fitsShape(want[i], n.Outputs[i]) {
					t.Errorf("%s, as %s: ran with outputs %v, the model has %v", n.Original, n.Name, n.Outputs, want)
				}
			}
		}
	}
	for row, r := range o.rows {
		if r.Work.MACs > 0 && !ran[row] && r.Runs > 0 && entered[o.nodes[row].Graph()] {
			t.Errorf("%s (%s) is in no node that ran", r.Label, r.Op)
		}
	}
}

// fitsShape reports whether a type that was seen has the sizes of one that is
// known, as far as these are numbers.
func fitsShape(known, seen string) bool {
	sizes := func(typ string) []string {
		_, s, ok := strings.Cut(strings.TrimSuffix(typ, "]"), "[")
		if !ok || s == "" || strings.Contains(s, "(") { // an expression may hold commas
			return nil
		}
		return strings.Split(s, ",")
	}
	a, b := sizes(known), sizes(seen)
	for i := range a {
		if _, err := strconv.Atoi(a[i]); err == nil && (i >= len(b) || a[i] != b[i]) {
			return false
		}
	}
	return a == nil || len(a) == len(b)
}

// zooData are the recorded inputs of models that refuse generated ones.
var zooData = map[string]string{"silero-vad": "silero.npz", "silero-vad-16k": "silero.npz", "stories260K": "stories.npz", "magika-fast": "magika-fast.npz"}

// zooSamples returns two inputs of the model at path.
func zooSamples(t *testing.T, path string) []map[string]*onnx.Tensor {
	t.Helper()
	m, err := onnxfile.Open(path, onnxfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	o := dataset.Options{Seed: 1}
	for _, v := range m.Graph.Inputs() {
		if v.Const == nil {
			o.Inputs = append(o.Inputs, dataset.Port{Name: v.Name(), Type: v.Type})
		}
	}
	spec := "synthetic:2"
	if d := filepath.Join(zootest.Dir(t), "data", zooData[strings.TrimSuffix(filepath.Base(path), ".onnx")]); strings.HasSuffix(d, ".npz") {
		spec, o.Limit = d, 2
	}
	set, err := dataset.Open(spec, o)
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	var out []map[string]*onnx.Tensor
	for b, err := range set.Batches(t.Context(), 1) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b.Inputs)
	}
	return out
}

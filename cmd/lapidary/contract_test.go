package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// contract are the fields of report.json that docs/report.md promises, by path; a * is every element of a list. The second part
// may be absent from a report, for the reason that stands there.
const (
	contract = `schema schemaVersion verdict seed started finished tool.name tool.version tool.command
baseline.name baseline.sha256 baseline.bytes baseline.parameters candidate.name candidate.sha256 candidate.bytes candidate.parameters
candidate.history.*.command candidate.history.*.tool candidate.history.*.input_sha256 candidate.history.*.verified
data.origin data.digest data.samples data.labelled data.calibration_overlap
environment.tool environment.runtime.name environment.runtime.version environment.device environment.cpu environment.isa environment.threads environment.kernel environment.os
accuracy.metric accuracy.better accuracy.baseline accuracy.candidate accuracy.delta accuracy.ci95 accuracy.n accuracy.n_required accuracy.flips.changed
accuracy.kl accuracy.sqnr_db accuracy.ece.delta accuracy.slices.*.name accuracy.slices.*.n accuracy.slices.*.delta
latency.baseline_ms latency.candidate_ms latency.ratio latency.ci95 latency.pairs latency.noise latency.memory.baseline_peak_bytes
explanation.method explanation.samples explanation.spearman explanation.topk_jaccard explanation.cosine explanation.noise_floor explanation.cross_faithfulness
explanation.dead_perturbations explanation.ci95 policy.source policy.sha256
gates.*.name gates.*.metric gates.*.operator gates.*.threshold gates.*.observed gates.*.verdict gates.*.reason`
	sometimes = `baseline.external.*.path baseline.external.*.sha256 baseline.external.*.bytes candidate.external.*.path baseline.history.*.command data.preprocess
environment.container environment.gpu environment.driver latency.p90 latency.p95 latency.p99 latency.energy explanation.flips.*.id gates.*.ci95 skipped.*.section warnings`
)

// TestReportContract measures two models for real and looks for every promised field under its name, there and in the published schema.
func TestReportContract(t *testing.T) {
	lib := zootest.Library(t)
	schema, err := os.ReadFile(filepath.Join(docs, "schemas", "report-v1.json"))
	if err != nil {
		t.Fatal(err)
	}
	var published map[string]any
	if err := json.Unmarshal(schema, &published); err != nil {
		t.Fatal(err)
	}
	for _, path := range strings.Fields(contract + " " + sometimes) {
		if err := inSchema(published, published, strings.Split(path, ".")); err != nil {
			t.Errorf("the schema: %s: %v", path, err)
		}
	}
	r := newRepo(t, lib)
	r.sh("lapidary quantize models/model.onnx -o int8.onnx --to int8 --for size --data data/calibration.npz -q")
	r.sh("lapidary validate models/model.onnx int8.onnx --data data/holdout.npz --calibration-data data/calibration.npz --max-drop 5pt --max-bytes-ratio 0.6 --report out -q")
	data, err := os.ReadFile(filepath.Join(r.dir, "out", "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var document any
	if err := json.Unmarshal(data, &document); err != nil {
		t.Fatal(err)
	}
	for _, path := range strings.Fields(contract) {
		if path == "latency.ci95" && inDocument(document, []string{"latency", "noise", "severe"}) == nil {
			continue // other tests keep this machine busy, and no interval is stated on one
		}
		if err := inDocument(document, strings.Split(path, ".")); err != nil {
			t.Errorf("a real report: %s: %v", path, err)
		}
	}
}

// inDocument follows a path through a document.
func inDocument(v any, path []string) error {
	if len(path) == 0 {
		if v == nil {
			return fmt.Errorf("it is null")
		}
		return nil
	}
	if path[0] == "*" {
		list, ok := v.([]any)
		if !ok || len(list) == 0 {
			return fmt.Errorf("no list with elements")
		}
		for _, e := range list {
			if err := inDocument(e, path[1:]); err != nil {
				return err
			}
		}
		return nil
	}
	object, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("%q of something that is no object", path[0])
	}
	next, there := object[path[0]]
	if !there {
		return fmt.Errorf("there is no %q", path[0])
	}
	return inDocument(next, path[1:])
}

// inSchema follows a path through a JSON Schema whose definitions are at the root.
func inSchema(root, s map[string]any, path []string) error {
	if ref, ok := s["$ref"].(string); ok {
		defs, _ := root["$defs"].(map[string]any)
		def, _ := defs[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any)
		return inSchema(root, def, path)
	}
	if len(path) == 0 {
		if s == nil {
			return fmt.Errorf("it is not described")
		}
		return nil
	}
	if path[0] == "*" {
		items, _ := s["items"].(map[string]any)
		return inSchema(root, items, path[1:])
	}
	properties, _ := s["properties"].(map[string]any)
	next, ok := properties[path[0]].(map[string]any)
	if !ok {
		return fmt.Errorf("there is no %q", path[0])
	}
	return inSchema(root, next, path[1:])
}

// repo is a folder like that of someone who keeps a model: models/, data/, a key, and the program in PATH.
type repo struct {
	t   *testing.T
	dir string
	env []string
}

func newRepo(t *testing.T, lib string) *repo {
	r := &repo{t: t, dir: t.TempDir(), env: append(os.Environ(), "LAPIDARY_ORT_LIB="+lib, "LAPIDARY_ROOFLINE=never", "LAPIDARY_NO_MEASURE=true",
		"LAPIDARY_LATENCY_BUDGET=3s", "LAPIDARY_EXPLAIN_SAMPLES=6")}
	for name, from := range map[string]string{"models/model.onnx": "digits-cnn.onnx", "data/calibration.npz": "digits-calib.npz", "data/holdout.npz": "digits-val.npz"} {
		data, err := os.ReadFile(filepath.Join("..", "..", "testdata", from))
		if err != nil {
			t.Fatal(err)
		}
		r.write(name, data)
	}
	if err := os.Mkdir(filepath.Join(r.dir, ".git"), 0o755); err != nil {
		t.Fatal(err)
	}
	r.sh("lapidary keygen release --unencrypted")
	return r
}

func (r *repo) write(name string, data []byte) {
	path := filepath.Join(r.dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		r.t.Fatal(err)
	}
}

func (r *repo) read(name string) []byte {
	r.t.Helper()
	data, err := os.ReadFile(filepath.Join(r.dir, filepath.FromSlash(name)))
	if err != nil {
		r.t.Error(err)
	}
	return data
}

// try runs a script in the folder and returns what it printed and its exit code.
func (r *repo) try(script string, env ...string) (string, int) {
	r.t.Helper()
	c := exec.CommandContext(r.t.Context(), "bash", "-e", "-o", "pipefail", "-c", script)
	c.Dir, c.Env = r.dir, append(r.env[:len(r.env):len(r.env)], env...)
	out, err := c.CombinedOutput()
	if err != nil && c.ProcessState == nil {
		r.t.Fatal(err)
	}
	return string(out), c.ProcessState.ExitCode()
}

// sh runs a script that must succeed.
func (r *repo) sh(script string, env ...string) string {
	r.t.Helper()
	out, code := r.try(script, env...)
	if code != 0 {
		r.t.Fatalf("%s: exit code %d\n%s", script, code, out)
	}
	return out
}

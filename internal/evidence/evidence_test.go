package evidence

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lapidary-ml/lapidary/internal/attest"
	"github.com/lapidary-ml/lapidary/internal/report"
)

// digest returns a digest that is told from others by its digit.
func digest(digit string) string { return strings.Repeat(digit, 64) }

func measured() *report.Report {
	return &report.Report{
		Schema: report.SchemaURI, SchemaVersion: report.SchemaVersion, Verdict: report.Fail,
		Baseline: report.Model{Name: "m.onnx", SHA256: digest("a"), External: []report.File{{Path: "m.data", SHA256: digest("d")}}},
		Candidate: report.Model{Name: "m.int8.onnx", SHA256: digest("c"), History: []report.Step{
			{Command: "fuse", Tool: "lapidary v1.2.3", InputSHA256: digest("a"), Verified: true},
			{Command: "quantize", Options: []string{"--to=int8"}, Tool: "lapidary v1.2.4", InputSHA256: digest("b"), Calibration: []string{digest("e"), digest("e")}},
		}},
		Data:   &report.Data{Name: "val.npz", Digest: digest("f"), Origin: report.OriginFiles},
		Policy: &report.Policy{Source: "flags", SHA256: digest("9")},
		Gates: []report.Gate{
			{Name: "max-drop", Verdict: report.Pass}, {Name: "max-latency-ratio", Verdict: report.Inconclusive},
			{Name: "max-bytes-ratio", Verdict: report.Fail}, {Name: "min-agreement", Verdict: report.Pass},
		},
	}
}

var subjects = []attest.Subject{{Name: "m.int8.onnx", SHA256: digest("c")}, {Name: "weights", SHA256: digest("7")}}

func newKey(t *testing.T) *attest.PrivateKey {
	t.Helper()
	key, err := attest.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// signed returns the evidence by name, verified where it is a bundle.
func signed(t *testing.T, r *report.Report) (map[string]*attest.Verified, []File) {
	t.Helper()
	key := newKey(t)
	list, err := Sign(context.Background(), key, r, []byte(`{"report": 1}`), subjects)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*attest.Verified{}
	for _, f := range list {
		if f.Name == LinesFile {
			continue
		}
		if out[f.Name], err = attest.Verify(f.Data, []attest.PublicKey{key.PublicKey()}); err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
	}
	return out, list
}

func TestSign(t *testing.T) {
	all, list := signed(t, measured())
	var names []string
	var lines []byte
	for _, f := range list {
		names = append(names, f.Name)
		switch f.Name {
		case EnvelopeFile:
		case LinesFile:
			if !bytes.Equal(f.Data, lines) {
				t.Error("the lines are not the bundles")
			}
		default:
			lines = append(lines, f.Data...)
		}
	}
	if diff := cmp.Diff(files, names); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	for _, name := range []string{EnvelopeFile, BundleFile, TestResultFile, ProvenanceFile} {
		if diff := cmp.Diff(subjects, all[name].Subjects()); diff != "" {
			t.Errorf("%s: subjects (-want +got):\n%s", name, diff)
		}
	}
	if got := string(all[BundleFile].Predicate()); got != `{"report": 1}` {
		t.Errorf("report %s", got)
	}
	if diff := cmp.Diff([]string{"m.int8.onnx", "weights"}, all[ModelFile].Manifest().Paths()); diff != "" {
		t.Errorf("model signature (-want +got):\n%s", diff)
	}
}

// predicate has the two projections written out as their specifications have them.
var predicates = map[string]string{
	TestResultFile: `{"result": "FAILED",
	  "configuration": [
	    {"name": "report.json", "digest": {"sha256": "2d0ecf2b7e2d4ae9e7d0e4a4aa3ee5a1d8ebe0a4f5b5cbb9a1d5a4b0d4e9f0c2"}, "annotations": {"note": "the report with the numbers that this is drawn from"}},
	    {"name": "policy flags", "digest": {"sha256": "99"}, "annotations": {"note": "over the gates as canonical JSON"}},
	    {"name": "data val.npz", "digest": {"sha256": "ff"}, "annotations": {"note": "over the rows in order, labels included"}},
	    {"name": "baseline m.onnx", "digest": {"sha256": "aa"}},
	    {"name": "baseline m.data", "digest": {"sha256": "dd"}}],
	  "passedTests": ["max-drop", "min-agreement"], "warnedTests": ["max-latency-ratio"], "failedTests": ["max-bytes-ratio"]}`,
	ProvenanceFile: `{
	  "buildDefinition": {
	    "buildType": "https://lapidary-ml.github.io/build/rewrite/v1",
	    "externalParameters": {"steps": [{"command": "fuse"}, {"command": "quantize", "options": ["--to=int8"]}]},
	    "internalParameters": {"source": "metadata_props of the subject",
	      "steps": [{"tool": "lapidary v1.2.3", "verified": true}, {"tool": "lapidary v1.2.4", "verified": false}]},
	    "resolvedDependencies": [
	      {"name": "m.onnx", "digest": {"sha256": "aa"}, "annotations": {"note": "original model, which is the baseline"}},
	      {"name": "m.data", "digest": {"sha256": "dd"}, "annotations": {"note": "external data of the original model"}},
	      {"name": "calibration data", "digest": {"sha256": "ee"}, "annotations": {"note": "over the rows in order"}}]},
	  "runDetails": {
	    "builder": {"id": "https://lapidary-ml.github.io/builders/model-history/v1", "version": {"lapidary": "v1.2.4"}},
	    "metadata": {"invocationId": "sha256:INVOCATION"},
	    "byproducts": [{"name": "model after step 1, fuse", "digest": {"sha256": "bb"}}]}}`,
}

// plain returns JSON with digests of one digit cut to two, and computed ones left out.
func plain(t *testing.T, data []byte) any {
	t.Helper()
	text := string(data)
	for _, d := range "79abcdef" {
		text = strings.ReplaceAll(text, digest(string(d)), strings.Repeat(string(d), 2))
	}
	var v map[string]any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	if c, ok := v["configuration"].([]any); ok {
		d := c[0].(map[string]any)["digest"].(map[string]any)
		if len(d["sha256"].(string)) != 64 {
			t.Errorf("digest of the report %v", d)
		}
		d["sha256"] = ""
	}
	if r, ok := v["runDetails"].(map[string]any); ok {
		m := r["metadata"].(map[string]any)
		m["invocationId"], _, _ = strings.Cut(m["invocationId"].(string), ":")
	}
	return v
}

func TestProjections(t *testing.T) {
	all, _ := signed(t, measured())
	for name, want := range predicates {
		if diff := cmp.Diff(plain(t, []byte(want)), plain(t, all[name].Predicate())); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	res, err := ReadTestResult(all[TestResultFile])
	if err != nil || res.Verdict() != report.Fail {
		t.Errorf("test result %v, %v", res, err)
	}
	steps, inputs, err := ReadProvenance(all[ProvenanceFile])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"fuse", "quantize --to=int8"}, steps); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	if len(inputs) != 3 || inputs[0] != "m.onnx sha256:"+digest("a") {
		t.Errorf("inputs %v", inputs)
	}
}

// TestInvocation holds that the identifier says which step it was.
func TestInvocation(t *testing.T) {
	r := measured()
	one := newProvenance(r).RunDetails.Metadata.InvocationID
	r.Candidate.History[1].Options = []string{"--to=uint8"}
	if two := newProvenance(r).RunDetails.Metadata.InvocationID; one == two {
		t.Errorf("two steps have the same identifier %s", one)
	}
}

func TestNoHistory(t *testing.T) {
	r := measured()
	r.Candidate.History = nil
	all, _ := signed(t, r)
	if all[ProvenanceFile] != nil {
		t.Error("there is provenance of a model that says nothing about itself")
	}
}

// TestOtherOriginal has a model whose first step did not read the baseline.
func TestOtherOriginal(t *testing.T) {
	r := measured()
	r.Candidate.History[0].InputSHA256 = digest("1")
	got := newProvenance(r).BuildDefinition.Dependencies[0]
	if got.Name != "original model" || got.Digest["sha256"] != digest("1") {
		t.Errorf("original %v, want it under no name of the baseline", got)
	}
}

func TestVerdicts(t *testing.T) {
	for verdict, want := range map[report.Verdict]string{report.Pass: passed, report.Inconclusive: warned, report.Fail: failed, "maybe": failed} {
		r := measured()
		r.Verdict = verdict
		if got := newTestResult(r, nil).Result; got != want {
			t.Errorf("%s is %s, want %s", verdict, got, want)
		}
	}
}

func verified(t *testing.T, kind, predicate string) *attest.Verified {
	t.Helper()
	key := newKey(t)
	e, err := attest.Sign(context.Background(), key, attest.Statement{PredicateType: kind, Subjects: subjects, Predicate: []byte(predicate)})
	if err != nil {
		t.Fatal(err)
	}
	v, err := attest.Verify(e.Bundle, []attest.PublicKey{key.PublicKey()})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestReadRefused(t *testing.T) {
	for predicate, want := range map[string]string{
		`{"result": "PASSED", "passedTests": ["a"], "failedTests": ["b"]}`: `give "FAILED"`,
		`{"result": "PASSED", "passedTests": ["a"], "warnedTests": ["b"]}`: `give "WARNED"`,
		`{"result": "FAILED", "passedTests": ["a"]}`:                       `give "PASSED"`,
		`{"result": "PASSED"}`:                       "names no test",
		`{"Result": "PASSED", "passedTests": ["a"]}`: `must be spelt "result"`,
		`{"result": 1}`:                              "number",
	} {
		_, err := ReadTestResult(verified(t, TestResultType, predicate))
		wantRejected(t, err, want)
	}
	for predicate, want := range map[string]string{
		`{"buildDefinition": {"buildType": "other"}}`:             `the build type "other"`,
		`{"buildDefinition": {"buildType": "` + buildType + `"}}`: "has no steps",
		`{"buildDefinition": []}`:                                 "cannot be read",
	} {
		_, _, err := ReadProvenance(verified(t, ProvenanceType, predicate))
		wantRejected(t, err, want)
	}
}

func wantRejected(t *testing.T, err error, want string) {
	t.Helper()
	var rejected *attest.RejectedError
	if !errors.As(err, &rejected) || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want a rejection with %q", err, want)
	}
}

func TestWriteRemove(t *testing.T) {
	dir := t.TempDir()
	_, list := signed(t, measured())
	if err := Write(dir, list); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "report.json"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 { // also where there is nothing
		if err := Remove(dir); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "report.json" {
		t.Errorf("left: %v, %v", entries, err)
	}
}

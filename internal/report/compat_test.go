package report

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestEarlierReports reads reports as earlier versions wrote them. They must be accepted, say the same again byte for byte, and
// render in every form. A file here is never changed; a new minor version adds one.
func TestEarlierReports(t *testing.T) {
	files, err := filepath.Glob("testdata/report-1.*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no earlier reports: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		r := new(Report)
		if err := json.Unmarshal(data, r); err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if err := r.CheckSchema(); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		again, err := r.JSON()
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
		var was, is any // the order of fields is no promise
		if err := errors.Join(json.Unmarshal(data, &was), json.Unmarshal(again, &is)); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if d := cmp.Diff(was, is); d != "" {
			t.Errorf("%s: written again it differs (-was +is):\n%s", file, d)
		}
		dir := t.TempDir()
		if err := WriteAgain(dir, r, data, Options{}); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		for _, f := range Formats() {
			if info, err := os.Stat(filepath.Join(dir, f.File)); err != nil || info.Size() < 100 {
				t.Errorf("%s: %s was not written: %v", file, f.File, err)
			}
		}
	}
}

// TestLaterReport reads a report of a later minor version: what it adds is kept in report.json and ignored elsewhere.
func TestLaterReport(t *testing.T) {
	data, err := os.ReadFile("testdata/report-1.0.json")
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(data, &fields); err != nil {
		t.Fatal(err)
	}
	fields["schemaVersion"], fields["fairness"] = "1.99", map[string]any{"gap": 0.25}
	fields["accuracy"].(map[string]any)["calibration_curve"] = []float64{1, 2}
	later, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	r := new(Report)
	if err := json.Unmarshal(later, r); err != nil {
		t.Fatal(err)
	}
	if err := r.CheckSchema(); err != nil {
		t.Error(err)
	}
	dir := t.TempDir()
	if err := WriteAgain(dir, r, later, Options{}); err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile(filepath.Join(dir, "report.json"))
	if err != nil || string(kept) != string(later) {
		t.Errorf("report.json lost what it did not know: %v", err)
	}
}

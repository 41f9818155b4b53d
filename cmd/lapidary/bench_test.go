package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestBenchmarks: the harness that compares with other tools works, as far as it does without these, and the page of its figures is what it
// makes of the figures that are kept.
func TestBenchmarks(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not here, in which the benchmarks beside other tools are written")
	}
	folder := filepath.Join("..", "..", "docs", "bench")
	cmd := exec.CommandContext(t.Context(), python, "-B", "-m", "unittest", "-q", "test_rows")
	cmd.Dir = folder
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("the harness: %v\n%s", err, b)
	}
	kept, err := os.ReadFile(filepath.Join("..", "..", "docs", "benchmarks.json"))
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "benchmarks")
	if err := os.WriteFile(out+".json", kept, 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := exec.CommandContext(t.Context(), python, "-B", filepath.Join(folder, "rows.py"), "--write", "--work", t.TempDir(), "--out", out).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	want, err := os.ReadFile(out + ".md")
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join("..", "..", "docs", "benchmarks.md"))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("docs/benchmarks.md is not of docs/benchmarks.json (docs/bench/rows.py --write): %s", d)
	}
	if strings.Contains(string(got), "Not measured yet") {
		t.Error("docs/benchmarks.md has rows without figures: make bench")
	}
}

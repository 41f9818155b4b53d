//go:build unix

package main

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// private are the files that nobody but their owner may read, whatever the umask.
var private = []string{"k.key", "audit.log", "names.key"}

// TestModes has every kind of output written under two masks: no file is more open
// than the mask allows, what is private is for its owner alone, and what is not can
// be read by whom the mask lets.
func TestModes(t *testing.T) {
	lib := zootest.Library(t)
	for mask, want := range map[string][2]fs.FileMode{"022": {0o644, 0o755}, "077": {0o600, 0o700}} {
		t.Run(mask, func(t *testing.T) {
			dir := writeUnder(t, mask, lib)
			var seen []string
			err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
				if err != nil || path == dir {
					return err
				}
				info, err := d.Info()
				if err != nil {
					return err
				}
				expected := want[0]
				if d.IsDir() {
					expected = want[1]
				} else {
					seen = append(seen, d.Name())
				}
				if slices.Contains(private, d.Name()) {
					expected = 0o600
				}
				cached := strings.HasPrefix(path, filepath.Join(dir, "cache")+"/") && info.Mode().Perm() == expected&0o700
				if got := info.Mode().Perm(); got != expected && !cached {
					t.Errorf("%s has mode %04o, want %04o", path, got, expected)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range append(private, modeOutputs...) {
				if !slices.Contains(seen, name) {
					t.Errorf("%s was not written", name)
				}
			}
		})
	}
}

// modeOutputs are outputs of each kind that [TestModes] must have seen.
var modeOutputs = []string{
	"k.pub", "fused.onnx", "fused.onnx.data", "log.jsonl", "int8.onnx", "ranges.json", "layers.html", "pruned.onnx", "page.html", "trace.json", "bench.txt",
	"report.json", "report.html", "evidence.sigstore.json", "model.sig", "again.sig", "report.csv", "locked.json", "small.onnx",
}

// writeUnder runs commands that write under a mask, and returns the folder.
func writeUnder(t *testing.T, mask, lib string) string {
	t.Helper()
	dir := t.TempDir()
	model, data := filepath.Join(corpusData, "tabular-mlp.onnx"), filepath.Join(corpusData, "tabular-val.npz")
	policy := filepath.Join(corpusData, "..", "cmd", "lapidary", "testdata", "faults-policy.yaml")
	for _, args := range [][]string{
		{"keygen", "k", "--unencrypted"},
		{"fuse", model, "-o", "fused.onnx", "--external-data=always", "--log=log.jsonl", "--dump=dump", "--no-measure"},
		{"quantize", model, "-o", "int8.onnx", "--data", data, "--limit=64", "--for=size", "--statistics=ranges.json", "--layers=layers.html"},
		{"prune", model, "-o", "pruned.onnx", "--sparsity=0.5"},
		{"profile", model, "--budget=1s", "--html=page.html", "--trace=trace.json", "--bench=bench.txt"},
		{"validate", model, "int8.onnx", "--data", data, "--skip=64", "--limit=40", "--no-latency", "--no-explain", "--max-drop=50pt", "--report=r", "--sign=k.key"},
		{"validate", model, "int8.onnx", "--data", data, "--skip=64", "--limit=40", "--no-latency", "--no-explain", "--max-drop=50pt", "--report=hidden", "--redact", "--redact-key=names.key"},
		{"report", "r/report.json", "-o", "shown"},
		{"sign", model, "--key=k.key", "-o", "again.sig"},
		{"policy", "lock", policy, "--data", data, "--key=k.key", "-o", "locked.json"},
		{"bisect", model, "--against", "int8.onnx", "--data", data, "--limit=2", "--reduce=small.onnx"},
	} {
		c := exec.CommandContext(t.Context(), "sh", append([]string{"-c", "umask " + mask + `; exec lapidary "$@"`, "lapidary"}, append(args, "--audit-log=audit.log")...)...)
		c.Dir = dir
		c.Env = append(os.Environ(), "LAPIDARY_ORT_LIB="+lib, "LAPIDARY_ROOFLINE=never", "XDG_CACHE_HOME="+filepath.Join(dir, "cache"))
		if out, err := c.CombinedOutput(); err != nil && c.ProcessState.ExitCode() != exitGate {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	return dir
}

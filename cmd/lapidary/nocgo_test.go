package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/zootest"
	"github.com/lapidary-ml/lapidary/profile"
)

// TestStaticWithoutCgo builds the command without cgo, as for a machine that has
// neither a C compiler nor ONNX Runtime, and profiles a model with it. Building
// takes a while: LAPIDARY_CORPUS=all asks for it.
func TestStaticWithoutCgo(t *testing.T) {
	if !zootest.All() {
		t.Skip("builds the command anew; set LAPIDARY_CORPUS=all")
	}
	bin := filepath.Join(t.TempDir(), "lapidary")
	build := exec.Command("go", "build", "-o", bin, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building without cgo: %v\n%s", err, out)
	}
	run := exec.Command(bin, "profile", "--static", "--format", "json", "../../testdata/digits-cnn.onnx")
	run.Env = []string{"HOME=" + t.TempDir(), "PATH="} // no runtime to be found
	out, err := run.CombinedOutput()
	if err != nil {
		t.Fatalf("profile --static: %v\n%s", err, out)
	}
	var p profile.Profile
	if err := json.Unmarshal(out, &p); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if s := p.Static; s == nil || s.Work.MACs == 0 || s.Coverage.Counted != s.Coverage.Nodes {
		t.Errorf("%+v", p.Static)
	}
	cnn, err := filepath.Abs("../../testdata/digits-cnn.onnx")
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"profile", cnn}, {"fuse", cnn, "-o", "out.onnx"}, {"prune", cnn, "-o", "out.onnx", "--sparsity", "0.2"}, {"quantize", cnn, "-o", "out.onnx", "--to", "fp16"},
		{"validate", cnn, cnn, "--data", "synthetic:8"}, {"bisect", cnn}, {"doctor"},
	} {
		run := exec.Command(bin, args...)
		run.Env, run.Dir = []string{"HOME=" + t.TempDir(), "PATH="}, t.TempDir()
		if out, err := run.CombinedOutput(); err == nil || !strings.Contains(string(out), "built without cgo and cannot load ONNX Runtime") {
			t.Errorf("%s: %v\n%s", args, err, out)
		}
	}
}

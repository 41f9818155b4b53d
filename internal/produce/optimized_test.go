package produce

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// TestSaveOptimized writes the engine's graph beside the result: marked, and
// only where it computes the same.
func TestSaveOptimized(t *testing.T) {
	pass, err := rewrite.Rules("rules", []rewrite.Rule{harmless})
	if err != nil {
		t.Fatal(err)
	}
	run := func(f *fakeEngine) (*Result, string, string) {
		dir := t.TempDir()
		dst, own := filepath.Join(dir, "out.onnx"), filepath.Join(dir, "own.onnx")
		r, err := File(t.Context(), dst, drill(t), func(ctx context.Context, m *onnx.Model, o rewrite.Options) (*rewrite.Log, error) {
			return rewrite.Run(ctx, m, []rewrite.Pass{pass}, nil, o)
		}, Options{Verify: &Verify{Open: f.open}, SaveOptimized: &SaveOptimized{Path: own, Mark: "for here"}})
		if err != nil {
			t.Fatal(err)
		}
		return r, dst, own
	}

	r, dst, own := run(newFake(1, nil))
	m, err := onnxfile.Open(own, onnxfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if mark, _ := m.MetaValue(OptimizedKey); mark != "for here" || Count(m).Ops["com.microsoft.FusedConv"] != 3 {
		t.Errorf("mark %q, operators %v", mark, Count(m).Ops)
	}
	if steps, err := History(m); err != nil || len(steps) != 1 {
		t.Errorf("history %v, %v", steps, err)
	}
	if r.Optimized.Refused != "" || r.Optimized.Nodes != 8 || len(r.Optimized.SHA256) != 64 {
		t.Errorf("%+v", r.Optimized)
	}
	if n := countOp(t, dst, "Relu"); n != 3 {
		t.Errorf("the result itself has %d Relu, want 3", n)
	}

	spoiling := newFake(1, nil)
	spoiling.spoils = true
	r, dst, own = run(spoiling)
	if !strings.Contains(r.Optimized.Refused, `output "y" differs from the original's`) {
		t.Errorf("refused %q", r.Optimized.Refused)
	}
	if _, err := os.Stat(own); !os.IsNotExist(err) {
		t.Errorf("a wrong graph was written: %v", err)
	}
	if _, err := os.Stat(dst); err != nil {
		t.Errorf("the result was not written: %v", err)
	}
}

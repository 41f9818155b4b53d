package fuse

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
	"github.com/lapidary-ml/lapidary/internal/rewrite/rewritetest"
)

var update = flag.Bool("update", false, "write the results into testdata")

// TestRules runs the cases of testdata: each file is about the rule or pass of
// its name, which runs alone. The folder of a target has the cases in which its
// own operators come up.
func TestRules(t *testing.T) {
	for _, target := range TargetNames {
		dir := "testdata"
		if target != TargetNames[0] {
			dir = filepath.Join("testdata", target)
		}
		if _, err := os.Stat(dir); err != nil {
			continue // no rule is for this target alone
		}
		rewritetest.Run(t, dir, *update, func(ctx context.Context, m *onnx.Model, name string) (*rewrite.Log, error) {
			o := Options{Target: Target{Name: target}, InlineFunctions: true, Unroll: 8}
			o.Rewrite.Only = []string{name}
			return Model(ctx, m, o)
		})
	}
}

package fuse

import (
	"context"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
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
			o := Options{Target: Target{Name: target}, InlineFunctions: target == TargetNames[0], Unroll: 8, Opset: 21, Reorder: true}
			o.Rewrite.Only = []string{name}
			return Model(ctx, m, o)
		})
	}
}

// TestEveryRuleHasCases: a rule or pass and the file of its cases have one name,
// be it in the folder of a target.
func TestEveryRuleHasCases(t *testing.T) {
	have, want := map[string]bool{}, map[string]bool{}
	for _, pattern := range []string{"testdata/*.txtar", "testdata/*/*.txtar"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			have[strings.TrimSuffix(filepath.Base(f), ".txtar")] = true
		}
	}
	for _, r := range RuleNames() {
		want[r[0]] = true
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(have))); diff != "" {
		t.Errorf("rules and passes without cases (-), files without a rule (+):\n%s", diff)
	}
}

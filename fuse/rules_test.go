package fuse

import (
	"context"
	"flag"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
	"github.com/lapidary-ml/lapidary/internal/rewrite/rewritetest"
)

var update = flag.Bool("update", false, "write the results into testdata")

// TestRules runs the cases of testdata: each file is about the rule or pass of
// its name, which runs alone.
func TestRules(t *testing.T) {
	rewritetest.Run(t, "testdata", *update, func(ctx context.Context, m *onnx.Model, name string) (*rewrite.Log, error) {
		return Model(ctx, m, Options{InlineFunctions: true, Unroll: 8, Rewrite: rewrite.Options{Only: []string{name}}})
	})
}

package quantize

import (
	"context"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// walk calls visit for each node of m, subgraphs included, in order, as long as
// rewrites are allowed. Bodies of local functions have no types and are left out.
func walk(ctx context.Context, m *onnx.Model, e *rewrite.Env, visit func(n *onnx.Node) error) error {
	for _, g := range m.Graphs() {
		if g.InFunction() {
			continue
		}
		for n := range g.Nodes() {
			if err := ctx.Err(); err != nil || e.Exhausted() {
				return err
			}
			if err := visit(n); err != nil {
				return err
			}
		}
	}
	return nil
}

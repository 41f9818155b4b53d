package fuse

import (
	"context"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// constants turns Constant nodes into initializers. In function bodies, which
// have no initializers, they stay.
type constants struct{}

func (constants) Name() string { return "constants" }

// Doc says what the pass does.
func (constants) Doc() string { return "turns Constant nodes into initializers" }

// Run lifts every dense constant.
func (constants) Run(_ context.Context, m *onnx.Model, e *rewrite.Env) error {
	for _, g := range m.Graphs() {
		if g.InFunction() {
			continue
		}
		for n := range g.Nodes() {
			if !n.Is("Constant") || !e.Allow("constants", n) {
				continue
			}
			t := n.Output(0).Constant()
			if t == nil {
				e.Decline("constants", n, "the constant is sparse or malformed")
				continue
			}
			if err := replaceByConst(e, "constants", n, []*onnx.Tensor{t}); err != nil {
				return err
			}
		}
	}
	return nil
}

// replaceByConst puts constants in place of all outputs of n that are read, and
// records that rule fired there.
func replaceByConst(e *rewrite.Env, rule string, n *onnx.Node, results []*onnx.Tensor) error {
	g := n.Graph()
	site := e.At(rule, n)
	for i, v := range n.Outputs() {
		if v == nil || v.Dead() {
			continue
		}
		c := home(g, v, results[i]).NewConst(results[i].Renamed(v.Name()))
		if err := g.Replace(v, c); err != nil {
			return err
		}
	}
	return e.Fired(rule, site, len(g.SweepFrom(n)), 0, "")
}

// hoistFrom is the size from which a constant of a subgraph moves to the main
// graph, where equal ones of several branches are stored once.
const hoistFrom = 1024

// home returns the graph that is to hold the constant t in place of v of g.
func home(g *onnx.Graph, v *onnx.Value, t *onnx.Tensor) *onnx.Graph {
	if v.IsOutput() || t.Size() < hoistFrom {
		return g
	}
	for g.Parent() != nil {
		g = g.Parent()
	}
	return g
}

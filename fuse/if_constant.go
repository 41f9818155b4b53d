package fuse

import (
	"context"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// ifConstant puts the branch of an If whose condition is known in its place.
type ifConstant struct{}

func (ifConstant) Name() string { return "if-constant" }

// Doc says what the pass does.
func (ifConstant) Doc() string { return "replaces If by the branch that its condition always takes" }

// Run visits outer graphs first, so that what is inlined is not visited twice.
func (ifConstant) Run(ctx context.Context, m *onnx.Model, e *rewrite.Env) error {
	for _, g := range m.Graphs() {
		if !attached(g) {
			continue // went with the branch that is never taken
		}
		for n := range g.Nodes() {
			if err := ctx.Err(); err != nil {
				return err
			}
			if !n.Is("If") {
				continue
			}
			if err := inlineBranch(n, e); err != nil {
				return err
			}
		}
	}
	return nil
}

func inlineBranch(n *onnx.Node, e *rewrite.Env) error {
	cond, ok := e.Facts.Ints(n.Input(0))
	if !ok || len(cond) != 1 || !cond[0].Known {
		e.Decline("if-constant", n, "the condition %q is not known", valueName(n.Input(0)))
		return nil
	}
	name := "else_branch"
	if cond[0].Value != 0 {
		name = "then_branch"
	}
	a := n.Attr(name)
	if a == nil || a.G == nil || len(a.G.Outputs()) != len(n.Outputs()) || len(a.G.SparseInitializers()) > 0 {
		e.Decline("if-constant", n, "its %s does not fit it or has sparse constants", name)
		return nil
	}
	if !e.Allow("if-constant", n) {
		return nil
	}
	site := e.At("if-constant", n)
	added := a.G.Len()
	removed, err := settle(n, splice(n, a.G, nil, nil))
	if err != nil {
		return err
	}
	return e.Fired("if-constant", site, removed, added, "took the "+name)
}

func valueName(v *onnx.Value) string {
	if v == nil {
		return ""
	}
	return v.Name()
}

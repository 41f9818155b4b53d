package fuse

import (
	"context"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// inlineFunctions puts the bodies of local functions in the place of their calls.
type inlineFunctions struct {
	all bool // every call; else only those whose result is constant
	own bool // the runtime inlines by itself, before it fuses
}

func (inlineFunctions) Name() string { return "inline-functions" }

// Doc says what the pass does.
func (inlineFunctions) Doc() string {
	return "replaces calls of local functions by their bodies: on request, for ONNX Runtime, which does so at load, and where the result is constant"
}

// Run inlines in the main graph and its subgraphs; calls that a body makes are
// inlined when their turn comes.
func (f inlineFunctions) Run(ctx context.Context, m *onnx.Model, e *rewrite.Env) error {
	if len(m.Functions) == 0 {
		return nil
	}
	for _, g := range m.Graphs() {
		if g.InFunction() {
			continue
		}
		for n := g.First(); n != nil; {
			if err := ctx.Err(); err != nil {
				return err
			}
			prev, next := n.Prev(), n.Next()
			done, err := f.call(m, n, e)
			if err != nil {
				return err
			}
			if n = next; done {
				if n = g.First(); prev != nil {
					n = prev.Next() // the body may call functions itself
				}
			}
		}
	}
	dropUncalled(m)
	return nil
}

// call inlines n if it calls a function and is to be inlined.
func (f inlineFunctions) call(m *onnx.Model, n *onnx.Node, e *rewrite.Env) (bool, error) {
	fn := m.FindFunction(n)
	if fn == nil || fn.Body == nil {
		return false, nil
	}
	if _, constant := constantInputs(n); !f.all && !f.own && !constant {
		e.Decline("inline-functions", n, "calls stay calls (ask for --inline-functions)")
		return false, nil
	}
	if why := unlike(m, fn); why != "" {
		e.Decline("inline-functions", n, "%s", why)
		return false, nil
	}
	if len(n.Inputs()) > len(fn.Body.Inputs()) || len(n.Outputs()) > len(fn.Body.Outputs()) || !e.Allow("inline-functions", n) {
		return false, nil
	}
	site := e.At("inline-functions", n)
	results := splice(n, fn.Body, n.Inputs(), argument(fn, n))
	if slices.Contains(results, nil) {
		return false, nil
	}
	removed, err := settle(n, results)
	if err != nil {
		return false, err
	}
	return true, e.Fired("inline-functions", site, removed, fn.Body.Len(), fn.Name)
}

// argument returns how a call gives the attributes of a function.
func argument(fn *onnx.Function, n *onnx.Node) func(string) *onnx.Attr {
	attrs := slices.Clone(n.Attrs)
	defaults := fn.AttrDefaults
	return func(name string) *onnx.Attr {
		for _, list := range [][]*onnx.Attr{attrs, defaults} {
			for _, a := range list {
				if a.Name == name {
					return a
				}
			}
		}
		return nil
	}
}

// unlike returns why the body of fn would mean something else among the opset
// imports of the model, "" where it does not.
func unlike(m *onnx.Model, fn *onnx.Function) string {
	for work := []*onnx.Graph{fn.Body}; len(work) > 0; {
		g := work[0]
		work = work[1:]
		for n := range g.Nodes() {
			work = append(work, n.Subgraphs()...)
			if m.FindFunction(n) != nil {
				continue
			}
			d := onnx.NormalDomain(n.Domain)
			here, there := m.OpsetVersion(d), n.OpsetVersion(d)
			if here == there {
				continue
			}
			a, b := opset.Lookup(d, n.Op, here), opset.Lookup(d, n.Op, there)
			if here == 0 || a == nil || b == nil || a.Since != b.Since {
				return "the function " + fn.Name + " is written for another version of " + n.Op
			}
		}
	}
	return ""
}

// dropUncalled removes functions that nothing calls.
func dropUncalled(m *onnx.Model) {
	called := map[*onnx.Function]bool{}
	var mark func(g *onnx.Graph)
	mark = func(g *onnx.Graph) {
		for n := range g.Nodes() {
			if f := m.FindFunction(n); f != nil && !called[f] {
				if called[f] = true; f.Body != nil {
					mark(f.Body)
				}
			}
			for _, sub := range n.Subgraphs() {
				mark(sub)
			}
		}
	}
	mark(m.Graph)
	m.Functions = slices.DeleteFunc(slices.Clone(m.Functions), func(f *onnx.Function) bool { return !called[f] })
}

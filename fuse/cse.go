package fuse

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// cse merges nodes that compute the same from the same inputs (common
// subexpression elimination), within one graph at a time.
type cse struct{}

func (cse) Name() string { return "cse" }

// Doc says what the pass does.
func (cse) Doc() string { return "computes once what is computed several times in the same way" }

// Run visits nodes in execution order, so that equal chains merge from their start.
func (cse) Run(ctx context.Context, m *onnx.Model, e *rewrite.Env) error {
	for _, g := range m.Graphs() {
		seen := map[string]*onnx.Node{}
		for n := range g.Nodes() {
			if err := ctx.Err(); err != nil {
				return err
			}
			key, ok := signature(n)
			if !ok {
				continue
			}
			first := seen[key]
			if first == nil {
				seen[key] = n
				continue
			}
			if !e.Allow("cse", n) {
				continue
			}
			if err := merge(e, g, first, n); err != nil {
				return err
			}
		}
	}
	return nil
}

// merge makes the readers of n read first, where the graph outputs allow it.
func merge(e *rewrite.Env, g *onnx.Graph, first, n *onnx.Node) error {
	for i, v := range n.Outputs() {
		if v == nil || v.Dead() {
			continue
		}
		w := first.Output(i)
		switch {
		case w == nil:
			e.Decline("cse", n, "output %d is left out by the equal %v", i, first)
			return nil
		case v.IsOutput() && w.IsOutput():
			e.Decline("cse", n, "%q and %q are both graph outputs", v.Name(), w.Name())
			return nil
		}
	}
	site := e.At("cse", n)
	for i, v := range n.Outputs() {
		if v == nil || v.Dead() {
			continue
		}
		if err := g.Replace(v, first.Output(i)); err != nil {
			return err
		}
	}
	return e.Fired("cse", site, len(g.SweepFrom(n)), 0, "same as "+first.String())
}

// signature identifies what n computes: operator, inputs, and attributes with
// their defaults filled in. It is not given for nodes that must stay apart.
func signature(n *onnx.Node) (string, bool) {
	version := n.OpsetVersion(n.Domain)
	row := opset.Lookup(n.Domain, n.Op, version)
	if row == nil || opset.Varies(n) || row.SideEffect() || len(n.Subgraphs()) > 0 || n.Is("Constant") {
		return "", false
	}
	ids := make([]string, len(n.Inputs()))
	for i, v := range n.Inputs() {
		if v != nil {
			ids[i] = fmt.Sprintf("%p", v)
		}
	}
	if row.Commutative() && len(ids) == 2 {
		slices.Sort(ids)
	}
	attrs, ok := attrText(n, row)
	outputs := fmt.Sprint(len(n.Outputs())) // Split without sizes cuts into as many parts as it has outputs
	return strings.Join([]string{onnx.NormalDomain(n.Domain), n.Op, n.Overload, outputs, strings.Join(ids, ","), attrs}, "\x00"), ok
}

// attrText writes the attributes of n in a canonical order and encoding.
func attrText(n *onnx.Node, row *opset.Op) (string, bool) {
	list := slices.Clone(n.Attrs)
	for i := range row.Attrs {
		if d := row.Attrs[i].Default; d != nil && n.Attr(d.Name) == nil {
			list = append(list, d)
		}
	}
	slices.SortFunc(list, func(a, b *onnx.Attr) int { return strings.Compare(a.Name, b.Name) })
	var out strings.Builder
	for _, a := range list {
		if a.Ref != "" {
			return "", false
		}
		b := *a
		b.Doc = ""
		if b.T != nil {
			b.T = b.T.Renamed("")
		}
		enc, err := onnxfile.EncodeAttr(&b)
		if err != nil {
			return "", false
		}
		out.Write(enc)
	}
	return out.String(), true
}

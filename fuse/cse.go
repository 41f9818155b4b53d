package fuse

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// cse merges nodes that compute the same from the same inputs (common
// subexpression elimination). A node of a subgraph reads what a graph around it
// has computed by then; the branches of an If, of which one runs, share nothing.
type cse struct{}

func (cse) Name() string { return "cse" }

// Doc says what the pass does.
func (cse) Doc() string { return "computes once what is computed several times in the same way" }

// visible are the nodes of a graph that have run, by what they compute, and those
// of the graphs around it.
type visible struct {
	seen map[string]*onnx.Node
	up   *visible
}

// find returns the node that computes what key says, nil if none.
func (s *visible) find(key string) *onnx.Node {
	for ; s != nil; s = s.up {
		if n := s.seen[key]; n != nil {
			return n
		}
	}
	return nil
}

// Run visits nodes in execution order, so that equal chains merge from their start.
func (c cse) Run(ctx context.Context, m *onnx.Model, e *rewrite.Env) error {
	for _, g := range m.Graphs() {
		if g.Owner() != nil {
			continue // visited with the node that holds it
		}
		if err := c.graph(ctx, g, nil, e); err != nil {
			return err
		}
	}
	return nil
}

// graph merges the nodes of g, with those of its subgraphs before the node that
// holds them: bodies are compared when they are in their final form.
func (c cse) graph(ctx context.Context, g *onnx.Graph, around *visible, e *rewrite.Env) error {
	here := &visible{map[string]*onnx.Node{}, around}
	for n := range g.Nodes() {
		if err := ctx.Err(); err != nil {
			return err
		}
		for _, body := range n.Subgraphs() {
			if err := c.graph(ctx, body, here, e); err != nil {
				return err
			}
		}
		key, ok := signature(n)
		if !ok {
			continue
		}
		first := here.find(key)
		if first == nil {
			here.seen[key] = n
			continue
		}
		if !e.Allow("cse", n) {
			continue
		}
		if err := merge(e, g, first, n); err != nil {
			return err
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
		case v.IsOutput() && w.Graph() != g:
			e.Decline("cse", n, "%q is an output of its graph, and the equal %q is of one around it", v.Name(), w.Name())
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
		unhide(v, first.Output(i))
		if err := g.Replace(v, first.Output(i)); err != nil {
			return err
		}
	}
	return e.Fired("cse", site, len(g.SweepFrom(n)), 0, "same as "+first.String())
}

// unhide renames what has the name of w in a subgraph in which v is read, and so
// would be read there in the place of w.
func unhide(v, w *onnx.Value) {
	clear := map[*onnx.Graph]bool{w.Graph(): true}
	for _, u := range v.Uses() {
		below := u.Node.Graph()
		for g := below; !clear[g]; g = g.Parent() {
			clear[g] = true
			for x := range g.Values() {
				if x.Name() != w.Name() {
					continue
				}
				for below.Parent() != w.Graph() {
					below = below.Parent()
				}
				g.Model().Distinguish(below)
				return
			}
		}
	}
}

// signature identifies what n computes: operator, inputs, attributes with their
// defaults filled in, and subgraphs whatever their values are called. It is not
// given for nodes that must stay apart.
func signature(n *onnx.Node) (string, bool) {
	if n.Is("Constant") {
		return "", false
	}
	return (&signer{}).node(n)
}

// signer writes signatures. Values of the subgraphs that it is in are numbered;
// those around are what they are.
type signer struct {
	inner map[*onnx.Value]int
	next  int
}

// number numbers v, which may be left out: what it is called does not matter, but
// where it stands does.
func (s *signer) number(v *onnx.Value) {
	if v != nil {
		s.inner[v] = s.next
	}
	s.next++
}

// node writes the signature of n.
func (s *signer) node(n *onnx.Node) (string, bool) {
	row := opset.Lookup(n.Domain, n.Op, n.OpsetVersion(n.Domain))
	if row == nil || opset.Varies(n) || row.SideEffect() {
		return "", false
	}
	ids := make([]string, len(n.Inputs()))
	for i, v := range n.Inputs() {
		id, ok := s.value(v)
		if !ok {
			return "", false
		}
		ids[i] = id
	}
	if row.Commutative() && len(ids) == 2 {
		slices.Sort(ids)
	}
	attrs, ok := s.attrs(n, row)
	outputs := fmt.Sprint(len(n.Outputs())) // Split without sizes cuts into as many parts as it has outputs
	return strings.Join([]string{onnx.NormalDomain(n.Domain), n.Op, n.Overload, outputs, strings.Join(ids, ","), attrs}, "\x00"), ok
}

// comparedConstant is the size up to which constants of subgraphs are compared by
// their content; larger ones are equal to themselves only.
const comparedConstant = 64 << 10

// value identifies v.
func (s *signer) value(v *onnx.Value) (string, bool) {
	if v == nil {
		return "", true
	}
	if id, ok := s.inner[v]; ok {
		return fmt.Sprint("#", id), true
	}
	if v.Const == nil || s.inner == nil {
		return fmt.Sprintf("%p", v), true
	}
	t := v.Constant()
	if t == nil || t.Size() > comparedConstant {
		return fmt.Sprintf("%p", v), true
	}
	enc, err := onnxfile.EncodeAttr(onnx.TensorAttr("", t.Renamed("")))
	return fmt.Sprintf("%q", enc), err == nil
}

// attrs writes the attributes of n in a canonical order and encoding.
func (s *signer) attrs(n *onnx.Node, row *opset.Op) (string, bool) {
	list := slices.Clone(n.Attrs)
	for i := range row.Attrs {
		if d := row.Attrs[i].Default; d != nil && n.Attr(d.Name) == nil {
			list = append(list, d)
		}
	}
	slices.SortFunc(list, func(a, b *onnx.Attr) int { return strings.Compare(a.Name, b.Name) })
	var out strings.Builder
	for _, a := range list {
		if a.Ref != "" || len(a.Graphs) > 0 {
			return "", false
		}
		if a.G != nil {
			text, ok := s.graph(a.G)
			if !ok {
				return "", false
			}
			fmt.Fprintf(&out, "%s={%s}", a.Name, text)
			continue
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

// graph identifies what subgraph g computes.
func (s *signer) graph(g *onnx.Graph) (string, bool) {
	if s.inner == nil {
		s.inner = map[*onnx.Value]int{}
	}
	for _, v := range g.Inputs() {
		if v.Const != nil {
			return "", false
		}
		s.number(v)
	}
	sum := sha256.New()
	fmt.Fprintf(sum, "%d inputs\n", len(g.Inputs()))
	for n := range g.Nodes() {
		text, ok := s.node(n)
		if !ok {
			return "", false
		}
		fmt.Fprintf(sum, "%q\n", text)
		for _, v := range n.Outputs() {
			s.number(v)
		}
	}
	for _, v := range g.Outputs() {
		id, ok := s.value(v)
		if !ok {
			return "", false
		}
		fmt.Fprintln(sum, id)
	}
	return fmt.Sprintf("%x", sum.Sum(nil)), true
}

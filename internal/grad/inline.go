package grad

import (
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// maxInlined bounds how many nodes the calls of one model may expand to.
const maxInlined = 1 << 20

// inlineCalls puts the bodies of local functions in place of their calls in the main graph.
func inlineCalls(m *onnx.Model) error {
	made := 0
	for n := m.Graph.First(); n != nil; {
		f := m.FindFunction(n)
		if f == nil {
			n = n.Next()
			continue
		}
		before := n.Prev()
		if err := inlineCall(m, n, f); err != nil {
			return fmt.Errorf("%v: %w", n, err)
		}
		if made += f.Body.Len(); made > maxInlined {
			return fmt.Errorf("the calls of local functions expand to more than %d nodes", maxInlined)
		}
		if n = m.Graph.First(); before != nil {
			n = before.Next()
		}
	}
	return nil
}

func inlineCall(m *onnx.Model, n *onnx.Node, f *onnx.Function) error {
	if f.Body == nil {
		return fmt.Errorf("the function has no body")
	}
	for _, o := range f.Opsets {
		have := m.OpsetVersion(o.Domain)
		if have != 0 && have != o.Version {
			return fmt.Errorf("the function imports version %d of domain %q, the model %d", o.Version, o.Domain, have)
		}
		m.ImportOpset(o.Domain, o.Version)
	}
	bound := map[*onnx.Value]*onnx.Value{}
	for i, p := range f.Body.Inputs() {
		bound[p] = n.Input(i)
	}
	for body := range f.Body.Nodes() {
		inputs := make([]*onnx.Value, len(body.Inputs()))
		for i, v := range body.Inputs() {
			if v != nil {
				inputs[i] = bound[v]
			}
		}
		names := make([]string, len(body.Outputs()))
		for i, v := range body.Outputs() {
			if v != nil {
				names[i] = m.Fresh(v.Name())
			}
		}
		c := onnx.CloneNodeInto(body, inputs, names, bound)
		c.Name = n.Name + "/" + body.Name
		resolve(c, n, f)
		m.Graph.InsertBefore(c, n)
		for i, v := range body.Outputs() {
			if v != nil {
				bound[v] = c.Output(i)
			}
		}
	}
	for i, v := range n.Outputs() {
		if v == nil || i >= len(f.Body.Outputs()) {
			continue
		}
		w := bound[f.Body.Outputs()[i]]
		if w == nil {
			return fmt.Errorf("output %d of the function has no value", i)
		}
		if err := m.Graph.Replace(v, w); err != nil {
			return err
		}
	}
	return m.Graph.Remove(n)
}

// resolve replaces references to attributes of f, in n and the bodies that it holds, by what the call gives or the default.
func resolve(n, call *onnx.Node, f *onnx.Function) {
	var kept []*onnx.Attr
	for _, a := range n.Attrs {
		if a.Ref == "" {
			kept = append(kept, a)
			continue
		}
		if v := argument(call, f, a.Ref); v != nil {
			w := *v
			w.Name = a.Name
			kept = append(kept, &w)
		}
	}
	n.Attrs = kept
	for _, g := range n.Subgraphs() {
		for inner := range g.Nodes() {
			resolve(inner, call, f)
		}
	}
}

func argument(call *onnx.Node, f *onnx.Function, name string) *onnx.Attr {
	if a := call.Attr(name); a != nil {
		return a
	}
	for _, a := range f.AttrDefaults {
		if a.Name == name {
			return a
		}
	}
	return nil
}

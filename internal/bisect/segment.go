package bisect

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// produced returns the values that nodes of m's main graph compute, by name.
func produced(m *onnx.Model) map[string]*onnx.Value {
	out := map[string]*onnx.Value{}
	for n := range m.Graph.Nodes() {
		for _, v := range n.Outputs() {
			if v != nil {
				out[v.Name()] = v
			}
		}
	}
	return out
}

// part returns a copy of m that computes outs and reads the values of cut as
// inputs, wherever something else than outs itself computes them. Both are
// names of values of the main graph; feeds says which input stands for which
// value. types gives the element types of the values.
func part(m *onnx.Model, outs []string, cut map[string]bool, types map[string]*onnx.Type) (c *onnx.Model, feeds map[string]string) {
	c = m.Clone()
	g := c.Graph
	values := produced(c)
	feeds = map[string]string{}
	inputs := map[*onnx.Value]*onnx.Value{}
	for n := range g.Nodes() {
		for _, v := range n.Outputs() {
			if v != nil && cut[v.Name()] {
				in := g.AddInput(c.Fresh(v.Name()+"_given"), types[v.Name()])
				feeds[in.Name()], inputs[v] = v.Name(), in
			}
		}
	}
	redirect(c, inputs)
	var list []*onnx.Value
	for _, name := range outs {
		v := values[name]
		if t := types[name]; t != nil {
			v.Type = onnx.TensorType(t.Elem, nil)
		}
		list = append(list, v)
	}
	g.SetOutputs(list)
	g.Sweep()
	dropUnread(g, feeds)
	return c, feeds
}

// redirect makes whatever reads a key of inputs read its value instead, in all
// graphs; outputs of the main graph stay.
func redirect(m *onnx.Model, inputs map[*onnx.Value]*onnx.Value) {
	for v, in := range inputs {
		for _, u := range slices.Clone(v.Uses()) {
			u.Node.SetInput(u.Index, in)
		}
	}
	for _, g := range m.Graphs() {
		if g == m.Graph || !slices.ContainsFunc(g.Outputs(), func(v *onnx.Value) bool { return inputs[v] != nil }) {
			continue
		}
		outs := slices.Clone(g.Outputs())
		for i, v := range outs {
			if in := inputs[v]; in != nil {
				outs[i] = in
			}
		}
		g.SetOutputs(outs)
	}
}

// dropUnread removes the inputs that nothing reads, those with a default too.
func dropUnread(g *onnx.Graph, feeds map[string]string) {
	for _, v := range slices.Clone(g.Inputs()) {
		if v.Dead() && g.RemoveInput(v) == nil {
			delete(feeds, v.Name())
		}
	}
	g.Sweep() // defaults of removed inputs
}

// tensorTypes returns the element types of the values of m's main graph that
// are known to be tensors, with the rank left open.
func tensorTypes(m *onnx.Model) (map[string]*onnx.Type, error) {
	facts, err := opset.Infer(m, opset.Options{IgnoreValueInfo: true})
	if err != nil {
		return nil, err
	}
	out := map[string]*onnx.Type{}
	for name, v := range produced(m) {
		if d := facts.DType(v); d != onnx.Undefined {
			out[name] = onnx.TensorType(d, nil)
		}
	}
	return out, nil
}

// repeatable reports whether n gives the same on every run.
func repeatable(n *onnx.Node) bool {
	row := opset.Lookup(n.Domain, n.Op, n.OpsetVersion(n.Domain))
	return row == nil || row.Deterministic()
}

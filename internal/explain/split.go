package explain

import (
	"fmt"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// Halves are the two models that [SplitModel] makes; they share the tensors of the whole one.
type Halves struct {
	Body    *onnx.Model // the inputs of the whole model; Feature is its only output
	Feature string
	Tail    *onnx.Model // Input is its only input, the output that is explained its only output
	Input   string
}

// SplitModel cuts m at its last feature map: the tensor [N, channels, height, width] of at least two positions that is pooled,
// flattened or convolved away, and behind which nothing reads anything else. shapes are those of a sample, by input; they decide
// what is a feature map. It errs, with the reason, on models that have none.
func SplitModel(m *onnx.Model, output string, shapes map[string]onnx.Shape) (*Halves, error) {
	facts, err := opset.Infer(m, opset.Options{InputShapes: shapes, ReadOnly: true})
	if err != nil {
		return nil, err
	}
	out := named(m.Graph.Outputs(), output)
	if out == nil {
		return nil, fmt.Errorf("there is no output %q", output)
	}
	x, err := featureMap(m.Graph, out, facts)
	if err != nil {
		return nil, err
	}
	typ := onnx.TensorType(facts.DType(x), onnx.Shape{batchOf(m.Graph), facts.Shape(x)[1], facts.Shape(x)[2], facts.Shape(x)[3]})
	h := &Halves{Feature: x.Name()}
	h.Body = body(m, x.Name(), typ)
	if h.Tail, h.Input, err = tail(m, x.Name(), output, typ); err != nil {
		return nil, err
	}
	return h, nil
}

func named(values []*onnx.Value, name string) *onnx.Value {
	for _, v := range values {
		if v.Name() == name {
			return v
		}
	}
	return nil
}

// batchOf returns the first dimension of the model's inputs, unknown where it is free.
func batchOf(g *onnx.Graph) onnx.Dim {
	for _, v := range g.Inputs() {
		if s := v.Shape(); v.Const == nil && len(s) > 0 && s[0].Known() {
			return s[0]
		}
	}
	return onnx.Symbol("N")
}

// featureMap walks from the output against the flow to the nodes that take positions away, and returns what they read.
func featureMap(g *onnx.Graph, out *onnx.Value, facts *opset.Facts) (*onnx.Value, error) {
	var found []*onnx.Value
	heads := map[*onnx.Value]*onnx.Node{}
	seen := map[*onnx.Node]bool{}
	work := []*onnx.Value{out}
	for len(work) > 0 {
		v := work[len(work)-1]
		work = work[:len(work)-1]
		n := v.Producer()
		switch {
		case n == nil && v.IsInput() && v.Const == nil:
			return nil, fmt.Errorf("it has no feature map that is pooled or flattened: output %q reads input %q past all of them", out.Name(), v.Name())
		case n == nil || seen[n]:
			continue
		}
		seen[n] = true
		if x := pooled(n, facts); x != nil {
			if heads[x] == nil {
				heads[x] = n
				found = append(found, x)
			}
			continue
		}
		for _, in := range readBy(n, g) {
			if in.Constant() == nil {
				work = append(work, in)
			}
		}
	}
	return onlyFeature(found, heads, facts)
}

// readBy returns what n reads, also in its subgraphs, of the values of g.
func readBy(n *onnx.Node, g *onnx.Graph) []*onnx.Value {
	var out []*onnx.Value
	for _, v := range n.Inputs() {
		if v != nil {
			out = append(out, v)
		}
	}
	for _, sub := range n.Subgraphs() {
		for inner := range sub.Nodes() {
			for _, v := range readBy(inner, g) {
				if v.Graph() == g {
					out = append(out, v)
				}
			}
		}
	}
	return out
}

// pooled returns the feature map that n reads and takes all positions from, nil if n does not.
func pooled(n *onnx.Node, facts *opset.Facts) *onnx.Value {
	x, y := n.Input(0), n.Output(0)
	if x == nil || y == nil || x.Constant() != nil {
		return nil
	}
	in, out := facts.Shape(x), facts.Shape(y)
	if len(in) != 4 || !in[2].Known() || !in[3].Known() || in[2].Value*in[3].Value < 2 || !out.Ranked() {
		return nil
	}
	one := func(d onnx.Dim) bool { return d.Known() && d.Value == 1 }
	if len(out) <= 2 || len(out) == 4 && one(out[2]) && one(out[3]) {
		return x
	}
	return nil
}

func onlyFeature(found []*onnx.Value, heads map[*onnx.Value]*onnx.Node, facts *opset.Facts) (*onnx.Value, error) {
	switch {
	case len(found) == 0:
		return nil, fmt.Errorf("it has no feature map that is pooled or flattened")
	case len(found) > 1:
		var names []string
		for _, v := range found {
			names = append(names, fmt.Sprintf("%q (by %v)", v.Name(), heads[v]))
		}
		return nil, fmt.Errorf("%d feature maps are pooled apart from each other: %s", len(found), strings.Join(names, ", "))
	}
	x := found[0]
	switch {
	case x.IsInput():
		return nil, fmt.Errorf("%v takes the positions of input %q itself away: there is no feature map before it", heads[x], x.Name())
	case !facts.DType(x).IsFloat():
		return nil, fmt.Errorf("%v reads its feature map %q as %v: only floating-point numbers can be hidden, as QDQ models have them", heads[x], x.Name(), facts.DType(x))
	case !facts.Shape(x)[1].Known():
		return nil, fmt.Errorf("the number of channels of feature map %q is not known", x.Name())
	}
	return x, nil
}

// body returns the part of m that computes the tensor of that name.
func body(m *onnx.Model, name string, typ *onnx.Type) *onnx.Model {
	c := m.Clone()
	v := find(c.Graph, name)
	v.Type = typ
	c.Graph.SetOutputs([]*onnx.Value{v})
	c.Graph.Sweep()
	return c
}

// tail returns the part of m that computes output from the tensor of that name, which becomes its only input.
func tail(m *onnx.Model, name, output string, typ *onnx.Type) (*onnx.Model, string, error) {
	c := m.Clone()
	g := c.Graph
	g.SetOutputs([]*onnx.Value{named(g.Outputs(), output)})
	in := g.AddInput(c.Fresh("features"), typ)
	if err := g.Replace(find(g, name), in); err != nil {
		return nil, "", err
	}
	g.Sweep()
	var old []*onnx.Value
	for _, v := range g.Inputs() {
		if v != in && (v.Const == nil || v.Dead()) {
			old = append(old, v)
		}
	}
	for _, v := range old {
		if !v.Dead() {
			return nil, "", fmt.Errorf("what follows feature map %q also reads input %q", name, v.Name())
		}
		if err := g.RemoveInput(v); err != nil {
			return nil, "", err
		}
	}
	g.Sweep()
	return c, in.Name(), nil
}

func find(g *onnx.Graph, name string) *onnx.Value {
	for v := range g.Values() {
		if v.Name() == name {
			return v
		}
	}
	return nil
}

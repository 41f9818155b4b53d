package explain

import (
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// Embedded are the two models that [CutEmbedding] makes; they share the tensors of the whole one.
type Embedded struct {
	Body  *onnx.Model // the inputs of the whole model; Value is its only output
	Value string      // the embedding: a row of floating-point numbers for each token, in the order of the tokens
	Tail  *onnx.Model // the same inputs and Input, which is read in place of Value; the output that is explained is its only output
	Input string
	Held  []string // nodes that read the tokens past the embedding, for masks and places
}

// CutEmbedding cuts m where the tokens of an input have become floating-point numbers: behind the node that looks them up in a
// constant table, or behind what decodes the rows of a quantized one. It errs, with the reason, where there is no such place, or
// more than one.
func CutEmbedding(m *onnx.Model, output, input string) (*Embedded, error) {
	c := m.Clone()
	if _, err := c.Repair(); err != nil { // so that nodes come after what they read
		return nil, err
	}
	out, x := named(c.Graph.Outputs(), output), named(c.Graph.Inputs(), input)
	switch {
	case out == nil:
		return nil, fmt.Errorf("there is no output %q", output)
	case x == nil:
		return nil, fmt.Errorf("there is no input %q", input)
	}
	c.Graph.SetOutputs([]*onnx.Value{out})
	c.Graph.Sweep()
	facts, err := opset.Infer(c, opset.Options{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	l, err := newLookup(c.Graph, x, facts)
	if err != nil {
		return nil, err
	}
	v, err := l.embedding(out, x)
	if err != nil {
		return nil, err
	}
	e := &Embedded{Value: v.Name()}
	for _, n := range l.held {
		e.Held = append(e.Held, n.String())
	}
	typ := portType(c.Graph, facts.Type(v))
	e.Body = body(c, e.Value, typ)
	in := c.Graph.AddInput(c.Fresh("embedded"), typ)
	if err := c.Graph.Replace(v, in); err != nil {
		return nil, err
	}
	c.Graph.Sweep()
	e.Tail, e.Input = c, in.Name()
	return e, nil
}

// portType returns t without those names of dimensions that no input has: outside of the graph they mean nothing.
func portType(g *onnx.Graph, t *onnx.Type) *onnx.Type {
	known := map[string]bool{}
	for _, v := range g.Inputs() {
		for _, d := range v.Shape() {
			known[d.Param] = true
		}
	}
	if !t.Shape.Ranked() {
		return onnx.TensorType(t.Elem, nil)
	}
	s := make(onnx.Shape, len(t.Shape))
	for i, d := range t.Shape {
		if s[i] = onnx.Symbol(""); d.Known() || known[d.Param] {
			s[i] = d
		}
	}
	return onnx.TensorType(t.Elem, s)
}

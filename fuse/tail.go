package fuse

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// Tail is a kind of operator at the end of a model that a caller can do without.
type Tail string

// The tails.
const (
	TailArgMax  Tail = "argmax"  // ArgMax and ArgMin: the output carries the scores instead of the index of the best
	TailSoftmax Tail = "softmax" // Softmax and LogSoftmax: the output carries the logits instead of probabilities
)

var tailOps = map[Tail][]string{TailArgMax: {"ArgMax", "ArgMin"}, TailSoftmax: {"Softmax", "LogSoftmax"}}

// ParseTails checks the names of tails.
func ParseTails(names []string) ([]Tail, error) {
	var out []Tail
	for _, n := range names {
		if tailOps[Tail(n)] == nil {
			return nil, fmt.Errorf("there is no tail %q to trim; want argmax or softmax", n)
		}
		out = append(out, Tail(n))
	}
	return out, nil
}

// cut returns what changes the outputs on purpose, nil where nothing is asked for.
func (o Options) cut() func(context.Context, *onnx.Model) ([]string, error) {
	if len(o.TrimTail) == 0 && !o.DropConstantOutputs {
		return nil
	}
	return func(ctx context.Context, m *onnx.Model) ([]string, error) {
		said, err := trimTails(m, o.TrimTail)
		if err != nil || !o.DropConstantOutputs {
			return said, err
		}
		dropped, err := dropConstantOutputs(ctx, m, o)
		return append(said, dropped...), err
	}
}

// trimTails takes the operators that tails names off the outputs of m, also
// several in a row. An output keeps its name and carries what the operator read.
func trimTails(m *onnx.Model, tails []Tail) ([]string, error) {
	if len(tails) == 0 {
		return nil, nil
	}
	facts, err := opset.Infer(m, opset.Options{IgnoreValueInfo: true})
	if err != nil {
		return nil, err
	}
	var said []string
	for i := range m.Graph.Outputs() {
		for {
			text, err := trimOne(m.Graph, i, tails, facts)
			if err != nil {
				return nil, err
			}
			if text == "" {
				break
			}
			said = append(said, text)
		}
	}
	if len(said) == 0 {
		return nil, fmt.Errorf("no output ends in %s; leave out --trim-tail", tailNames(tails))
	}
	m.Graph.Sweep()
	return said, nil
}

func tailNames(tails []Tail) string {
	var ops []string
	for _, t := range tails {
		ops = append(ops, tailOps[t]...)
	}
	return strings.Join(ops, " or ")
}

// trimOne cuts the operator that computes output i, and says so; "" where it is
// none of the tails, or where the output cannot carry what it reads.
func trimOne(g *onnx.Graph, i int, tails []Tail, facts *opset.Facts) (string, error) {
	out := g.Outputs()[i]
	n := out.Producer()
	if n == nil || n.Graph() != g || !slices.ContainsFunc(tails, func(t Tail) bool { return slices.ContainsFunc(tailOps[t], n.Is) }) {
		return "", nil
	}
	name, was, x := out.Name(), facts.Type(out), n.Input(0)
	if x == nil || x.Producer() == nil || x.Graph() != g || x.IsOutput() {
		return "", nil // already an output: callers have it under another name
	}
	list := slices.Clone(g.Outputs())
	g.SetOutputs(slices.Delete(slices.Clone(list), i, i+1))
	if out.IsOutput() { // listed twice
		g.SetOutputs(list)
		return "", nil
	}
	if err := out.Rename(g.Model().Fresh(name)); err != nil { // other readers still have it
		return "", err
	}
	if err := x.Rename(name); err != nil {
		return "", err
	}
	list[i] = x
	g.SetOutputs(list)
	if typ := facts.Type(x); typ.IsTensor() {
		x.Type = onnx.TensorType(typ.Elem, openShape(typ.Shape))
	}
	return fmt.Sprintf("output %q is now what its %s read: %v instead of %v", name, n.Op, x.Type, was), nil
}

// openShape leaves open the sizes that only inference has names for.
func openShape(s onnx.Shape) onnx.Shape {
	if s == nil {
		return nil
	}
	out := slices.Clone(s)
	for i, d := range out {
		if !d.Known() && strings.ContainsAny(d.Param, "+*/(){} ") {
			out[i] = onnx.Symbol("")
		}
	}
	return out
}

package validate

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/explain"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// embedded is a model that was cut at the embedding of its tokens, or why it cannot be.
type embedded struct {
	parts *explain.Embedding
	err   error
}

// embed cuts the model of a file at the embedding of an input and loads both parts, and the gradient of the second.
func (g *graphs) embed(ctx context.Context, path string, candidate bool, output, input string) (*explain.Embedding, error) {
	key := fmt.Sprint(path, candidate) // both may be one file, and take other types
	if g.embeds[key] == nil {
		e := &embedded{}
		e.parts, e.err = g.cut(ctx, path, candidate, output, input)
		g.embeds[key] = e
	}
	return g.embeds[key].parts, g.embeds[key].err
}

func (g *graphs) cut(ctx context.Context, path string, candidate bool, output, input string) (*explain.Embedding, error) {
	m, err := onnxfile.Open(path, onnxfile.Options{})
	if err != nil {
		return nil, err
	}
	defer m.Close()
	c, err := explain.CutEmbedding(m, output, input)
	if err != nil {
		return nil, err
	}
	slopes := g.gradient(candidate, output)
	if slopes.ready[c.Input], err = slopes.differentiate(ctx, c.Tail, c.Input); err != nil {
		return nil, err
	}
	e := &explain.Embedding{Value: strings.Clone(c.Value), Input: strings.Clone(c.Input), Gradient: slopes}
	for _, n := range c.Held {
		e.Held = append(e.Held, strings.Clone(n))
	}
	if e.Body, err = g.load(ctx, c.Body); err != nil {
		return nil, fmt.Errorf("its embedding %q: %w", c.Value, err)
	}
	if e.Tail, err = g.load(ctx, c.Tail); err != nil {
		return nil, fmt.Errorf("what follows its embedding %q: %w", c.Value, err)
	}
	if candidate {
		e.Body = g.v.bounds.adapt(e.Body, g.v.in)
		e.Tail = g.v.bounds.adapt(e.Tail, append(slices.Clone(g.v.in), portOf(e.Tail, e.Input)))
	}
	return e, nil
}

// portOf returns the input of that name as a port of data.
func portOf(s session.Session, name string) dataset.Port {
	for _, p := range s.Inputs() {
		if p.Name == name {
			return dataset.Port{Name: p.Name, Type: p.Type}
		}
	}
	return dataset.Port{Name: name}
}

// tokens returns which of several inputs of integers the baseline embeds, the first of all where it embeds none.
func (g *graphs) tokens(inputs []string) (string, error) {
	if len(inputs) == 1 {
		return inputs[0], nil
	}
	m, err := onnxfile.Open(g.path(false), onnxfile.Options{})
	if err != nil {
		return "", err
	}
	defer m.Close()
	for _, name := range inputs {
		if _, err := explain.CutEmbedding(m, g.explained(m), name); err == nil {
			return name, nil
		}
	}
	return inputs[0], nil
}

// explained returns the output that explanations are of.
func (g *graphs) explained(m *onnx.Model) string {
	if g.v.output != "" {
		return g.v.output
	}
	for _, v := range m.Graph.Outputs() {
		if v.DType().IsFloat() {
			return v.Name()
		}
	}
	return ""
}

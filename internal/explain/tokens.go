package explain

import (
	"context"
	"fmt"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// Embedding is a model cut where the tokens of the explained input have become floating-point numbers, by which one can
// differentiate. The caller closes both sessions.
type Embedding struct {
	Body     session.Session // from the model's inputs to the embedding
	Value    string          // its output: a row of numbers for each token
	Tail     session.Session // from the model's inputs and the embedding to the model's output, under the model's own name
	Input    string          // the input of Tail that takes the embedding
	Gradient Gradient        // of Tail
	Held     []string        // nodes that read the tokens past the embedding; on a path they see those of the sample
}

// embeds says whether the explained input, of type d, is made of tokens that the method needs as numbers.
func (m Method) embeds(d onnx.DType) bool {
	return m.ByInput && (d == onnx.Int32 || d == onnx.Int64)
}

// fromToken says whether the path to an embedding starts at that of a token; else it starts at zeros.
func (o Options) fromToken() bool { return o.NamedToken && o.Fill != FillZero }

// numeric returns the problem by an input of floating-point numbers: p itself, or where its input is made of tokens that of what
// follows their embedding.
func (p *problem) numeric(ctx context.Context) (*problem, error) {
	if p.model.embedding == nil {
		return p, nil
	}
	e := p.model.embedding
	x, err := p.model.embed(ctx, p.view.sample)
	if err != nil {
		return nil, err
	}
	v, err := p.view.embedded(e.Input, x)
	if err != nil {
		return nil, fmt.Errorf("the %s, sample %q: %v", p.model.name, p.view.sample.ID, err)
	}
	hidden := make([]byte, len(v.original))
	if p.o.fromToken() {
		if hidden, err = p.embeddedToken(ctx); err != nil {
			return nil, err
		}
	}
	for i := range v.part.features { // all else stays as it is in the sample
		v.hide(v.fill, i, hidden)
	}
	q := *p
	q.model, q.view = p.model.embedded(), v
	return &q, nil
}

// embeddedToken returns the embedding of a sample that is nothing but the hiding token.
func (p *problem) embeddedToken(ctx context.Context) ([]byte, error) {
	t := p.view.input
	n, _ := t.Elements()
	tokens, err := onnx.FromFloat64s(t.Name, t.DType, t.Shape, slices.Repeat([]float64{float64(p.o.Token)}, int(n)))
	if err != nil {
		return nil, err
	}
	b, err := p.model.embed(ctx, replaced(p.view.sample, p.model.input, tokens))
	if err != nil {
		return nil, fmt.Errorf("hidden by token %d: %w", p.o.Token, err)
	}
	return b.Bytes()
}

// embed runs a sample up to the embedding.
func (m *model) embed(ctx context.Context, s Sample) (*onnx.Tensor, error) {
	result, err := m.embedding.Body.Run(ctx, s.Inputs)
	if err != nil {
		return nil, fmt.Errorf("running the %s on sample %q: %w", m.name, s.ID, err)
	}
	x := result.Outputs[m.embedding.Value]
	if x == nil || !x.DType.IsFloat() {
		return nil, fmt.Errorf("the %s gave no embedding %q of sample %q", m.name, m.embedding.Value, s.ID)
	}
	return x, nil
}

// embedded returns what follows the embedding as a model of its own.
func (m *model) embedded() *model {
	t := *m
	t.session, t.input, t.batch = m.embedding.Tail, m.embedding.Input, max(m.tailBatch, 1)
	return &t
}

// embedded returns the view of the sample's embedding x, as another input: a feature of tokens is made of all numbers of their
// rows. Nothing is hidden yet.
func (v *view) embedded(input string, x *onnx.Tensor) (*view, error) {
	tokens, _ := v.input.Elements()
	n, ok := x.Elements()
	if !ok || n == 0 || n%tokens != 0 || n > 1<<30 {
		return nil, fmt.Errorf("its embedding has shape %v for %d tokens", x.Shape, tokens)
	}
	content, err := x.Bytes()
	if err != nil {
		return nil, err
	}
	return &view{
		sample: replaced(v.sample, input, x), input: x, part: v.part.widened(int32(n / tokens)),
		original: content, fill: slices.Clone(content), size: x.DType.Bits() / 8,
	}, nil
}

// widened returns the partition of a tensor that has a row of that many elements for each element of this one.
func (p *partition) widened(width int32) *partition {
	q := *p
	q.features = make([][]int32, len(p.features))
	for i, f := range p.features {
		q.features[i] = make([]int32, 0, len(f)*int(width))
		for _, e := range f {
			for k := range width {
				q.features[i] = append(q.features[i], e*width+k)
			}
		}
	}
	return &q
}

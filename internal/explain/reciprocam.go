package explain

import (
	"context"
	"errors"
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// reciproCAM takes the feature map F in front of the pooled head and hides one position of it at a time, through all channels,
// A_p = f(F) - f(F with position p at 0): only the head runs again (after Byun and Lee, "Recipro-CAM: Fast gradient-free visual
// explanations for convolutional neural networks", 2022, whose masks keep the position instead; a margin over the best other
// class is only meaningful near the whole map). For global average pooling and a linear head it is the class activation map.
var reciproCAM = Method{
	Name: "recipro-cam", Doc: "positions of the last feature map are hidden in turn, and only the head runs again", Splits: true,
	Runs: func(p *partition, _ int, _ Options) int { return len(p.features) + 1 },
	Attribute: func(ctx context.Context, p *problem) (*attribution, error) {
		f, err := p.model.features(ctx, p.view.sample)
		if err != nil {
			return nil, err
		}
		height, width := int(f.Shape[2]), int(f.Shape[3])
		on, err := p.view.on(height, width)
		if err != nil {
			return nil, err
		}
		head, err := p.atTail(f)
		if err != nil {
			return nil, err
		}
		positions := height * width
		size := f.DType.Bits() / 8
		base, hidden, err := head.evaluate(ctx, positions, func(i int, dst []byte) {
			for at := i * size; at < len(dst); at += positions * size {
				clear(dst[at : at+size])
			}
		})
		if err != nil {
			return nil, err
		}
		for i := range hidden {
			hidden[i] = base - hidden[i]
		}
		head.view = on
		return head.result(base, hidden), nil
	},
}

// features runs a sample up to the feature map [1, channels, height, width].
func (m *model) features(ctx context.Context, s Sample) (*onnx.Tensor, error) {
	if m.split == nil {
		return nil, errors.New("the model is not split")
	}
	result, err := m.split.Body.Run(ctx, s.Inputs)
	if err != nil {
		return nil, fmt.Errorf("running the %s on sample %q: %w", m.name, s.ID, err)
	}
	f := result.Outputs[m.split.Feature]
	switch {
	case f == nil:
		return nil, fmt.Errorf("the %s gave no feature map %q for sample %q", m.name, m.split.Feature, s.ID)
	case len(f.Shape) != 4 || f.Shape[0] != 1 || !f.DType.IsFloat() || f.Shape[2]*f.Shape[3] < 2:
		return nil, fmt.Errorf("the %s's feature map %q is %v%v, want floating-point numbers [1, channels, height, width] at two positions or more",
			m.name, m.split.Feature, f.DType, f.Shape)
	}
	return f, nil
}

// atTail returns the problem of the head alone, for a feature map.
func (p *problem) atTail(f *onnx.Tensor) (*problem, error) {
	content, err := f.Bytes()
	if err != nil {
		return nil, err
	}
	q := *p
	q.model = p.model.tail()
	q.view = &view{sample: Sample{ID: p.view.sample.ID, Inputs: map[string]*onnx.Tensor{p.model.split.Input: f}}, input: f, original: content}
	return &q, nil
}

// tail returns the head as a model of its own.
func (m *model) tail() *model {
	t := *m
	t.session, t.input, t.batch = m.split.Tail, m.split.Input, max(m.tailBatch, 1)
	return &t
}

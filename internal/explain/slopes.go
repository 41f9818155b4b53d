package explain

import (
	"context"
	"fmt"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// gradientRuns is what a run of a model with its gradient costs, in inferences.
const gradientRuns = 3

// real returns the elements of the explained input, which must be floating-point numbers: only by these can one differentiate.
func (p *problem) real() ([]float64, error) {
	t := p.view.input
	if !t.DType.IsFloat() {
		return nil, fmt.Errorf("%s needs an input of floating-point numbers, %q is %v: use a method that hides parts of the input", p.o.Method.Name, p.model.input, t.DType)
	}
	return t.Float64s()
}

// packed returns elements as the content of the explained input.
func (p *problem) packed(v []float64) ([]byte, error) {
	t, err := onnx.FromFloat64s(p.view.input.Name, p.view.input.DType, p.view.input.Shape, v)
	if err != nil {
		return nil, err
	}
	return t.Bytes()
}

// slopes runs the model on versions of the explained input, and hands the target of each and its gradient by the input's elements
// to see, which must not keep it.
func (p *problem) slopes(ctx context.Context, versions [][]byte, see func(i int, value float64, gradient []float64)) error {
	m, s, n := p.model, p.view.sample, len(versions)
	p.runs += n
	fill := func(i int, dst []byte) { copy(dst, versions[i]) }
	rows, err := m.rows(ctx, s, variants{n: n, fill: fill})
	if err != nil {
		return err
	}
	for at := 0; at < n; at += m.batch {
		var data []byte
		seed := make([]float64, 0, m.batch*len(rows[at]))
		for i := at; i < at+m.batch; i++ {
			if i < n {
				data, seed = append(data, versions[i]...), append(seed, p.target.slope(rows[i], m.kind)...)
			} else { // a batch that is filled up, whose rest nobody looks at
				data, seed = append(data, p.view.original...), append(seed, make([]float64, len(rows[at]))...)
			}
		}
		_, gradient, err := p.slope(ctx, data, seed, m, m.input)
		if err != nil {
			return err
		}
		v, err := gradient.Float64s()
		if err != nil {
			return err
		}
		if want, _ := p.view.input.Elements(); int64(len(v)) != want*int64(m.batch) {
			return fmt.Errorf("the gradient of the %s has shape %v for a batch of %d", m.name, gradient.Shape, m.batch)
		}
		for i, g := range slices.Collect(slices.Chunk(v, len(v)/m.batch))[:min(m.batch, n-at)] {
			see(at+i, p.target.value(rows[at+i], m.kind), g)
		}
	}
	return nil
}

// slope runs one batch of the differentiated model.
func (p *problem) slope(ctx context.Context, data []byte, seed []float64, m *model, tensor string) (value, gradient *onnx.Tensor, err error) {
	in, err := m.inputs(p.view.sample, data)
	if err != nil {
		return nil, nil, err
	}
	value, gradient, err = m.gradient.Slope(ctx, in, seed, tensor)
	if err != nil {
		return nil, nil, fmt.Errorf("the gradient of the %s for sample %q: %w", m.name, p.view.sample.ID, err)
	}
	return value, gradient, nil
}

// perFeature adds up what belongs to the elements of each feature.
func (p *problem) perFeature(elements []float64) []float64 {
	out := make([]float64, len(p.view.part.features))
	for f, list := range p.view.part.features {
		for _, e := range list {
			out[f] += elements[e]
		}
	}
	return out
}

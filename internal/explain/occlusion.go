package explain

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// occlusion is one sample, cut into features, with what hides them.
type occlusion struct {
	sample     Sample
	part       *partition
	background []byte
	size       int // bytes per element
	moves      []bool
}

func newOcclusion(s Sample, input string, o Options, b *background) (*occlusion, error) {
	t := s.Inputs[input]
	p, err := newPartition(t.Shape, o)
	if err != nil {
		return nil, fmt.Errorf("sample %q: input %q: %v", s.ID, input, err)
	}
	if b.fill == FillToken && len(o.Keep) > 0 {
		tokens, err := t.Ints()
		if err != nil {
			return nil, fmt.Errorf("sample %q: %v", s.ID, err)
		}
		p = p.without(tokens, o.Keep)
	}
	if len(p.features) < 2 {
		return nil, fmt.Errorf("sample %q: input %q of shape %v gives %d features to hide, want at least 2", s.ID, input, t.Shape, len(p.features))
	}
	back, err := b.bytes(t, p)
	if err != nil {
		return nil, fmt.Errorf("sample %q: %v", s.ID, err)
	}
	original, err := t.Bytes()
	if err != nil {
		return nil, fmt.Errorf("sample %q: %v", s.ID, err)
	}
	c := &occlusion{sample: s, part: p, background: back, size: t.DType.Bits() / 8, moves: make([]bool, len(p.features))}
	for i := range p.features {
		hidden := slices.Clone(original)
		c.hide(hidden, i)
		c.moves[i] = !bytes.Equal(hidden, original)
	}
	return c, nil
}

// hide replaces feature i in dst.
func (c *occlusion) hide(dst []byte, i int) {
	for _, e := range c.part.features[i] {
		at := int(e) * c.size
		copy(dst[at:at+c.size], c.background[at:at+c.size])
	}
}

// one hides each feature alone.
func (c *occlusion) one() variants {
	return variants{n: len(c.part.features), fill: func(i int, dst []byte) { c.hide(dst, i) }}
}

// cumulative hides the leading features of an order, a tenth more with every variant.
func (c *occlusion) cumulative(order []int) variants {
	steps := min(10, len(order))
	return variants{n: steps, fill: func(i int, dst []byte) {
		for _, f := range order[:(len(order)*(i+1)+steps-1)/steps] {
			c.hide(dst, f)
		}
	}}
}

// attribution is a map with what it was computed from.
type attribution struct {
	values []float64 // per feature: value of the sample less value with the feature hidden
	base   float64   // value of the sample
	row    []float64 // its output
	dead   int       // perturbations that changed the input and left the whole output exactly as it was
	moved  int       // perturbations that changed the input
}

// attribute computes f(x) - f(x with feature i hidden) for every feature. The sample itself runs in the same batches.
func (m *model) attribute(ctx context.Context, c *occlusion, aim func(row []float64) target) (*attribution, error) {
	one := c.one()
	rows, err := m.rows(ctx, c.sample, variants{n: one.n + 1, fill: func(i int, dst []byte) {
		if i > 0 {
			one.fill(i-1, dst)
		}
	}})
	if err != nil {
		return nil, err
	}
	t := aim(rows[0])
	a := &attribution{values: make([]float64, one.n), base: t.value(rows[0], m.kind), row: rows[0]}
	for i, row := range rows[1:] {
		a.values[i] = a.base - t.value(row, m.kind)
		if !c.moves[i] {
			a.values[i] = 0 // the same input; batches may differ in the last bits
			continue
		}
		a.moved++
		if slices.Equal(row, rows[0]) {
			a.dead++
		}
	}
	return a, nil
}

// broken says whether the map holds a value that is not a number.
func (a *attribution) broken() bool {
	for _, v := range a.values {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return true
		}
	}
	return math.IsNaN(a.base)
}

// deletion returns the mean drop of the target while features are hidden in descending order of a map: the area over the
// deletion curve, in units of the target. A faithful map makes it large.
func (m *model) deletion(ctx context.Context, c *occlusion, order []int, t target) (float64, error) {
	curve := c.cumulative(order)
	rows, err := m.rows(ctx, c.sample, variants{n: curve.n + 1, fill: func(i int, dst []byte) {
		if i > 0 {
			curve.fill(i-1, dst)
		}
	}})
	if err != nil {
		return 0, err
	}
	base, sum := t.value(rows[0], m.kind), 0.0
	for _, row := range rows[1:] {
		sum += base - t.value(row, m.kind)
	}
	return sum / float64(curve.n), nil
}

// descending orders features by signed attribution, of equal ones the first.
func descending(a []float64) []int {
	order := make([]int, len(a))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(a[j], a[i]) })
	return order
}

// replaced returns the sample with another tensor for one input.
func replaced(s Sample, input string, t *onnx.Tensor) Sample {
	in := make(map[string]*onnx.Tensor, len(s.Inputs))
	for name, v := range s.Inputs {
		in[name] = v
	}
	in[input] = t
	s.Inputs = in
	return s
}

package explain

import (
	"bytes"
	"context"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
)

// problem is one sample to be explained in one model.
type problem struct {
	model  *model
	view   *view
	target target
	o      Options
	seed   uint64 // of everything random, the same for both models

	runs, moved, dead int // perturbations seen, as in attribution
}

// random returns the generator of the sample's perturbations: the same for both models, another for each sample.
func (p *problem) random() *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(p.view.sample.ID))
	return rand.New(rand.NewPCG(p.seed, h.Sum64()))
}

// evaluate runs the sample itself and n perturbed versions of it, and returns the target of each. fill writes version i into dst,
// which starts as the sample. A version that is the sample again has exactly its value.
func (p *problem) evaluate(ctx context.Context, n int, fill func(i int, dst []byte)) (base float64, values []float64, err error) {
	p.runs += n
	original := p.view.original
	same := make([]bool, n)
	values = make([]float64, n)
	var first []float64
	v := variants{n: n + 1, fill: func(i int, dst []byte) {
		if i > 0 {
			fill(i-1, dst)
			same[i-1] = bytes.Equal(dst, original)
		}
	}}
	err = p.model.each(ctx, p.view.sample, v, func(i int, row []float64) {
		if i == 0 {
			first, base = slices.Clone(row), p.target.value(row, p.model.kind)
			return
		}
		if same[i-1] {
			values[i-1] = base // batches may differ in the last bits
			return
		}
		p.moved++
		if slices.Equal(row, first) {
			p.dead++
		}
		values[i-1] = p.target.value(row, p.model.kind)
	})
	return base, values, err
}

// result makes an attribution of values over the view's features.
func (p *problem) result(base float64, values []float64) *attribution {
	return &attribution{rows: p.view.part.rows, cols: p.view.part.cols, values: values, base: base, runs: p.runs, dead: p.dead, moved: p.moved}
}

// residual is what attributions lack to add up to total, as a share of the larger of |total| and the largest of them.
func residual(values []float64, total float64) *float64 {
	sum, scale := 0.0, math.Abs(total)
	for _, v := range values {
		sum += v
		scale = max(scale, math.Abs(v))
	}
	share := 0.0
	if scale > 0 {
		share = math.Abs(sum-total) / scale
	}
	return &share
}

func notFinite(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) }

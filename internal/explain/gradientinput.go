package explain

import (
	"context"
	"slices"
)

// gradientInput gives each element its slope times itself, the first-order part of f(x) - f(0) (Shrikumar et al., "Not Just a Black
// Box", arXiv:1605.01713). It is the cheapest method and the noisiest.
var gradientInput = Method{
	Name: "gradient-input", Doc: "slope at the sample, times the sample (needs gradients)", Slopes: true, ByInput: true,
	Runs: func(_ *partition, _ int, _ Options) int { return 1 + gradientRuns },
	Attribute: func(ctx context.Context, p *problem) (*attribution, error) {
		return p.smoothed(ctx, 1, 0)
	},
}

// Noise of smoothGrad: samples, and deviation as a share of the sample's range, in which the paper found 10 to 20 % to be good.
const (
	smoothSamples   = 16
	smoothDeviation = 0.1
)

// smoothGrad is gradientInput with the mean slope of noisy copies of the sample (Smilkov et al., "SmoothGrad: removing noise by
// adding noise", arXiv:1706.03825).
var smoothGrad = Method{
	Name: "smooth-grad", Doc: "mean slope of noisy copies of the sample, times the sample (needs gradients)", Random: true, Slopes: true, ByInput: true,
	Runs: func(_ *partition, _ int, o Options) int { return (1 + gradientRuns) * points(o, smoothSamples) },
	Attribute: func(ctx context.Context, p *problem) (*attribution, error) {
		return p.smoothed(ctx, points(p.o, smoothSamples), smoothDeviation)
	},
}

// smoothed takes the mean slope of n copies of the sample with normal noise, of a deviation in shares of the sample's range.
func (p *problem) smoothed(ctx context.Context, n int, deviation float64) (*attribution, error) {
	p, err := p.numeric(ctx)
	if err != nil {
		return nil, err
	}
	x, err := p.real()
	if err != nil {
		return nil, err
	}
	deviation *= slices.Max(x) - slices.Min(x)
	kept, rng := p.kept(len(x)), p.random()
	copies := make([][]byte, n)
	for k := range copies {
		noisy := slices.Clone(x)
		for i := range noisy {
			if deviation > 0 && !kept[i] {
				noisy[i] += deviation * rng.NormFloat64()
			}
		}
		if copies[k], err = p.packed(noisy); err != nil {
			return nil, err
		}
	}
	own, err := p.model.alone().rows(ctx, p.view.sample, variants{n: 1, fill: func(int, []byte) {}})
	if err != nil {
		return nil, err
	}
	elements := make([]float64, len(x))
	err = p.slopes(ctx, copies, func(_ int, _ float64, gradient []float64) {
		for i, g := range gradient {
			elements[i] += g * x[i] / float64(n)
		}
	})
	if err != nil {
		return nil, err
	}
	return p.result(p.target.value(own[0], p.model.kind), p.perFeature(elements)), nil
}

// kept says which of n elements belong to no feature.
func (p *problem) kept(n int) []bool {
	out := slices.Repeat([]bool{true}, n)
	for _, f := range p.view.part.features {
		for _, e := range f {
			out[e] = false
		}
	}
	return out
}

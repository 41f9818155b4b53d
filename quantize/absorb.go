package quantize

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/calibrate"
)

// beyondNoise is by how many dB the float model must be nearer to the original
// than the int8 model is, where a step does not keep it exactly.
const beyondNoise = 30

// absorbBiases moves what a channel never falls below out of its bias and into
// the biases of the layers that read it: c = max(0, μ − 3σ) of the channel before
// its activation (Nagel et al., 2019; there β and γ of the normalization stand for
// μ and σ). It is exact where no element is below c, and only done where no zeros
// are padded around what is read.
func absorbBiases(ctx context.Context, r *recovery, k *stepper) error {
	base := k.start
	m, err := r.float(base)
	if err != nil {
		return err
	}
	all, _, err := r.chains(m, 1)
	if err != nil {
		return err
	}
	var wants []calibrate.Want
	var chains []*chain
	for _, c := range all {
		if c.shifts {
			chains = append(chains, c)
			wants = append(wants, calibrate.Want{Tensor: outputName(c.source), Extremes: true, Channels: true, Axis: 1})
		}
	}
	stats, err := r.measure(ctx, m, wants)
	if err != nil {
		return err
	}
	high := map[string][]float64{}
	p := pieces{build: func(ctx context.Context, layers []string) (*choices, error) {
		return r.absorbed(ctx, base, high, layers)
	}}
	for _, c := range chains {
		if h := floorOf(stats[outputName(c.source)], c.n); h != nil {
			high[outputName(c.source)] = h
			p.layers = append(p.layers, outputName(c.source))
		}
	}
	if len(p.layers) == 0 {
		k.refuse(fmt.Sprintf("no channel is always far above zero in the %d places where it could be moved", len(chains)))
	}
	return k.proposeParts(ctx, p, "")
}

// floorOf returns max(0, μ − 3σ) of each channel; nil where that is 0 for all.
func floorOf(s *calibrate.Stats, n int) []float64 {
	if s == nil || s.Channels == nil || len(s.Channels.Sum) != n || s.Channels.Count == 0 {
		return nil
	}
	out, some := make([]float64, n), false
	for i := range out {
		mean, deviation := moments(s.Channels, i)
		if c := mean - 3*deviation; c > 0 {
			out[i], some = c, true
		}
	}
	if !some {
		return nil
	}
	return out
}

func (r *recovery) absorbed(ctx context.Context, base *choices, high map[string][]float64, layers []string) (*choices, error) {
	m, err := r.float(base)
	if err != nil {
		return nil, err
	}
	chains, _, err := r.chains(m, 1)
	if err != nil {
		return nil, err
	}
	var edits []edit
	var touched []string
	for _, c := range chains {
		name := outputName(c.source)
		if !slices.Contains(layers, name) {
			continue
		}
		e, err := c.absorb(high[name])
		if err != nil {
			return nil, err
		}
		if err := apply(m, e); err != nil {
			return nil, err
		}
		edits, touched = append(edits, e...), append(touched, c.touched...)
	}
	if err := r.sameFunction(ctx, m, math.Min(r.score.SQNR+beyondNoise, sameFloat)); err != nil {
		return nil, err
	}
	slices.Sort(touched)
	return r.remeasured(ctx, base.with(func(c *choices) { c.edits = append(c.edits, edits...) }), slices.Compact(touched))
}

// absorb returns the edits that take h from the bias of the source and give the
// readers what that lacks.
func (c *chain) absorb(h []float64) ([]edit, error) {
	less := make([]float64, len(h))
	for i, x := range h {
		less[i] = -x
	}
	first, _ := c.linear.addBias(less)
	out := []edit{first}
	for _, k := range c.sinks {
		x := make([]float64, k.l.in)
		copy(x[k.from:], h)
		more, err := k.l.product(x)
		if err != nil {
			return nil, err
		}
		e, ok := k.l.addBias(more)
		if !ok {
			return nil, &notTried{fmt.Sprintf("%v has no bias", k.l.node)}
		}
		out = append(out, e)
	}
	return out, nil
}

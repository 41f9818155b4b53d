package quantize

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/calibrate"
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// sweeps is how often the ranges of weights are balanced along the chains, where
// one Conv ends a chain and begins the next.
const sweeps = 3

// sameFloat is the least SQNR at which a float model counts as the same function:
// what is left is the rounding of float32.
const sameFloat = 80

// equalizeLayers moves factors of channels between consecutive convolutions
// (Nagel et al., Data-Free Quantization, 2019): by the ranges of the weights on
// both sides, s = √(r1/r2), as AIMET does, and by the range of the activation
// between them and of the weights that read it, since weights with a scale for
// each channel need no balance among themselves.
func equalizeLayers(ctx context.Context, r *recovery, k *stepper) error {
	if err := r.moveFactors(ctx, k, 1, 0, "by the ranges of the weights"); err != nil {
		return err
	}
	return r.moveFactors(ctx, k, 1, 0.5, "by the ranges of the activations")
}

// smoothActivations is SmoothQuant (Xiao et al., 2023): s = max|X|^α/max|W|^(1−α)
// for each channel of an activation that only products read, behind a
// normalization, a product or a multiplication with constants.
func smoothActivations(ctx context.Context, r *recovery, k *stepper) error {
	for _, alpha := range []float64{0.5, 0.3, 0.4, 0.6, 0.7} {
		if err := r.moveFactors(ctx, k, -1, alpha, fmt.Sprintf("α %.2f", alpha)); err != nil {
			return err
		}
	}
	return nil
}

// moveFactors proposes factors for all chains on an axis, on top of what there
// was when the step began; alpha 0 asks for those of the weights.
func (r *recovery) moveFactors(ctx context.Context, k *stepper, axis int, alpha float64, note string) error {
	base := k.start
	m, err := r.float(base)
	if err != nil {
		return err
	}
	chains, refused, err := r.chains(m, axis)
	if err != nil {
		return err
	}
	if len(chains) == 0 {
		for _, name := range sortedKeys(refused) {
			k.refuse(fmt.Sprintf("no chain begins anywhere; at %q: %s", name, refused[name]))
			break
		}
		return nil
	}
	var peaks map[string]*calibrate.Stats
	if alpha > 0 {
		if peaks, err = r.channels(ctx, k, m, chains); err != nil {
			return err
		}
	}
	p := pieces{build: func(ctx context.Context, layers []string) (*choices, error) {
		return r.factored(ctx, base, axis, alpha, peaks, layers)
	}}
	for _, c := range chains {
		p.layers = append(p.layers, outputName(c.source))
	}
	return k.proposeParts(ctx, p, note)
}

// chains returns the chains of m and why others are none.
func (r *recovery) chains(m *onnx.Model, axis int) ([]*chain, map[string]string, error) {
	facts, err := r.facts(m)
	if err != nil {
		return nil, nil, err
	}
	var list []*chain
	refused := map[string]string{}
	for _, g := range m.Graphs() {
		if calibrate.Measurable(g) && !calibrate.Repeats(g) {
			some, why := chainsOf(g, facts, axis)
			list = append(list, some...)
			maps.Copy(refused, why)
		}
	}
	return list, refused, nil
}

// channels measures what the sinks of chains read, by channel; once for a step.
func (r *recovery) channels(ctx context.Context, k *stepper, m *onnx.Model, chains []*chain) (map[string]*calibrate.Stats, error) {
	if k.channels != nil {
		return k.channels, nil
	}
	var wants []calibrate.Want
	seen := map[string]bool{}
	for _, c := range chains {
		for _, name := range c.tensors {
			if !seen[name] {
				seen[name] = true
				wants = append(wants, calibrate.Want{Tensor: name, Extremes: true, Channels: true, Axis: c.axis})
			}
		}
	}
	var err error
	k.channels, err = r.measure(ctx, m, wants)
	return k.channels, err
}

// factored returns base with factors moved along the chains of some layers. It
// fails with an notTried where the float model does not stay the same.
func (r *recovery) factored(ctx context.Context, base *choices, axis int, alpha float64, peaks map[string]*calibrate.Stats, layers []string) (*choices, error) {
	m, err := r.float(base)
	if err != nil {
		return nil, err
	}
	chains, _, err := r.chains(m, axis)
	if err != nil {
		return nil, err
	}
	var edits []edit
	var touched []string
	times := 1
	if alpha == 0 {
		times = sweeps
	}
	for range times {
		for _, c := range chains {
			if !slices.Contains(layers, outputName(c.source)) {
				continue
			}
			s, err := c.between(alpha, peaks)
			if err != nil {
				return nil, err
			}
			e := c.edits(s)
			if err := apply(m, e); err != nil {
				return nil, err
			}
			edits, touched = append(edits, e...), append(touched, c.touched...)
		}
	}
	if err := r.sameFunction(ctx, m, sameFloat); err != nil {
		return nil, err
	}
	slices.Sort(touched)
	return r.remeasured(ctx, base.with(func(c *choices) { c.edits = append(c.edits, edits...) }), slices.Compact(touched))
}

// between returns the factors of a chain.
func (c *chain) between(alpha float64, peaks map[string]*calibrate.Stats) ([]float64, error) {
	read, err := c.readPeaks()
	if err != nil {
		return nil, err
	}
	if alpha > 0 {
		return balance(c.peaks(peaks), read, alpha), nil
	}
	made, _, err := c.linear.peaks()
	if err != nil {
		return nil, err
	}
	a := make([]float64, len(made))
	for i, x := range made {
		a[i] = float64(x)
	}
	return balance(a, read, 0.5), nil
}

// peaks returns the largest magnitude of each channel in what the sinks read.
func (c *chain) peaks(stats map[string]*calibrate.Stats) []float64 {
	out := make([]float64, c.n)
	for _, k := range c.sinks {
		s := stats[k.l.node.Input(0).Name()]
		if s == nil || s.Channels == nil || len(s.Channels.Peak) < k.from+c.n {
			continue
		}
		for i := range out {
			out[i] = math.Max(out[i], float64(s.Channels.Peak[k.from+i]))
		}
	}
	return out
}

// sameFunction fails with an notTried where the float model m is not the original
// to so many dB on held-out data.
func (r *recovery) sameFunction(ctx context.Context, m *onnx.Model, least float64) error {
	s, err := r.held.Score(ctx, m)
	if err != nil {
		return err
	}
	if s.SQNR < least {
		return &notTried{fmt.Sprintf("the float model would change: %.0f dB instead of %.0f", s.SQNR, least)}
	}
	return nil
}

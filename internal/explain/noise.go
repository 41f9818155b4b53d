package explain

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/measure"
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// drawn is a map of the baseline that the noise floor starts from.
type drawn struct {
	sample Sample
	target target
	own    *attribution
}

// calibration is what a change of no consequence leaves of the similarity, sample by sample.
type calibration struct {
	how                   string
	spearman, topkJaccard []float64
}

// otherSeed makes independent perturbations of the same samples.
const otherSeed = 0x9e3779b97f4a7c15

// noise compares the baseline with itself: with the same perturbations, which must give the same maps; for a method that draws
// them, with others, which tells what the method itself cannot tell apart; and after a change of no consequence, from which limits
// are calibrated.
func (c *comparison) noise(ctx context.Context) error {
	rng := rand.New(rand.NewPCG(c.o.Seed, 0x6a697474))
	harmless := c.harmless(ctx)
	for _, d := range c.drawn {
		again, err := c.explain(ctx, c.models[0], d.sample, d.target, c.o.Seed)
		if err != nil {
			return err
		}
		if !again.broken() {
			c.self = append(c.self, similarity(d.own.values, again.values))
		}
		if c.o.Method.Random {
			other, err := c.explain(ctx, c.models[0], d.sample, d.target, c.o.Seed^otherSeed)
			if err != nil {
				return err
			}
			if !other.broken() {
				c.floor = append(c.floor, similarity(d.own.values, other.values))
			}
		}
		if harmless == nil {
			continue
		}
		changed, err := harmless(ctx, d, rng)
		if err != nil {
			return err
		}
		if !changed.broken() {
			k := topOf(c.o.Top, len(d.own.values))
			c.calibrated.spearman = append(c.calibrated.spearman, similarity(d.own.values, changed.values))
			c.calibrated.topkJaccard = append(c.calibrated.topkJaccard, TopJaccard(d.own.values, changed.values, k))
		}
	}
	if !c.o.Method.Random {
		c.floor = c.calibrated.spearman
	}
	return nil
}

// harmless returns how a sample's map is drawn after a change of no consequence: of the input, by less than a quantization step of
// the data, where it can be moved; else of the model, where there is a copy; else nil.
func (c *comparison) harmless(ctx context.Context) func(context.Context, drawn, *rand.Rand) (*attribution, error) {
	m := c.models[0]
	if len(c.drawn) == 0 {
		return nil
	}
	if d := c.drawn[0].sample.Inputs[m.input].DType; c.background.movable() && d != onnx.Bool {
		c.calibrated.how = fmt.Sprintf("the baseline with itself, on inputs moved by up to %.2g of their range", c.o.Jitter)
		return func(ctx context.Context, d drawn, rng *rand.Rand) (*attribution, error) {
			moved, err := c.background.jittered(d.sample.Inputs[m.input], c.o, rng)
			if err != nil {
				return nil, fmt.Errorf("sample %q: %v", d.sample.ID, err)
			}
			return c.explain(ctx, m, replaced(d.sample, m.input, moved), d.target, c.o.Seed)
		}
	}
	if c.o.Reference == nil || c.o.Method.Splits || c.o.Method.Slopes && m.embedding == nil {
		return nil
	}
	r := *m
	r.name, r.session = "baseline's copy", c.o.Reference.Session
	if m.embedding != nil && (c.o.Reference.Embed == nil || r.provide(ctx, *c.o.Reference, c.drawn[0].sample, c.o.Method) != nil) {
		return nil // without it nothing is calibrated, which the result shows
	}
	c.calibrated.how = "the baseline with a copy of it whose weights are rounded to float16"
	return func(ctx context.Context, d drawn, _ *rand.Rand) (*attribution, error) {
		return c.explain(ctx, &r, d.sample, d.target, c.o.Seed)
	}
}

// Calibrated are limits that a change of no consequence just meets: the lower ends of the intervals of the medians.
type Calibrated struct {
	How                   string
	Samples               int
	Spearman, TopKJaccard float64
}

// limits returns the calibrated limits, nil below 4 samples.
func (c *calibration) limits(o Options) *Calibrated {
	if len(c.spearman) < 4 {
		return nil
	}
	out := &Calibrated{How: c.how, Samples: len(c.spearman)}
	for _, e := range []struct {
		into *float64
		of   []float64
	}{{&out.Spearman, c.spearman}, {&out.TopKJaccard, c.topkJaccard}} {
		i, err := measure.Bootstrap(e.of, measure.Median, measure.BootstrapOptions{Seed: o.Seed, Resamples: o.Resamples, Confidence: o.Confidence})
		if err != nil {
			return nil
		}
		*e.into = i.Low
	}
	return out
}

// similarity is the rank correlation; of constant maps, 1 if they are equal and else 0.
func similarity(a, b []float64) float64 {
	rho, ok := Spearman(a, b)
	if !ok && slices.Equal(a, b) {
		return 1
	}
	return rho
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

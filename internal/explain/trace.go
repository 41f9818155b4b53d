package explain

import (
	"context"
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/measure"
)

// curves are those of one sample: each map on its own model, and the baseline's map on the candidate.
type curves struct {
	deletion, insertion [2]curve
	cross               curve // deletion
}

// trace runs the curves of an agreeing sample.
func (c *comparison) trace(ctx context.Context, s Sample, a, b *attribution, t target) error {
	if c.o.SkipCurves {
		return nil
	}
	var x curves
	orders := [2][]int{descending(a.values), descending(b.values)}
	on := func(k int) (*problem, error) {
		p, err := c.problem(c.models[k], s, t, c.o.Seed)
		if err == nil {
			p.view, err = p.view.on(a.rows, a.cols)
		}
		return p, err
	}
	for k := range c.models {
		p, err := on(k)
		if err != nil {
			return err
		}
		if x.deletion[k], err = p.deletion(ctx, orders[k]); err != nil {
			return err
		}
		if x.insertion[k], err = p.insertion(ctx, orders[k]); err != nil {
			return err
		}
	}
	x.cross = x.deletion[1]
	if !slices.Equal(orders[0], orders[1]) {
		p, err := on(1)
		if err != nil {
			return err
		}
		if x.cross, err = p.deletion(ctx, orders[0]); err != nil {
			return err
		}
	}
	if x.broken() {
		c.broken = append(c.broken, s.ID)
		return nil
	}
	c.curves = append(c.curves, x)
	return nil
}

func (x *curves) broken() bool {
	for _, c := range []curve{x.deletion[0], x.deletion[1], x.insertion[0], x.insertion[1], x.cross} {
		if notFinite(c.area) || notFinite(c.total) {
			return true
		}
	}
	return false
}

// Faithfulness is how well each model's own map tells what that model depends on: the areas of the curves of all samples, as a share of
// the changes from end to end. An order that knows nothing gives about 0.5. A share is NaN where the changes add up to nothing
// that is positive.
type Faithfulness struct {
	Own      [2]float64        // of each model
	Delta    float64           // candidate less baseline
	Interval *measure.Interval // of Delta; nil below 2 samples, or where a resample has no share
}

// faithfulness sums up one kind of curve.
func faithfulness(all []curves, pick func(*curves, int) curve, o Options) *Faithfulness {
	if len(all) == 0 {
		return nil
	}
	of := func(sample []int, k int) float64 {
		area, total := 0.0, 0.0
		for _, i := range sample {
			c := pick(&all[i], k)
			area, total = area+c.area, total+c.total
		}
		return share(area, total)
	}
	everyone := indices(len(all))
	f := &Faithfulness{Own: [2]float64{of(everyone, 0), of(everyone, 1)}}
	f.Delta = f.Own[1] - f.Own[0]
	f.Interval = resampled(len(all), func(sample []int) float64 { return of(sample, 1) - of(sample, 0) }, o)
	return f
}

// crossFaithfulness is the area of the baseline's order on the candidate over that of the candidate's own; nil where the latter is
// not positive.
func crossFaithfulness(all []curves, o Options) (*float64, *measure.Interval) {
	of := func(sample []int) float64 {
		cross, own := 0.0, 0.0
		for _, i := range sample {
			cross, own = cross+all[i].cross.area, own+all[i].deletion[1].area
		}
		return share(cross, own)
	}
	if v := of(indices(len(all))); !math.IsNaN(v) {
		return &v, resampled(len(all), of, o)
	}
	return nil, nil
}

func share(a, b float64) float64 {
	if b <= 0 {
		return math.NaN()
	}
	return a / b
}

func indices(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// resampled returns the bootstrap interval of a statistic of samples that are given by number.
func resampled(n int, of func(sample []int) float64, o Options) *measure.Interval {
	x := make([]float64, n)
	for i := range x {
		x[i] = float64(i)
	}
	sample := make([]int, 0, n)
	i, err := measure.Bootstrap(x, func(v []float64) float64 {
		sample = sample[:0]
		for _, f := range v {
			sample = append(sample, int(f))
		}
		return of(sample)
	}, measure.BootstrapOptions{Seed: o.Seed, Resamples: o.Resamples, Confidence: o.Confidence})
	if err != nil {
		return nil // too few samples, or a resample without a share
	}
	return &i
}

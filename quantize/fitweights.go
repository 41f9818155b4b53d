package quantize

import (
	"context"
	"fmt"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/calibrate"
)

// candidates of a weight's scale are so many steps of a fortieth down from the peak.
const scaleCandidates = 20

// fitWeights chooses the scales of weights: for each output channel that one of 20
// between about half the peak and the peak with the least Σ E[x²]·(w − ŵ)², the
// squared error of the output with the correlation between inputs left out
// (SeqMSE of AIMET, by second moments of the inputs instead of runs).
func fitWeights(ctx context.Context, r *recovery, k *stepper) error {
	base := k.start
	if r.s.o.Weights == "uint8" && r.s.o.PerTensor {
		k.refuse("weights that are not coded symmetrically have no peak to shrink")
		return nil
	}
	m, err := r.float(base)
	if err != nil {
		return err
	}
	list := linears(m)
	stats, err := r.measure(ctx, m, inputWants(list))
	if err != nil {
		return err
	}
	fitted := map[string][]float32{}
	p := pieces{}
	for _, l := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		moments := squaresOf(stats[l.node.Input(0).Name()], l.in)
		if moments == nil {
			continue
		}
		scales, changed, err := l.fit(r.s.o, moments)
		if err != nil {
			return err
		}
		if name := outputName(l.node); changed {
			fitted[name] = scales
			p.layers = append(p.layers, name)
		}
	}
	p.build = func(_ context.Context, layers []string) (*choices, error) {
		return base.with(func(c *choices) {
			c.scales = map[string][]float32{}
			for _, name := range layers {
				c.scales[name] = fitted[name]
			}
		}), nil
	}
	if len(p.layers) == 0 {
		k.refuse(fmt.Sprintf("the peaks are the best scales of all %d weights", len(list)))
	}
	return k.proposeParts(ctx, p, "")
}

// inputWants asks for the channels of what linear operators read.
func inputWants(list []*linear) []calibrate.Want {
	var wants []calibrate.Want
	for _, l := range list {
		wants = addWant(wants, l.node.Input(0).Name(), l.axis)
	}
	return wants
}

func addWant(wants []calibrate.Want, name string, axis int) []calibrate.Want {
	if slices.ContainsFunc(wants, func(w calibrate.Want) bool { return w.Tensor == name }) {
		return wants
	}
	return append(wants, calibrate.Want{Tensor: name, Extremes: true, Channels: true, Axis: axis})
}

// squaresOf returns the mean squares of n channels, nil where they are not known.
func squaresOf(s *calibrate.Stats, n int) []float64 {
	if s == nil || s.Channels == nil || len(s.Channels.Squares) != n || s.Channels.Count == 0 {
		return nil
	}
	out := make([]float64, n)
	for i, x := range s.Channels.Squares {
		out[i] = x / float64(s.Channels.Count)
	}
	return out
}

// fit returns the scales for the weights of l with the least weighted error, and
// whether any is not that of the peak.
func (l *linear) fit(o *Options, moments []float64) (scales []float32, changed bool, err error) {
	t := l.node.Input(1).Constant()
	axis := weightAxis(l.node, t, o.PerTensor)
	m, codes := channelsOf(t, axis), o.weightCodes(axis >= 0, false)
	if !codes.symmetric {
		return nil, false, nil
	}
	peak, _, _, err := m.magnitudes()
	if err != nil {
		return nil, false, err
	}
	s := weightSteps{t: codes, zero: codes.middle()}
	tries := make([][scaleCandidates]float32, len(peak))
	errs := make([][scaleCandidates]float64, len(peak))
	for c, a := range peak {
		for j := range tries[c] {
			b := a * float32(1-float64(j)/(2*scaleCandidates))
			tries[c][j], _ = codes.params(-b, b)
		}
	}
	err = l.each(func(k, _, i int, w float32) {
		c := m.channel(k)
		for j, scale := range tries[c] {
			d := float64(w) - s.decoded(w, scale)
			errs[c][j] += moments[i] * d * d
		}
	})
	scales = make([]float32, len(peak))
	for c := range scales {
		best := 0
		for j := range errs[c] {
			if errs[c][j] < errs[c][best] {
				best = j
			}
		}
		scales[c], changed = tries[c][best], changed || best > 0
	}
	return scales, changed, err
}

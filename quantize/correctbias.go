package quantize

import (
	"context"
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/calibrate"
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// mostShift is the largest correction, in units of the bias or of the channel's
// standard deviation, whichever is larger: beyond, the correction follows from
// something else than rounding (NNCF's threshold, which divides by the bias alone
// and so gives up where that is zero).
const mostShift = 2

// correctBiases takes the mean error that the rounding of weights makes in each
// output channel, Σ (w − ŵ)·E[x], out of the bias (Nagel et al., 2019; NNCF's fast
// bias correction), then what error is left of the means when both models run.
func correctBiases(ctx context.Context, r *recovery, k *stepper) error {
	m, err := r.float(k.start)
	if err != nil {
		return err
	}
	b := &biasStep{r: r, list: linears(m)}
	wants := inputWants(b.list)
	for _, l := range b.list {
		wants = addWant(wants, outputName(l.node), l.axis)
	}
	if b.stats, err = r.measure(ctx, m, wants); err != nil {
		return err
	}
	shifts, err := b.byWeights(k.start)
	if err != nil {
		return err
	}
	if err := b.propose(ctx, k, k.start, shifts, "from the weights' rounding"); err != nil {
		return err
	}
	for range 2 {
		from := r.now
		if shifts, err = b.byRunning(ctx, from); err != nil {
			return err
		}
		if err := b.propose(ctx, k, from, shifts, "from the means in both models"); err != nil {
			return err
		}
		if r.now == from {
			break
		}
	}
	return nil
}

type biasStep struct {
	r     *recovery
	list  []*linear
	stats map[string]*calibrate.Stats // of the float model
}

// propose proposes shifts by layer on top of base, those within bounds.
func (b *biasStep) propose(ctx context.Context, k *stepper, base *choices, shifts map[string][]float64, note string) error {
	edits := map[string]edit{}
	var p pieces
	for _, l := range b.list {
		name := outputName(l.node)
		if shifts[name] == nil || !b.within(l, shifts[name]) {
			continue
		}
		if e, ok := l.addBias(shifts[name]); ok {
			edits[name] = e
			p.layers = append(p.layers, name)
		}
	}
	p.build = func(_ context.Context, layers []string) (*choices, error) {
		return base.with(func(c *choices) {
			for _, name := range layers {
				c.shifts = append(c.shifts, edits[name])
			}
		}), nil
	}
	return k.proposeParts(ctx, p, note)
}

// within reports whether all shifts of l are small enough.
func (b *biasStep) within(l *linear, shift []float64) bool {
	s := b.stats[outputName(l.node)]
	bias, err := l.biases()
	if err != nil || s == nil || s.Channels == nil || len(s.Channels.Sum) != len(shift) {
		return false
	}
	for i, d := range shift {
		_, deviation := moments(s.Channels, i)
		if !(math.Abs(d) <= mostShift*math.Max(math.Abs(float64(bias[i])), deviation)) {
			return false
		}
	}
	return true
}

// byWeights returns Σ (w − ŵ)·E[x] for each layer.
func (b *biasStep) byWeights(c *choices) (map[string][]float64, error) {
	out := map[string][]float64{}
	for _, l := range b.list {
		means := meansOf(b.stats[l.node.Input(0).Name()], l.in)
		if means == nil {
			continue
		}
		name := outputName(l.node)
		d, err := l.rounding(b.r.s.o, c.scales[name], c.codes[name], means)
		if err != nil {
			return nil, err
		}
		out[name] = d
	}
	return out, nil
}

// rounding returns Σ (w − ŵ)·x for each output channel; the codes are the nearest
// unless others are given.
func (l *linear) rounding(o *Options, fitted []float32, codes *roundedCodes, x []float64) ([]float64, error) {
	t := l.node.Input(1).Constant()
	axis := weightAxis(l.node, t, o.PerTensor)
	m := channelsOf(t, axis)
	s, err := o.weightCodes(axis >= 0, false).steps(m)
	if err != nil {
		return nil, err
	}
	if fitted != nil {
		s.scales = fitted
	}
	d := make([]float64, l.out)
	err = l.each(func(k, out, in int, w float32) {
		scale := s.scales[m.channel(k)]
		value := s.decoded(w, scale)
		if codes.fits(s) {
			value = codes.at(k) * float64(scale)
		}
		d[out] += (float64(w) - value) * x[in]
	})
	return d, err
}

// byRunning returns, for each layer, the means of its output channels in the
// float model less those in the int8 model, both on the runs to fit on.
func (b *biasStep) byRunning(ctx context.Context, c *choices) (map[string][]float64, error) {
	m, _, err := b.r.quantized(ctx, c)
	if err != nil {
		return nil, err
	}
	computes := map[string]*onnx.Node{}
	for n := range measurable(m) {
		computes[outputName(n)] = n
	}
	var wants []calibrate.Want
	for _, l := range b.list {
		if n := computes[outputName(l.node)]; n != nil && n.Op == l.node.Op {
			wants = addWant(wants, outputName(l.node), l.axis)
		}
	}
	stats, err := b.r.measure(ctx, m, wants)
	if err != nil {
		return nil, err
	}
	out := map[string][]float64{}
	for _, l := range b.list {
		name := outputName(l.node)
		want, got := meansOf(b.stats[name], l.out), meansOf(stats[name], l.out)
		if want == nil || got == nil {
			continue
		}
		for i := range want {
			want[i] -= got[i]
		}
		out[name] = want
	}
	return out, nil
}

// meansOf returns the means of n channels, nil where they are not known.
func meansOf(s *calibrate.Stats, n int) []float64 {
	if s == nil || s.Channels == nil || len(s.Channels.Sum) != n || s.Channels.Count == 0 {
		return nil
	}
	out := make([]float64, n)
	for i, x := range s.Channels.Sum {
		out[i] = x / float64(s.Channels.Count)
	}
	return out
}

// moments returns the mean and the standard deviation of a channel.
func moments(c *calibrate.Channels, i int) (mean, deviation float64) {
	n := float64(c.Count)
	mean = c.Sum[i] / n
	return mean, math.Sqrt(math.Max(c.Squares[i]/n-mean*mean, 0))
}

// sortedKeys returns the keys of m in order.
func sortedKeys[V any](m map[string]V) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

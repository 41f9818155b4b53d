package quantize

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"

	"gonum.org/v1/gonum/blas/blas64"

	"github.com/lapidary-ml/lapidary/internal/calibrate"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/parallel"
	"github.com/lapidary-ml/lapidary/internal/trial"
)

// widestRounded is the most weights of an output channel whose rounding is looked
// for: the work grows with the square.
const widestRounded = 2304

// roundingDamp is the share of the mean of the diagonal that is added to it, as in GPTQ.
const roundingDamp = 0.01

// mostSweeps bounds how often the weights of a channel are gone through.
const mostSweeps = 16

// roundedCodes are codes of the weights of a layer, some of them not the nearest, and
// the steps that they are for.
type roundedCodes struct {
	steps weightSteps
	codes []byte // in the order of the weights
}

// fits reports whether the codes are for these steps.
func (r *roundedCodes) fits(s weightSteps) bool {
	return r != nil && r.steps.t == s.t && r.steps.zero == s.zero && slices.Equal(r.steps.scales, s.scales)
}

// at is code k less the zero point.
func (r *roundedCodes) at(k int) float64 {
	if r.steps.t.dtype == onnx.Int8 {
		return float64(int(int8(r.codes[k])) - r.steps.zero)
	}
	return float64(int(r.codes[k]) - r.steps.zero)
}

// roundWeights decides for each weight whether it becomes the code below or the
// one above, so that the squared error of the layer's output, eᵀ·H·e with e the
// error of the weights and H the mean product of what they multiply, becomes least
// (the local quadratic of AdaRound: Nagel et al., Up or Down?, 2020, equation 8).
// Instead of relaxing the choice and training, one weight after the other is
// turned over where that lowers the error, which never rises, until none does.
func roundWeights(ctx context.Context, r *recovery, k *stepper) error {
	s := &roundingStep{r: r, base: k.start, found: map[string]*roundedCodes{}}
	if err := s.list(ctx); err != nil {
		return err
	}
	for len(s.layers) > 0 {
		if err := s.some(ctx); err != nil {
			return err
		}
	}
	p := pieces{layers: s.better, build: func(_ context.Context, layers []string) (*choices, error) {
		return s.base.with(func(c *choices) {
			c.codes = map[string]*roundedCodes{}
			for _, name := range layers {
				c.codes[name] = s.found[name]
			}
		}), nil
	}}
	note := ""
	if s.before > 0 && len(s.better) > 0 {
		note = fmt.Sprintf("errors of the layers by themselves %.1f dB less", trial.Decibels(s.after/float64(len(s.better))))
	}
	return k.proposeParts(ctx, p, note)
}

// roundingStep looks for the codes of one model.
type roundingStep struct {
	r      *recovery
	base   *choices
	m      *onnx.Model // in float32
	layers []*linear   // that are left to look at
	found  map[string]*roundedCodes
	better []string // layers whose error falls on rows that nothing was fitted to

	before, after float64 // number of these, and sum of the shares of the error that are left
}

// list finds the layers that are quantized, can be measured, and share their weights
// with no other.
func (s *roundingStep) list(ctx context.Context) error {
	_, out, err := s.r.quantized(ctx, s.base)
	if err != nil {
		return err
	}
	quantized := map[string]bool{}
	for _, l := range out.layers {
		quantized[l.Output] = l.Weight != nil
	}
	if s.m, err = s.r.float(s.base); err != nil {
		return err
	}
	for _, l := range linears(s.m) {
		name := outputName(l.node)
		if quantized[name] && l.width() <= widestRounded && len(l.node.Input(1).Uses()) == 1 && !calibrate.Repeats(l.node.Graph()) && !s.base.narrow[name] {
			s.layers = append(s.layers, l)
		}
	}
	return nil
}

// width is the number of weights of an output channel.
func (l *linear) width() int {
	count, _ := l.node.Input(1).Constant().Elements()
	return int(count) / max(l.out, 1)
}

// want asks for the products of what l's weights multiply.
func (s *roundingStep) want(l *linear) calibrate.Want {
	o := s.r.s.o
	runs := max(o.Calibration.Len()/int64(max(o.Batch, 1))*(heldEvery-1)/heldEvery, 1)
	rows := min(max(4*int64(l.width()), 1024), 8192)
	w := calibrate.Want{Tensor: l.node.Input(0).Name(), Extremes: true, MaybeEmpty: true, Gram: true}
	if runs >= holdRuns {
		w.HoldEvery = 5
	}
	if n := l.node; n.Is("Conv") {
		w.Patches = &calibrate.Patches{Kernel: n.Input(1).Constant().Shape[2:], Strides: n.Ints("strides", nil), Dilations: n.Ints("dilations", nil),
			Pads: n.Ints("pads", nil), AutoPad: n.Str("auto_pad", ""), Groups: int(n.Int("group", 1)), Most: int(max((rows+runs-1)/runs, 16))}
		w.Key = fmt.Sprintf("%s %+v", w.Tensor, *w.Patches)
	}
	return w
}

// groups is how many parts the rows have that the layer multiplies.
func (l *linear) groups() int {
	if l.node.Is("Conv") {
		return int(l.node.Int("group", 1))
	}
	return 1
}

// some measures what as many of the layers read as fits in memory, once for those
// that read the same, and rounds their weights.
func (s *roundingStep) some(ctx context.Context) error {
	limit, sum := int64(mostGram), int64(0)
	if m := s.r.s.o.MaxMemory; m > 0 {
		limit = min(limit, m)
	}
	keys := map[string]bool{}
	var list []calibrate.Want
	n := 0
	for _, l := range s.layers {
		w := s.want(l)
		if size := 16 * int64(l.width()) * int64(l.width()) * int64(l.groups()); !keys[keyOf(w)] {
			if n > 0 && sum+size > limit {
				break
			}
			keys[keyOf(w)] = true
			list, sum = append(list, w), sum+size
		}
		n++
	}
	stats, err := s.r.measure(ctx, s.m, list)
	if err != nil {
		return err
	}
	for _, l := range s.layers[:n] {
		if err := ctx.Err(); err != nil {
			return err
		}
		if x := stats[keyOf(s.want(l))]; x != nil && x.Invalid == 0 {
			if err := s.layer(l, x.Gram); err != nil {
				return err
			}
		}
	}
	s.layers = s.layers[n:]
	return nil
}

func keyOf(w calibrate.Want) string { return cmp.Or(w.Key, w.Tensor) }

// layer rounds the weights of l, and keeps the codes if the error of its output is
// less on rows that are held out.
func (s *roundingStep) layer(l *linear, d *calibrate.Gram) error {
	if d == nil || d.Blocks != l.groups() || d.K != l.width() || d.Fit.Rows == 0 || d.Held.Rows == 0 {
		return nil
	}
	name := outputName(l.node)
	t := l.node.Input(1).Constant()
	axis := weightAxis(l.node, t, s.r.s.o.PerTensor)
	m := channelsOf(t, axis)
	steps, err := s.r.s.o.weightCodes(axis >= 0, false).steps(m)
	if err != nil {
		return err
	}
	if fitted := s.base.scales[name]; len(fitted) == len(steps.scales) {
		steps.scales = fitted
	}
	w, err := t.Floats()
	if err != nil {
		return err
	}
	out := &roundedCodes{steps: steps, codes: make([]byte, len(w))}
	fit, held := make([]quadratic, d.Blocks), make([]quadratic, d.Blocks)
	for i := range fit {
		fit[i], held[i] = newQuadratic(d.K, i, &d.Fit, roundingDamp), newQuadratic(d.K, i, &d.Held, 0)
	}
	before, after, columns := make([]float64, l.out), make([]float64, l.out), l.columns()
	l.eachChannel(func(o, start int) {
		g := o / (l.out / d.Blocks)
		c := &channelCodes{w: make([]float64, d.K), q: make([]float64, d.K), lo: float64(steps.t.min - steps.zero), hi: float64(steps.t.max - steps.zero)}
		for i, at := range columns {
			c.w[i] = float64(w[start+at])
		}
		c.scale = steps.scales[m.channel(start)]
		c.nearest()
		before[o] = held[g].of(c.errors())
		c.descend(fit[g])
		after[o] = held[g].of(c.errors())
		for i, q := range c.q {
			out.codes[start+columns[i]] = byte(int(q) + steps.zero)
		}
	})
	a, b := sumOf(after), sumOf(before)
	if a < b {
		s.found[name], s.better = out, append(s.better, name)
		s.before, s.after = s.before+1, s.after+a/b
	}
	return nil
}

func sumOf(list []float64) (sum float64) {
	for _, x := range list {
		sum += x
	}
	return sum
}

// columns returns where the weights of an output channel are, from its first one,
// in the order of the rows that they multiply: those of a Conv go through the
// channels at one tap of the kernel, then at the next.
func (l *linear) columns() []int {
	out := make([]int, l.width())
	taps, step := 1, 1
	switch {
	case l.node.Is("Conv"):
		taps = channelsOf(l.node.Input(1).Constant(), 1).inner
	case !l.along():
		step = l.out
	}
	per := len(out) / taps
	for i := range out {
		out[i] = (i%per*taps + i/per) * step
	}
	return out
}

// along reports whether the weights of an output channel are neighbours.
func (l *linear) along() bool {
	return l.node.Is("Conv") || l.node.Is("Gemm") && l.node.Int("transB", 0) == 1
}

// eachChannel calls f, on all processors, for each output channel with where its
// first weight is.
func (l *linear) eachChannel(f func(o, start int)) {
	k := 1
	if l.along() {
		k = l.width()
	}
	var wg parallel.Group
	workers := min(runtime.GOMAXPROCS(0), l.out)
	for i := range workers {
		wg.Go(func() {
			for o := i; o < l.out; o += workers {
				f(o, o*k)
			}
		})
	}
	wg.Wait()
}

// quadratic is the mean square of a layer's output as a form of its weights.
type quadratic struct {
	k int
	h []float64 // [k, k], symmetric
}

// newQuadratic makes the form of the sums of one part of the rows, with a share of the
// mean of the diagonal added to it: what the data says nothing about stays at the
// nearest codes.
func newQuadratic(k, part int, m *calibrate.Moments, damp float64) quadratic {
	q := quadratic{k, make([]float64, k*k)}
	rows, sum := float64(m.Rows), m.Sum[part*k*k:]
	mean := 0.
	for i := range k {
		for j := i; j < k; j++ {
			x := sum[i*k+j] / rows
			q.h[i*k+j], q.h[j*k+i] = x, x
		}
		mean += q.h[i*k+i] / float64(k)
	}
	for i := range k {
		q.h[i*k+i] += damp * mean
	}
	return q
}

func (q quadratic) row(i int) []float64 { return q.h[i*q.k : (i+1)*q.k] }

// times returns H·e.
func (q quadratic) times(e []float64) []float64 {
	out := make([]float64, q.k)
	x := blas64.Vector{N: q.k, Inc: 1, Data: e}
	for i := range out {
		out[i] = blas64.Dot(blas64.Vector{N: q.k, Inc: 1, Data: q.row(i)}, x)
	}
	return out
}

// of returns eᵀ·H·e.
func (q quadratic) of(e []float64) float64 {
	return blas64.Dot(blas64.Vector{N: q.k, Inc: 1, Data: e}, blas64.Vector{N: q.k, Inc: 1, Data: q.times(e)})
}

// channelCodes are the codes of one output channel.
type channelCodes struct {
	w, q   []float64
	scale  float32
	lo, hi float64 // codes less the zero point
}

// nearest rounds every weight to the nearest code.
func (c *channelCodes) nearest() {
	for i, w := range c.w {
		c.q[i] = math.Min(math.Max(code(float32(w), c.scale), c.lo), c.hi)
	}
}

// errors returns the errors of the weights.
func (c *channelCodes) errors() []float64 {
	e := make([]float64, len(c.w))
	for i, w := range c.w {
		e[i] = w - c.q[i]*float64(c.scale)
	}
	return e
}

// other returns the code on the other side of weight i; false where the weight is
// a code, or beyond all codes.
func (c *channelCodes) other(i int) (float64, bool) {
	x := c.w[i] / float64(c.scale)
	lo, hi := math.Floor(x), math.Ceil(x)
	if lo == hi || lo < c.lo || hi > c.hi {
		return 0, false
	}
	if c.q[i] == lo {
		return hi, true
	}
	return lo, true
}

// descend turns codes over as long as one of them lowers the error. With g = H·e,
// moving a weight by d changes the error by d²·H_ii − 2·d·g_i.
func (c *channelCodes) descend(by quadratic) {
	e := c.errors()
	g := by.times(e)
	least := 1e-9 * blas64.Dot(blas64.Vector{N: by.k, Inc: 1, Data: e}, blas64.Vector{N: by.k, Inc: 1, Data: g})
	for range mostSweeps {
		turned := false
		for i := range c.q {
			q, ok := c.other(i)
			if !ok {
				continue
			}
			d := (q - c.q[i]) * float64(c.scale)
			if d*d*by.h[i*by.k+i]-2*d*g[i] >= -least {
				continue
			}
			c.q[i], turned = q, true
			blas64.Axpy(-d, blas64.Vector{N: by.k, Inc: 1, Data: by.row(i)}, blas64.Vector{N: by.k, Inc: 1, Data: g})
		}
		if !turned {
			return
		}
	}
}

package quantize

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/calibrate"
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// widest is the most rows of weights whose products are measured: there are as
// many squared, twice, of 8 bytes.
const widest = 1 << 13

// mostGram is how many bytes of products are measured in one pass over the data,
// where the caller sets no limit.
const mostGram = 1 << 30

// needsData reports whether the method looks at what layers read.
func (s *weightOnly) needsData() bool { return s.o.WeightMethod != "rtn" && s.o.Calibration != nil }

// shared are the layers that read the same tensor.
type shared struct {
	input  string
	k      int
	layers []*layer
}

// layer is a node whose codes are looked for.
type layer struct {
	name string // of the first output
	f    blocks
	op   operand
}

// search finds the codes of the layers in the main graph: by what they read, or
// by the weights alone where there is no data.
func (s *weightOnly) search(ctx context.Context, m *onnx.Model) ([]string, error) {
	s.fits = map[string]*fitted{}
	if s.o.WeightMethod == "rtn" || s.o.Calibration == nil && s.o.WeightMethod != "hqq" {
		return nil, nil
	}
	groups := s.groups(m)
	if s.o.Calibration == nil {
		return []string{"codes were chosen without data: nothing says what they cost"}, s.fitAlone(ctx, groups)
	}
	for len(groups) > 0 {
		n := s.atOnce(groups)
		if err := s.measureAndFit(ctx, m, groups[:n]); err != nil {
			return nil, err
		}
		groups = groups[n:]
	}
	return s.summary(), nil
}

// groups lists the layers by what they read, in the order of the graph.
func (s *weightOnly) groups(m *onnx.Model) []*shared {
	var out []*shared
	byInput := map[*onnx.Value]*shared{}
	for n := range m.Graph.Nodes() {
		if !candidate(n) || n.Op == "Gather" {
			continue
		}
		w, _ := rightOperand(n)
		op, why := operandOf(n)
		if why != "" || s.o.excluded(n, w) != "" || op.batch != 1 || n.Int("transA", 0) != 0 {
			continue
		}
		x := n.Input(0)
		if op.k > widest && s.o.Calibration != nil {
			s.keep(outputName(n), fmt.Sprintf("%d rows of weights are more than the %d whose products are measured", op.k, widest))
			continue
		}
		g := byInput[x]
		if g == nil {
			g = &shared{input: x.Name(), k: op.k}
			byInput[x] = g
			out = append(out, g)
		}
		g.layers = append(g.layers, &layer{outputName(n), s.blocksOf(op), op})
	}
	return out
}

// keep leaves a layer with the nearest codes.
func (s *weightOnly) keep(name, why string) { s.fits[name] = &fitted{method: "rtn", why: why} }

// atOnce returns how many groups are measured in one pass.
func (s *weightOnly) atOnce(groups []*shared) int {
	limit := int64(mostGram)
	if s.o.MaxMemory > 0 {
		limit = s.o.MaxMemory
	}
	sum := int64(0)
	for i, g := range groups {
		if sum += 16 * int64(g.k) * int64(g.k); sum > limit && i > 0 {
			return i
		}
	}
	return len(groups)
}

// holdRuns is how many runs of calibration there must be for whole ones to be held out.
const holdRuns = 10

func (s *weightOnly) measureAndFit(ctx context.Context, m *onnx.Model, groups []*shared) error {
	o := *s.o
	o.Statistics = ""
	every := 0
	if s.o.Calibration.Len()/int64(max(s.o.Batch, 1)) >= holdRuns {
		every = 5
	}
	var wants []calibrate.Want
	for _, g := range groups {
		wants = append(wants, calibrate.Want{Tensor: g.input, Extremes: true, MaybeEmpty: true, Gram: true, HoldEvery: every})
	}
	r, err := measure(ctx, &o, m, wants, false)
	if err != nil {
		return err
	}
	s.samples = r.Samples
	s.passes += r.Groups
	s.o.progress("choosing codes")
	for _, g := range groups {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.fitGroup(ctx, g, r.Stats[g.input]); err != nil {
			return err
		}
		delete(r.Stats, g.input)
	}
	return nil
}

// fitGroup finds the codes of the layers of g, and keeps those that are better
// than the nearest on rows that nothing was fitted to.
func (s *weightOnly) fitGroup(ctx context.Context, g *shared, stats *calibrate.Stats) error {
	if why := unusable(g, stats); why != "" {
		for _, l := range g.layers {
			s.keep(l.name, why)
		}
		return nil
	}
	d := newEvidence(stats.Gram)
	gain, err := s.gainFor(d, g)
	if err != nil {
		return err
	}
	for _, l := range g.layers {
		if s.fits[l.name], err = s.fitLayer(ctx, d, l, gain); err != nil {
			return err
		}
	}
	return nil
}

// unusable says why what was measured decides nothing.
func unusable(g *shared, stats *calibrate.Stats) string {
	switch {
	case stats == nil || stats.Gram == nil:
		return fmt.Sprintf("its input %q had no elements", g.input)
	case stats.Invalid > 0:
		return fmt.Sprintf("its input %q had NaN or infinite elements", g.input)
	case stats.Gram.K != g.k:
		return fmt.Sprintf("its input %q was measured with %d columns, it has %d rows of weights", g.input, stats.Gram.K, g.k)
	case stats.Gram.Fit.Rows == 0 || stats.Gram.Held.Rows == 0:
		return "there are too few rows of data to hold some out"
	}
	return ""
}

// wants reports whether codes of a method are looked for.
func (s *weightOnly) wants(method string) bool {
	return s.o.WeightMethod == method || s.o.WeightMethod == "auto"
}

// fitLayer returns the best codes for l.
func (s *weightOnly) fitLayer(ctx context.Context, d *evidence, l *layer, gain []float32) (*fitted, error) {
	w, err := l.op.dense()
	if err != nil {
		return nil, err
	}
	for _, x := range w {
		if x-x != 0 {
			return &fitted{method: "rtn"}, nil // the pass says why it is left alone
		}
	}
	plain := &blockwise{f: l.f, op: l.op}
	if plain.steps, err = plain.fit(); err != nil {
		return nil, err
	}
	t := newTrialOf(d, l, w)
	if err := t.enter("rtn", plain); err != nil {
		return nil, err
	}
	if s.wants("gptq") {
		err = t.gptq()
	}
	if err == nil && s.wants("awq") {
		err = t.awq(gain)
	}
	if err == nil && (s.o.WeightMethod == "hqq" || s.o.WeightMethod == "auto" && s.o.Asymmetric) {
		err = t.hqq(s.realZeros(ctx, l))
	}
	if err != nil {
		return nil, err
	}
	return t.verdict(), ctx.Err()
}

// realZeros reports whether zero points of l may be numbers.
func (s *weightOnly) realZeros(ctx context.Context, l *layer) bool {
	return s.form == formNBits && s.kernels.open != nil &&
		s.kernels.has(ctx, kernel{form: formNBits, bits: l.f.bits, size: l.f.size, dtype: l.f.dtype, zero: realZero, accuracy: s.o.Accuracy}) == nil
}

// fitAlone finds codes by the weights alone.
func (s *weightOnly) fitAlone(ctx context.Context, groups []*shared) error {
	for _, g := range groups {
		for _, l := range g.layers {
			b, err := hqq(l, s.realZeros(ctx, l))
			if err != nil {
				return err
			}
			s.fits[l.name] = fittedOf("hqq", b)
			if err := ctx.Err(); err != nil {
				return err
			}
		}
	}
	return nil
}

// summary says how many layers each method got.
func (s *weightOnly) summary() []string {
	count := map[string]int{}
	for _, f := range s.fits {
		count[f.method]++
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(count)) {
		parts = append(parts, fmt.Sprintf("%s for %d", name, count[name]))
	}
	if len(parts) == 0 {
		return []string{"no layer was found whose codes data could decide"}
	}
	return []string{fmt.Sprintf("codes by %s of %d layers, by the error of their outputs on held-out rows", strings.Join(parts, ", "), len(s.fits))}
}

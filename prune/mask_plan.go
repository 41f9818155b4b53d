package prune

import (
	"context"
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/calibrate"
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// maskPlan decides, once for all attempts at a model, which weights go and what
// becomes of the others.
type maskPlan struct {
	o       *Options
	fits    []*maskFit // by candidate, in their order; nil: not decided
	spill   maskSpill
	samples int64
	passes  int

	zeros  cut // of all tensors that are ranked together, where weights go one by one
	blocks cut // likewise, where blocks go
}

// widestGram is the most weights that an output sums over for which the products
// of the inputs are measured: there are as many squared, twice, of 8 bytes.
const widestGram = 1 << 13

// mostGrams is how many bytes of products are measured in one pass over the data,
// where the caller sets no limit.
const mostGrams = 1 << 30

// decide fills in p.fits for the layers, of which those that are nil are left alone.
func (p *maskPlan) decide(ctx context.Context, m *onnx.Model, layers []*maskLayer) error {
	p.fits = make([]*maskFit, len(layers))
	if err := p.rankTogether(ctx, layers); err != nil {
		return err
	}
	var todo, free []int
	for i, l := range layers {
		if l == nil {
			continue
		}
		p.prepare(l, m)
		if p.o.measured() && l.blind == "" {
			todo = append(todo, i)
			continue
		}
		free = append(free, i)
	}
	if err := p.fitAll(ctx, layers, free); err != nil {
		return err
	}
	for len(todo) > 0 {
		n := p.atOnce(layers, todo)
		if err := p.measureAndFit(ctx, m, layers, todo[:n]); err != nil {
			return err
		}
		todo = todo[n:]
	}
	return nil
}

// fitAll decides about layers for which nothing was measured.
func (p *maskPlan) fitAll(ctx context.Context, layers []*maskLayer, list []int) error {
	fit := func(k int) error { return p.fit(list[k], layers[list[k]], nil) }
	if !p.o.masks.whole {
		return onAll(ctx, len(list), fit)
	}
	for k := range list { // one after another they take ties from one threshold
		if err := fit(k); err != nil {
			return err
		}
	}
	return nil
}

// prepare says how much of its inputs a layer is measured on, and leaves out of
// measuring what is too wide for it.
func (p *maskPlan) prepare(l *maskLayer, m *onnx.Model) {
	if !p.o.measured() {
		return
	}
	for _, in := range l.inputs {
		if in.patches != nil {
			in.patches.Most = p.positions(l.view.cols)
		}
	}
	switch {
	case l.blind != "":
	case l.view.cols > widestGram && !p.diagonal():
		l.blind = fmt.Sprintf("it sums over %d weights, more than the %d whose products are measured", l.view.cols, widestGram)
	case m.OpsetVersion("") < 6:
		l.blind = fmt.Sprintf("opset %d is too old for outputs to be added for measuring; raise it with fuse --opset", m.OpsetVersion(""))
	}
}

// diagonal reports whether the norms of inputs are all that is looked at.
func (p *maskPlan) diagonal() bool { return p.o.Importance == Wanda && len(p.o.masks.repairs) == 0 }

// rankTogether finds the threshold of all tensors where there is one.
func (p *maskPlan) rankTogether(ctx context.Context, layers []*maskLayer) error {
	if !p.o.masks.whole {
		return nil
	}
	var all []candidate
	var lists [][]maskScore
	elements := int64(0)
	for _, l := range layers {
		if l == nil {
			continue
		}
		n, _ := l.value.Constant().Elements()
		elements += n
		all = append(all, l.candidate)
		if p.o.masks.pattern.blocked() {
			w, err := denseRows(l)
			if err != nil {
				return err
			}
			lists = append(lists, p.o.masks.pattern.blockScores(l.view, magnitudes(w)))
		}
	}
	if p.o.masks.pattern.blocked() {
		p.blocks = blockCut(lists, int64(p.o.Sparsity*float64(elements)))
		return ctx.Err()
	}
	var err error
	p.zeros, err = findCut(ctx, all, int64(p.o.Sparsity*float64(elements)))
	return err
}

// gramBytes is what measuring for a layer takes.
func (p *maskPlan) gramBytes(l *maskLayer) int64 {
	n := int64(len(l.inputs)) * int64(l.view.parts) * int64(l.view.cols)
	if !p.diagonal() {
		n *= int64(l.view.cols)
	}
	return 16 * n
}

// atOnce returns how many of the layers to do are measured in one pass.
func (p *maskPlan) atOnce(layers []*maskLayer, todo []int) int {
	limit := int64(mostGrams)
	if p.o.MaxMemory > 0 {
		limit = p.o.MaxMemory
	}
	sum, known := int64(0), map[string]bool{}
	for i, k := range todo {
		fresh := false
		for _, in := range layers[k].inputs {
			fresh = fresh || !known[in.key()]
			known[in.key()] = true
		}
		if !fresh {
			continue
		}
		if sum += p.gramBytes(layers[k]); sum > limit && i > 0 {
			return i
		}
	}
	return len(todo)
}

// measureAndFit runs the model on the data once, and decides about some layers.
func (p *maskPlan) measureAndFit(ctx context.Context, m *onnx.Model, layers []*maskLayer, todo []int) error {
	seen, err := p.measure(ctx, m, layers, todo)
	if err != nil {
		return err
	}
	p.o.progress("choosing weights")
	for _, k := range todo {
		if err := ctx.Err(); err != nil {
			return err
		}
		l := layers[k]
		e, blind := seen.of(l)
		if l.blind = blind; blind != "" {
			e = nil
		}
		if err := p.fit(k, l, e); err != nil {
			return err
		}
	}
	return nil
}

// measure looks at what the layers to do read, in one pass over the data.
func (p *maskPlan) measure(ctx context.Context, m *onnx.Model, layers []*maskLayer, todo []int) (*maskEvidences, error) {
	p.o.progress("measuring what layers read")
	var wants []calibrate.Want
	known := map[string]bool{}
	for _, k := range todo {
		for _, in := range layers[k].inputs {
			if known[in.key()] {
				continue
			}
			known[in.key()] = true
			wants = append(wants, calibrate.Want{Tensor: in.tensor, Key: in.key(), Patches: in.patches, Extremes: true, MaybeEmpty: true,
				Gram: true, Diagonal: p.diagonal(), HoldEvery: p.holdEvery()})
		}
	}
	r, err := calibrate.Measure(ctx, m, wants, func() calibrate.Pass { return calibrate.Over(ctx, p.o.Calibration, p.o.Batch) }, calibrate.Options{
		Open: p.o.Open, Session: p.o.Session, Workers: p.o.Workers, MaxBytes: p.o.MaxMemory,
		Progress: func(samples int64) {
			if p.o.Measured != nil {
				p.o.Measured(samples, p.o.Calibration.Len())
			}
		}})
	if err != nil {
		return nil, err
	}
	p.samples, p.passes = r.Samples, p.passes+r.Groups
	return newMaskEvidences(r.Stats, layers, todo), nil
}

// positions is how many output positions of a run are looked at for rows of k
// weights: so many that there are about sixteen times as many rows as weights.
func (p *maskPlan) positions(k int) int {
	const rows, least, most = 16, 16, 1024
	runs := max(int(p.o.Calibration.Len())/max(p.o.Batch, 1), 1)
	return min(max(rows*k/runs, least), most)
}

// holdEvery says which of so many runs are held out: one of five, or the last one
// of few. Of a single run the last rows are.
func holdEvery(runs int) int {
	const one, few = 5, 10
	switch {
	case runs >= few:
		return one
	case runs >= 2:
		return runs
	}
	return 0
}

// holdEvery is the same for the runs of the calibration.
func (p *maskPlan) holdEvery() int { return holdEvery(int(p.o.Calibration.Len()) / max(p.o.Batch, 1)) }

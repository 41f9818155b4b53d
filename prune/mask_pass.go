package prune

import (
	"context"
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// pruner is a pass that sets weights to zero.
type pruner interface {
	rewrite.Pass
	pruned() []Weight // what became of them
}

// maskPass zeroes weights by a plan that is made once.
type maskPass struct {
	o       *Options
	plan    *maskPlan
	weights []Weight
	done    bool
}

// Name is that of the importance.
func (p *maskPass) Name() string { return p.o.Importance }

// Names are the rules that can be left out.
func (p *maskPass) Names() []string { return []string{p.o.Importance, biasRule} }

func (p *maskPass) pruned() []Weight { return p.weights }

// Run prunes every candidate, once.
func (p *maskPass) Run(ctx context.Context, m *onnx.Model, e *rewrite.Env) error {
	if p.done {
		return nil
	}
	p.done = true
	list := candidates(m, p.o, p.Name(), e)
	if len(list) == 0 {
		e.Log.Notice("the model has no weights to prune")
		return nil
	}
	layers := make([]*maskLayer, len(list))
	for i, c := range list {
		l, why := layerOf(m, c)
		if why != "" {
			e.Decline(p.Name(), c.node, "%s", why)
		}
		layers[i] = l
	}
	if p.plan.fits == nil {
		if err := p.plan.decide(ctx, m, layers); err != nil {
			p.plan.fits = nil
			return err
		}
	}
	for i, l := range layers {
		if l == nil {
			continue
		}
		if err := p.prune(l, p.plan.fits[i], e); err != nil {
			return err
		}
	}
	return nil
}

// prune puts a decision into the model.
func (p *maskPass) prune(l *maskLayer, f *maskFit, e *rewrite.Env) error {
	t := l.value.Constant()
	n, err := count(t, cut{})
	if err != nil {
		return err
	}
	w := Weight{Name: l.value.Name(), Node: l.node.Name, Op: l.node.Op, Shape: t.Shape, Elements: n.all, Before: n.zero, After: n.zero,
		Importance: f.importance, Unmeasured: f.blind, Error: f.error, Repairs: f.repairs}
	defer func() { p.weights = append(p.weights, w) }()
	if f.mask.count() == 0 || !e.Allow(p.Name(), l.node, w.Name) || !e.Enabled(p.Name()) {
		w.Error, w.Repairs = nil, nil
		return nil
	}
	site := e.At(p.Name(), l.node, w.Name)
	content := f.data
	if content == nil {
		content = zeroedOf(t, f.mask)
	}
	after, err := count(p.o.replace(l.value, content), cut{})
	if err != nil {
		return err
	}
	w.After = after.zero
	note := fmt.Sprintf("%.1f %% of %q are zero", 100*float64(w.After)/float64(w.Elements), w.Name)
	if err := e.Fired(p.Name(), site, 0, 0, note); err != nil {
		return err
	}
	return p.shift(l, f, &w, e)
}

// shift adds the mean of what was removed to the output.
func (p *maskPass) shift(l *maskLayer, f *maskFit, w *Weight, e *rewrite.Env) error {
	if f.shift == nil {
		return nil
	}
	place, why := biasPlaceOf(l.value)
	if why != "" || !e.Enabled(biasRule) || !e.Allow(biasRule, place.reader) {
		w.Repairs = withoutBias(w.Repairs)
		w.Error = &w.Repairs[len(w.Repairs)-1].Before
		return nil
	}
	return place.apply(l.value, f.shift, e)
}

// withoutBias returns what became of the repairs where that of the bias is left out.
func withoutBias(list []Repaired) []Repaired {
	out := append([]Repaired(nil), list...)
	last := &out[len(out)-1]
	last.Kept, last.Note = false, "left out of the result"
	return out
}

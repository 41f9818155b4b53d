package prune

import (
	"context"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// Transform returns what [File] does to a model, and how the result is to be
// checked, for a caller that looks into the rewriting itself, and calls done in the
// end.
func Transform(o Options) (t produce.Transform, v *produce.Verify, done func(), err error) {
	if err := o.validate(); err != nil {
		return nil, nil, nil, err
	}
	w := newWork(&o)
	return w.transform, o.verify(), w.close, nil
}

// verify returns how the result is checked: pruning is meant to change the outputs.
func (o *Options) verify() *produce.Verify {
	if o.Verify == nil {
		return nil
	}
	v := *o.Verify
	v.Tolerance = finite
	return &v
}

// work is one model on its way, of which there may be several attempts.
type work struct {
	o    *Options
	plan *maskPlan
	main pruner      // of the last attempt
	last *sparsePass // likewise; nil where it was not asked for
}

func newWork(o *Options) *work { return &work{o: o, plan: &maskPlan{o: o}} }

func (w *work) close() { w.plan.spill.close() }

// transform prunes a copy of the model.
func (w *work) transform(ctx context.Context, m *onnx.Model, ro rewrite.Options) (*rewrite.Log, error) {
	w.main = &maskPass{o: w.o, plan: w.plan}
	if w.o.plain() {
		w.main = &magnitude{o: *w.o}
	}
	passes := []rewrite.Pass{w.main}
	if w.o.SparseStorage {
		known := map[onnx.DType]string(nil)
		if w.last != nil {
			known = w.last.takes
		}
		w.last = &sparsePass{o: w.o, takes: known}
		passes = append(passes, w.last)
	}
	log, err := rewrite.Run(ctx, m, passes, nil, ro)
	if err == nil && w.o.measured() && w.o.Synthetic {
		log.Notice("weights were chosen on generated data, of which real data differs")
	}
	if err == nil && ro.Whole() && len(w.main.pruned()) == 0 {
		err = &Nothing{Pattern: w.o.masks.pattern.String()}
	}
	return log, err
}

// describe fills in what was done.
func (w *work) describe(r *Result) {
	r.Weights = w.main.pruned()
	var all, before, after int64
	for _, x := range r.Weights {
		all, before, after = all+x.Elements, before+x.Before, after+x.After
	}
	if all > 0 {
		r.Before, r.After = float64(before)/float64(all), float64(after)/float64(all)
	}
	if r.Calibration != nil {
		r.Calibration.Samples, r.Calibration.Passes = w.plan.samples, w.plan.passes
	}
	if w.last != nil {
		r.Sparse = &w.last.r
	}
}

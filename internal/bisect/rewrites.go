package bisect

import (
	"context"
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// Finding is what [Rewrites] found.
type Finding struct {
	Rewrites int             `json:"rewrites"` // of the whole transform
	Trials   int             `json:"trials"`   // rewritten models that were run
	Samples  int             `json:"samples"`
	Inputs   string          `json:"inputs"` // data or synthetic
	First    *FirstWrong     `json:"first_wrong,omitempty"`
	rewrite  rewrite.Options // what led to it
}

// FirstWrong is the first rewrite after which the model is bad.
type FirstWrong struct {
	Number int            `json:"number"` // among the rewrites, from 1; 0: bad without any rewrite
	Firing rewrite.Firing `json:"firing"`
	Before []string       `json:"before"` // nodes in text form that it took away or changed
	After  []string       `json:"after"`  // what stands for them
	Fault  Fault          `json:"fault"`
	Broken *Broken        `json:"broken,omitempty"` // the first value that differs, where the fault is a wrong result
	// Others is the fault that is left without this rewrite, "" where there is none.
	Others string `json:"others,omitempty"`
}

// none is the limit of a transform that is to make no rewrite at all.
const none = -1

// search is one call of [Rewrites].
type search struct {
	*lab
	src string
	f   produce.Transform
	ro  rewrite.Options
	m   *onnx.Model // the original, repaired
	ref *produce.Reference
	out *Finding
}

// Rewrites runs f on the model at src and finds the first of its rewrites after
// which the model does not load, does not run, or computes something else than
// the original. It fails where the original itself does not run.
func Rewrites(ctx context.Context, src string, f produce.Transform, ro rewrite.Options, o Options) (*Finding, error) {
	m, err := Open(src)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	l, err := newLab(o)
	if err != nil {
		return nil, err
	}
	defer l.close()
	o.progress("running the original")
	ref, err := o.Verify.Prepare(ctx, src)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", src, err)
	}
	s := &search{lab: l, src: src, f: f, ro: ro, m: m, ref: ref,
		out: &Finding{Samples: len(ref.Samples()), Inputs: ref.Source(), rewrite: ro}}
	return s.out, s.find(ctx)
}

// Open opens, repairs and checks the model at path.
func Open(path string) (*onnx.Model, error) {
	m, err := onnxfile.Open(path, onnxfile.Options{})
	if err != nil {
		return nil, err
	}
	if _, err = m.Repair(); err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	} else if err = m.Check(); err != nil {
		err = fmt.Errorf("%s is not a valid model: %w", path, err)
	}
	if err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// trial is the model after some rewrites.
type trial struct {
	model *onnx.Model
	log   *rewrite.Log
	fault *Fault
}

// try rewrites a copy of the original, up to limit rewrites, and runs it; 0 is no limit.
func (s *search) try(ctx context.Context, limit int, skip map[string]bool) (*trial, error) {
	t := &trial{model: s.m.Clone()}
	o := s.ro
	o.Limit = limit
	if skip != nil {
		o.Skip = skip
	}
	var err error
	if t.log, err = s.f(ctx, t.model, o); err != nil {
		return nil, fmt.Errorf("%s: %w", s.src, err)
	}
	s.out.Trials++
	s.o.progress("running the model after %d rewrites", len(t.log.Fired))
	path, err := s.write(t.model)
	if err != nil {
		return nil, err
	}
	defer s.drop(path)
	if _, err := s.o.Verify.Check(ctx, path, s.ref); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if t.fault = faultOf(err); t.fault == nil {
			return nil, err
		}
		if !wants(s.o.Kinds, t.fault) {
			t.fault = nil
		}
	}
	return t, nil
}

func (s *search) find(ctx context.Context) error {
	whole, err := s.try(ctx, s.ro.Limit, nil)
	if err != nil {
		return err
	}
	s.out.Rewrites = len(whole.log.Fired)
	if whole.fault == nil {
		return nil
	}
	good, err := s.try(ctx, none, nil)
	if err != nil {
		return err
	}
	if good.fault != nil {
		s.out.First = &FirstWrong{Fault: *good.fault, Before: []string{}, After: []string{}}
		return nil
	}
	bad := whole
	lo, hi := 0, s.out.Rewrites
	for hi-lo > 1 {
		mid := (lo + hi) / 2
		t, err := s.try(ctx, mid, nil)
		if err != nil {
			return err
		}
		if t.fault != nil {
			bad, hi = t, mid
		} else {
			good, lo = t, mid
		}
	}
	return s.describe(ctx, whole, good, bad, hi)
}

// describe says what the rewrite with the given number did, and what broke.
func (s *search) describe(ctx context.Context, whole, good, bad *trial, number int) error {
	w := &FirstWrong{Number: number, Firing: whole.log.Fired[number-1], Fault: *bad.fault}
	w.Before, w.After = changed(good.model, bad.model)
	s.out.First = w
	if w.Fault.Kind == Wrong {
		s.o.progress("looking for the first wrong value")
		c := &comparison{lab: s.lab, good: good.model, bad: bad.model, samples: s.ref.Samples()}
		if err := c.run(ctx); err != nil {
			return err
		}
		w.Broken = c.first
	}
	skip := map[string]bool{w.Firing.Key: true}
	for k := range s.ro.Skip {
		skip[k] = true
	}
	rest, err := s.try(ctx, s.ro.Limit, skip)
	if err != nil {
		return err
	}
	if rest.fault != nil {
		w.Others = rest.fault.Reason
	}
	return nil
}

package validate

import (
	"context"
	"fmt"
	"io"
	"iter"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// batchesAhead is how many batches are read while one is run.
const batchesAhead = 2

// accuracy runs both models over all samples, batch by batch, and scores their outputs. The baseline runs one batch ahead of the
// candidate, the next batches are read and those before are scored meanwhile; all in their order, so that nothing else depends on it.
// What it keeps does not grow with the number of samples.
func (v *validation) accuracy(ctx context.Context) error {
	p, err := v.newPass(ctx)
	if err != nil {
		return err
	}
	defer p.s.Close()
	defer p.close()
	scoring := follow(func(a answers) error { return p.take(ctx, a) })
	done := int64(0)
	batches := ahead(v.set.Batches(ctx, max(v.o.Batch, 1)), batchesAhead)
	for a, err := range ahead(p.baseline(ctx, batches), 1) {
		if err == nil {
			err = p.candidate(ctx, a, scoring)
		}
		if err != nil {
			return scoring.end(err)
		}
		done += int64(len(a.b.Samples))
		v.o.progress("accuracy", done, v.set.Len())
	}
	if err := scoring.end(nil); err != nil {
		return err
	}
	if err := v.fill(p.census); err != nil {
		return err
	}
	return p.report()
}

// pass is one run of both models over the data.
type pass struct {
	v         *validation
	s         *both
	census    *census
	carriers  [2]*dataset.Carrier
	distances []*distance
	scorer    scorer
	ragged    map[string]bool // outputs that may differ in shape
	n         int
}

// close ends a scorer that holds something open.
func (p *pass) close() {
	if c, ok := p.scorer.(io.Closer); ok {
		c.Close()
	}
}

func (v *validation) newPass(ctx context.Context) (*pass, error) {
	s, err := v.loaded(ctx)
	if err != nil {
		return nil, err
	}
	p := &pass{v: v, s: s, census: v.newCensus(), carriers: [2]*dataset.Carrier{v.set.Carrier(), v.set.Carrier()}}
	for _, port := range s.baseline.Outputs() {
		p.distances = append(p.distances, &distance{name: port.Name})
	}
	return p, nil
}

// answers are both models' outputs for a batch.
type answers struct {
	b         *dataset.Batch
	want, got map[string]*onnx.Tensor
}

// baseline runs the baseline on each batch.
func (p *pass) baseline(ctx context.Context, batches iter.Seq2[*dataset.Batch, error]) iter.Seq2[answers, error] {
	return func(yield func(answers, error) bool) {
		for b, err := range batches {
			a := answers{b: b}
			if err == nil {
				a.want, err = p.run(ctx, p.s.baseline, 0, b)
				if err != nil {
					err = fmt.Errorf("running the baseline on %s: %w", p.v.name(b.Samples[0]), err)
				}
			}
			if !yield(a, err) || err != nil {
				return
			}
		}
	}
}

// candidate runs the candidate on what the baseline ran, and hands on what both gave.
func (p *pass) candidate(ctx context.Context, a answers, scoring *follower[answers]) error {
	var err error
	if a.got, err = p.run(ctx, p.s.candidate, 1, a.b); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return candidateFault("running it on %s: %w", p.v.name(a.b.Samples[0]), err)
	}
	return scoring.next(a)
}

// take compares and scores what both models gave.
func (p *pass) take(ctx context.Context, a answers) error {
	if p.scorer == nil {
		if err := p.choose(ctx, a.b, a.want); err != nil {
			return err
		}
	}
	if err := p.compare(ctx, a.b, a.want, a.got); err != nil {
		return err
	}
	for _, s := range a.b.Samples {
		p.census.add(s)
	}
	p.n += len(a.b.Samples)
	return nil
}

// run runs one model, carrying its own state, and returns its outputs.
func (p *pass) run(ctx context.Context, s session.Session, model int, b *dataset.Batch) (map[string]*onnx.Tensor, error) {
	in := b.Inputs
	if len(p.v.carried) > 0 {
		var err error
		if in, err = p.carriers[model].Feed(b.Samples[0]); err != nil {
			return nil, err
		}
	}
	r, err := s.Run(ctx, in)
	if err != nil {
		return nil, err
	}
	if len(p.v.carried) == 0 {
		return r.Outputs, nil
	}
	return r.Outputs, p.keep(p.carriers[model], r.Outputs)
}

// keep hands the outputs to the carrier in the types that the data's ports have.
func (p *pass) keep(c *dataset.Carrier, outputs map[string]*onnx.Tensor) error {
	state := map[string]*onnx.Tensor{}
	for out, in := range p.v.o.Dataset.State {
		t := outputs[out]
		for _, port := range p.v.in {
			if port.Name != in || t == nil || !port.Type.IsTensor() || port.Type.Elem == t.DType {
				continue
			}
			var err error
			if t, err = convert(t, port.Type.Elem); err != nil {
				return fmt.Errorf("state %s=%s: %w", out, in, err)
			}
		}
		if t != nil {
			state[out] = t
		}
	}
	return c.Keep(state)
}

// compare takes the distances of all outputs and scores what the task reads.
func (p *pass) compare(ctx context.Context, b *dataset.Batch, want, got map[string]*onnx.Tensor) error {
	n := len(b.Samples) + b.Padding
	x := &scored{samples: b.Samples, n: n, values: map[string]rows{}, tensors: [2]map[string]*onnx.Tensor{want, got}}
	for _, d := range p.distances {
		w, g := want[d.name], got[d.name]
		if w == nil {
			continue // an absent optional
		}
		if g == nil {
			return candidateFault("it gave no output %q", d.name)
		}
		d.ragged = p.ragged[d.name]
		v, c, err := d.add(w, g, n, len(b.Samples))
		if err != nil {
			return err
		}
		if v != nil {
			x.values[d.name] = rows{baseline: v, candidate: c, shape: w.Shape, theirs: g.Shape}
		}
	}
	if p.scorer == nil {
		return nil
	}
	return p.scorer.add(ctx, x)
}

// free says that the task reads outputs that may differ in shape.
func (p *pass) free() bool { return len(p.ragged) > 0 }

// tells reports that there is nothing to hold the candidate against, where all that the baseline computes is NaN.
func (p *pass) tells() error {
	var silent []string
	for _, d := range p.distances {
		switch {
		case d.silent():
			silent = append(silent, d.name)
		case d.float:
			return nil
		}
	}
	if len(silent) == 0 {
		return nil
	}
	return fmt.Errorf("running the baseline %s: every output is NaN on every sample (%s), with which nothing can be compared; give other data with --data, or see whether the runtime is sound",
		p.v.o.Baseline, strings.Join(silent, ", "))
}

// report fills the accuracy section.
func (p *pass) report() error {
	if err := p.tells(); err != nil {
		return err
	}
	a := &report.Accuracy{Task: report.TaskTensor, N: p.n, Identical: true}
	var signal, noise float64
	broken := false
	for _, d := range p.distances {
		a.Outputs = append(a.Outputs, d.report())
		a.Identical = a.Identical && !d.different
		if d.float {
			signal, noise = signal+d.want, noise+d.noise
		}
		if d.partial {
			broken = true
			p.v.warn("output %q has other numbers of rows in the two models: no distance is taken", d.name)
		} else if d.broken {
			broken = true
			p.v.warn("output %q of the candidate is NaN or infinite where that of the baseline is a number", d.name)
		}
	}
	a.SQNR = sqnr(signal, noise, broken)
	if p.scorer != nil {
		doubts, err := p.scorer.fill(a)
		if err != nil {
			return fmt.Errorf("scoring: %w", err)
		}
		for _, w := range doubts {
			p.v.warn("accuracy: %s", w)
		}
	}
	if broken && !p.free() {
		a.KL, a.KLP95 = nil, nil // taken over the other samples only
	}
	if !p.v.o.IncludeSamples && a.Flips != nil {
		a.Flips.Samples = nil
	}
	p.v.r.Accuracy = a
	return nil
}

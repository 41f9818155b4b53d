package validate

import (
	"context"
	"fmt"
	"time"

	"github.com/lapidary-ml/lapidary/internal/explain"
	"github.com/lapidary-ml/lapidary/internal/measure"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/report"
)

const (
	defaultExplained = 32
	explainBudget    = 30 * time.Second
	runsPerSample    = 100 // of both models: maps, deletion curves and the share of the noise floor, at 49 to 64 features
	fewestExplained  = 4
)

// explanation compares what the models look at, on the first samples of the data.
func (v *validation) explanation(ctx context.Context) error {
	if v.set.Synthetic() {
		v.skip("explanation", "generated inputs hold nothing to look at")
		return nil
	}
	if len(v.carried) > 0 {
		v.skip("explanation", "the models carry state from sample to sample")
		return nil
	}
	s, err := v.open(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	samples, err := v.explained(ctx, s)
	if err != nil || samples == nil {
		return err
	}
	input, why := v.explainable(samples[0])
	if why != "" {
		v.skip("explanation", "%s", why)
		return nil
	}
	o := explain.Options{
		Input: input, Output: v.output, Grid: v.o.Explain.Grid, Token: v.o.Explain.Token, Keep: v.o.Explain.Keep,
		Seed: v.o.Seed, KeepMaps: v.o.IncludeSamples,
		Progress: func(done, total int) { v.o.progress("explanation", int64(done), int64(total)) },
	}
	r, err := explain.Compare(ctx, s.baseline, s.candidate, samples, o)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		v.skip("explanation", "%v", err)
		v.warn("explanation: %v", err)
		return nil
	}
	v.r.Explanation = explanationOf(r, v.o.IncludeSamples)
	for _, w := range r.Warnings {
		v.warn("explanation: %s", w)
	}
	return nil
}

// explained takes as many samples as the budget allows by the time of one run; nil, with the reason in Skipped, if too few.
func (v *validation) explained(ctx context.Context, s *both) ([]explain.Sample, error) {
	n, budget := v.o.Explain.Samples, v.o.Explain.Budget
	if n == 0 {
		n = defaultExplained
	}
	if budget == 0 {
		budget = explainBudget
	}
	var out []explain.Sample
	for sample, err := range v.set.Samples(ctx) {
		if err != nil {
			return nil, err
		}
		if len(out) == 0 {
			cost, err := v.cost(ctx, s, sample.Inputs)
			if err != nil {
				return nil, err
			}
			if fit := int(budget / max(cost*runsPerSample, 1)); fit < n {
				if fit < min(fewestExplained, n) {
					v.skip("explanation", "one sample takes about %v, so that %v allow fewer than %d", (cost * runsPerSample).Round(time.Second), budget, min(fewestExplained, n))
					return nil, nil
				}
				v.warn("explanation: %v allow %d samples instead of %d", budget, fit, n)
				n = fit
			}
		}
		if out = append(out, explain.Sample{ID: sample.ID, Inputs: sample.Inputs}); len(out) == n {
			break
		}
	}
	return out, nil
}

// cost is the wall time of one run of each model, after a first one that is not counted.
func (v *validation) cost(ctx context.Context, s *both, in map[string]*onnx.Tensor) (time.Duration, error) {
	var began time.Time
	for range 2 {
		began = time.Now()
		if _, err := s.baseline.Run(ctx, in); err != nil {
			return 0, fmt.Errorf("running the baseline: %w", err)
		}
		if _, err := s.candidate.Run(ctx, in); err != nil {
			return 0, candidateFault("running it: %w", err)
		}
	}
	return time.Since(began), nil
}

// explainable returns the input to perturb, or why there is none.
func (v *validation) explainable(s explain.Sample) (input, why string) {
	tokens := ""
	for _, p := range v.in {
		t := s.Inputs[p.Name]
		if t == nil || len(t.Shape) < 2 {
			continue
		}
		n, _ := t.Elements()
		if n < 2 {
			continue
		}
		if t.DType.IsFloat() {
			return p.Name, ""
		}
		if tokens == "" && (t.DType.IsInt() && t.DType.Bits() >= 8) {
			tokens = p.Name
		}
	}
	if tokens == "" {
		return "", "no input is an array of numbers with at least two axes, of which parts could be hidden"
	}
	return tokens, ""
}

func explanationOf(r *explain.Result, samples bool) *report.Explanation {
	e := &report.Explanation{
		Method: r.Method, Samples: r.Samples, Features: r.Features, Perturbations: r.Perturbations, TopK: r.TopK,
		NoiseFloor: r.NoiseFloor, SelfCheck: r.SelfCheck, CrossFaithfulness: r.CrossFaithfulness, DeadMaps: r.DeadMaps,
	}
	if r.Samples > 0 {
		e.Spearman, e.CI95 = report.Num(r.Spearman.Median), interval(r.Spearman.Interval)
		e.SpearmanP10 = report.Num(r.Spearman.P10)
		e.TopKJaccard, e.TopKCI95 = report.Num(r.TopKJaccard.Median), interval(r.TopKJaccard.Interval)
		e.Cosine, e.CosineCI95 = report.Num(r.Cosine.Median), interval(r.Cosine.Interval)
		e.DeadPerturbations = report.Num(r.DeadPerturbations[1])
	}
	if len(r.MeanBaseline) > 0 && len(r.MeanCandidate) > 0 {
		e.MeanMap = &report.Map{Rows: r.Rows, Cols: r.Cols, Baseline: r.MeanBaseline, Candidate: r.MeanCandidate}
	}
	if !samples {
		return e
	}
	for _, f := range r.Flips {
		x := report.ExplanationFlip{ID: f.ID}
		if f.Defined {
			x.Spearman = report.Num(f.Spearman)
		}
		e.Flips = append(e.Flips, x)
	}
	for _, p := range r.Pairs {
		e.Maps = append(e.Maps, report.Map{ID: p.ID, Rows: p.Rows, Cols: p.Cols, Baseline: p.Baseline, Candidate: p.Candidate})
	}
	return e
}

func interval(i *measure.Interval) *report.Interval {
	if i == nil {
		return nil
	}
	return report.CI(i.Low, i.High)
}
